"""From a command to its first result: `python benchmarks/start.py [--turns 5]`, a minute.

Each command is a process of its own, turn by turn with the others, after one of each that is not counted. What it
imports is read from one more run under `python -X importtime`: a package's own milliseconds and those of its modules,
but not those of what they import from other packages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import report

from an8flower import spec as specs
from an8flower.evaluate import train
from an8flower.generate import generate
from an8flower.store import FlowerStore

SMALL, ROWS, SIZE = "single-6c", 300, 112
FILES = ["--data", "flowers.h5", "--model", "net.safetensors", "--method", "gradcam"]
EXPLAIN = ["explain", *FILES, "--row", "0"]
SCORE = ["score", *FILES, "--metric", "iou", "--rows", "1", "-o", "scores"]
WHOLE = ["-m", "an8flower"]
FIRST = [
    "-c",
    """
import os
from an8flower.__main__ import main
from an8flower.evaluate.explaining import explain as module

whole = module.explain

def explain(*arguments, **options):
    whole(*arguments, **options)
    os._exit(0)

module.explain = explain
main(prog_name="an8flower")
os._exit(1)
""",
]  # the command line, left as soon as there is an explanation


class Start(NamedTuple):
    """What is timed: a command, until its end or until its first explanation."""

    words: list[str]
    python: list[str]  # what the interpreter is given before these words
    reach: float | None  # seconds


STARTS = {
    "--help": Start(["--help"], WHOLE, 1.0),
    "methods": Start(["methods"], WHOLE, 1.0),
    "metrics": Start(["metrics"], WHOLE, 1.0),
    "explain, until the explanation": Start(EXPLAIN, FIRST, 3.0),
    "explain": Start(EXPLAIN, WHOLE, None),
    "score, until the first explanation": Start(SCORE, FIRST, 3.0),
    "score": Start(SCORE, WHOLE, None),
}
DEAREST = 10
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)")


class Cost(NamedTuple):
    """What one run of a command took, start and end of the interpreter included."""

    seconds: float
    core_seconds: float


def measure(start: Start, folder: Path) -> Cost:
    """Run a command once, in a folder without the results of earlier runs."""
    shutil.rmtree(folder / "scores", ignore_errors=True)
    command = [sys.executable, *start.python, *start.words]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, start.words
    return Cost(seconds, usage.ru_utime + usage.ru_stime)


def dearest_imports(start: Start, folder: Path) -> dict[str, float]:
    """Milliseconds of the packages whose modules take longest to import, the longest first."""
    shutil.rmtree(folder / "scores", ignore_errors=True)
    command = [sys.executable, "-X", "importtime", *start.python, *start.words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return sum_by_package(done.stderr)


def sum_by_package(log: str) -> dict[str, float]:
    """Milliseconds by package, of what `-X importtime` says.

    >>> sum_by_package("import time:  200 |  900 | numpy.linalg\\nimport time:  1300 |  1500 | numpy")
    {'numpy': 1.5}
    """
    packages: Counter[str] = Counter()
    for microseconds, module in IMPORT.findall(log):
        packages[module.partition(".")[0]] += int(microseconds)
    return {name: spent / 1000 for name, spent in packages.most_common(DEAREST)}


def lay_out(folder: Path) -> None:
    """Put a small data set and a network that was trained on it into a folder."""
    path = generate(specs.load(SMALL).with_changes(rows=ROWS, size=SIZE), folder / "flowers.h5").path
    train(FlowerStore(path), "flowernet", epochs=2).classifier.save(folder / "net.safetensors")


def row(name: str, costs: Sequence[Cost], imports: dict[str, float]) -> dict[str, object]:
    """One line of the table."""
    return {
        "command": name,
        "seconds": statistics.median(cost.seconds for cost in costs),
        "core seconds": statistics.median(cost.core_seconds for cost in costs),
        "to reach, seconds": STARTS[name].reach,
        "dearest imports, ms": ", ".join(f"{package} {spent:.0f}" for package, spent in imports.items()),
    }


def main() -> None:
    """Measure all commands, and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turns", type=int, default=5)
    turns = options.parse_args().turns
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lay_out(folder)
        runs = [{name: measure(start, folder) for name, start in STARTS.items()} for _ in range(turns + 1)]
        imports = {name: dearest_imports(start, folder) for name, start in STARTS.items()}
    rows = [row(name, [run[name] for run in runs[1:]], imports[name]) for name in STARTS]
    data = f"one of {ROWS} rows of {SMALL}, {SIZE} px; flowernet, trained on them for two epochs; gradcam, iou"
    report.write("start", rows, {"turns": f"medians of {turns}", "explain and score": data})


if __name__ == "__main__":
    main()
