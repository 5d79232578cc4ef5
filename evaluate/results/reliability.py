"""What has to be known of the statistics themselves before a number is read."""

from __future__ import annotations

MANY_ROWS = 60  # from so many on, intervals and tests keep their word; `benchmarks/inference.py` measures it


def reliability_warnings(rows: int) -> list[str]:
    """A warning if there are so few rows that intervals of skewed or tied scores are too narrow.

    >>> reliability_warnings(300)
    []
    """
    if rows >= MANY_ROWS:
        return []
    return [
        f"{rows} rows are few: 95 % intervals of skewed scores cover less than that (of 12 rows, 72 to 93 %); "
        f"{MANY_ROWS} rows or more are needed"
    ]
