"""The memory and the work of `an8flower generate` for large pictures and for many rows on photographs.

Each job is a process of its own, so that its peak memory is its own; start-up is included. Two jobs that differ in rows
alone show whether memory grows with them. Seconds are those of all cores together, which do not depend on what else a
shared machine does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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


def measure(preset: str, size: int, rows: int, folder: Path) -> dict[str, Any]:
    """One row of the table: what a job took."""
    path = folder / "job.h5"
    words = [preset, "--rows", str(rows), "--size", str(size), "--workers", "2", "--force", "-o", str(path)]
    process = subprocess.Popen([sys.executable, "-m", "an8flower", "generate", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    seconds, megabytes = usage.ru_utime + usage.ru_stime, path.stat().st_size / 1e6
    path.unlink()
    about = {"preset": preset, "size": size, "rows": rows, "core seconds": seconds, "rows/core second": rows / seconds}
    return {**about, "peak MB": usage.ru_maxrss / 1024, "file MB": megabytes}


def main() -> None:
    """Do each job once, after a small one of each preset that fills numba's cache, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        for preset in dict.fromkeys(name for name, _, _ in JOBS):
            measure(preset, 42, 60, Path(folder))
        table = [measure(*job, Path(folder)) for job in JOBS]
    write("large_jobs", table, {"what": "an8flower generate, whole process, two workers; one run of each job"})


if __name__ == "__main__":
    main()
