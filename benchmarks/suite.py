"""What `make test` takes, once all that it needs is installed: `python benchmarks/suite.py`, six minutes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import report

ROOT = Path(__file__).parents[1]
REACH = 360  # seconds
SUMMARY = re.compile(r"(\d+) passed")


def main() -> None:
    """Run the tests, and write how long they took; raises if one fails."""
    subprocess.run(["make", ".venv/.test"], cwd=ROOT, check=True)
    began = time.perf_counter()
    done = subprocess.run(["make", "test"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(done.stdout[-2000:])
    match = SUMMARY.search(done.stdout)
    assert match, done.stdout[-2000:]
    row = {"command": "make test", "tests passed": int(match[1]), "seconds": seconds, "to reach": REACH}
    report.write("suite", [row], {"what": "three processes of one thread each"})


if __name__ == "__main__":
    main()
