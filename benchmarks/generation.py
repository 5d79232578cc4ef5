"""How fast `an8flower generate` is from end to end, and that neither time nor memory per row grows with the job.

Each run is a process of its own, so that its peak memory is its own. Jobs of different size take turns, since the speed
of a shared machine drifts; medians are reported, start-up of the process included.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import write

SIZES = (1_000, 6_000, 50_000)
REPEATS = 3


def measure(rows: int, folder: Path) -> tuple[float, float, float]:
    """Seconds, peak megabytes and megabytes on disk of one run."""
    path = folder / f"{rows}.h5"
    command = [sys.executable, "-m", "an8flower", "generate", "--rows", str(rows), "--force", "-o", str(path)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    assert status == 0
    on_disk = path.stat().st_size / 1e6
    path.unlink()
    return seconds, usage.ru_maxrss / 1024, on_disk


def main() -> None:
    """Measure all sizes in turns and write the table."""
    runs: dict[int, list[tuple[float, float, float]]] = {rows: [] for rows in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        measure(300, Path(folder))  # fills numba's cache
        for _ in range(REPEATS):
            for rows in SIZES:
                runs[rows].append(measure(rows, Path(folder)))
    middle = {rows: [statistics.median(column) for column in zip(*found, strict=True)] for rows, found in runs.items()}
    table = [
        {
            "rows": rows,
            "seconds": seconds,
            "rows/s": rows / seconds,
            "peak MB": memory,
            "file MB": disk,
            "kB/row": disk * 1000 / rows,
        }
        for rows, (seconds, memory, disk) in middle.items()
    ]
    write(
        "generation",
        table,
        {
            "what": "an8flower generate single-6c at 112 px, whole process, default workers",
            "figures": f"median of {REPEATS} runs, sizes taking turns",
        },
    )


if __name__ == "__main__":
    main()
