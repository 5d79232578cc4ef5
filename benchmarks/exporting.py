"""How fast data sets are exported and read back, and that memory does not grow with the rows.

Each run is a process of its own, so that its peak memory is its own; start-up of the process is included. Data sets are
rendered first, into a folder that may be given: those that lie there already are taken as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import write

RUNS = {50_000: ("parquet",), 2_000: ("parquet", "folder", "webdataset")}  # of many rows one: all write the same rows


def measure(*words: str) -> tuple[float, float, float]:
    """Seconds, seconds of all cores together, and peak megabytes of one command."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "an8flower", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure_layout(data: Path, rows: int, layout: str, folder: Path) -> dict[str, Any]:
    """One row of the report: a data set written in a layout, and read back."""
    target, back = folder / layout, folder / f"{layout}.h5"
    out = measure("export", str(data), "-o", str(target), "--to", layout)
    files = [place.stat().st_size for place in target.rglob("*") if place.is_file()]
    into = measure("import", str(target), "-o", str(back))
    shutil.rmtree(target)
    back.unlink()
    return {
        "layout": layout,
        "rows": rows,
        "export, rows/s": rows / out[0],
        "export, rows/s of a core": rows / out[1],
        "export, peak MB": out[2],
        "import, rows/s": rows / into[0],
        "import, rows/s of a core": rows / into[1],
        "import, peak MB": into[2],
        "export, MB": sum(files) / 1e6,
        "data set, MB": data.stat().st_size / 1e6,
        "files": len(files),
    }


def main() -> None:
    """Measure the layouts and write the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        table = []
        for rows, layouts in RUNS.items():
            data = folder / f"{rows}.h5"
            measure("generate", "single-6c", "--rows", str(rows), "-o", str(data))
            table += [measure_layout(data, rows, layout, folder) for layout in layouts]
    about = {"what": "an8flower export and import of single-6c at 112 px, whole processes", "figures": "one run each"}
    write("exporting", table, about)


if __name__ == "__main__":
    main()
