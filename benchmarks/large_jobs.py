"""The memory and the time of `an8flower generate` for large pictures and for many rows on photographs.

Each job is a process of its own, so that its peak memory is its own; start-up is included. Two jobs that differ in rows
alone show whether memory grows with them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from generation import measure
from report import write

JOBS = (
    ("single-6c", 112, 2_000),
    ("single-6c", 512, 500),
    ("single-6c", 512, 2_000),
    ("natural-12c", 512, 500),
    ("natural-12c", 512, 2_000),
    ("photo-6c", 112, 2_000),
    ("photo-6c", 112, 10_000),
    ("photo-6c", 42, 10_000),
    ("photo-6c", 42, 50_000),
)


def main() -> None:
    """Do each job once, after a small one of each preset that fills numba's cache, and write the table."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in dict.fromkeys(name for name, _, _ in JOBS):
            measure(60, Path(folder), preset, 42)
        for preset, size, rows in JOBS:
            seconds, memory, disk = measure(rows, Path(folder), preset, size)
            rate = {"seconds": seconds, "rows/s": rows / seconds, "peak MB": memory, "file MB": disk}
            table.append({"preset": preset, "size": size, "rows": rows, **rate})
    what = "an8flower generate, whole process, default workers; one run of each job"
    write("large_jobs", table, {"what": what})


if __name__ == "__main__":
    main()
