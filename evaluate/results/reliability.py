"""What has to be known of the statistics themselves before a number is read."""

from __future__ import annotations

FEW_ROWS = 30  # with fewer, intervals of shares are far too narrow
MANY_ROWS = 120  # from so many on, intervals and tests keep their word; `benchmarks/inference.py` measures it


def reliability_warnings(rows: int) -> list[str]:
    """A warning if there are so few rows that intervals of skewed or tied scores are too narrow.

    >>> reliability_warnings(300)
    []
    """
    if rows >= MANY_ROWS:
        return []
    rare = ", and of rare hits (as of the pointing game) 71 %" if rows < FEW_ROWS else ""
    few = "row is" if rows == 1 else "rows are"
    return [
        f"{rows} {few} few: 95 % intervals of very skewed scores cover 88 to 93 %{rare}; from {MANY_ROWS} rows on they "
        "keep their word"
    ]
