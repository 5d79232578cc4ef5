"""How good is the ruler? What was found wrong with scores, certificates and checks, and what is measured of it today.

`make ruler` takes a few minutes on two idle cores. The figures before were measured on a development version
(quick audit, `single-6c` at 42 px, 60 rows, flowernet seeds 0 and 1, flowervit seed 0, unless the line says otherwise);
they are constants here. The figures after are computed by this run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from report import write
from ruler_effects import EFFECT_LINES
from ruler_lines import LINES, RulerLine
from ruler_setting import PRESET, TRAINED, RulerSetting

OUTCOMES = {True: "holds", False: "does not hold", None: "explained"}
BEFORE = "measured on a development version before 0.1.0"


def main() -> None:
    """Measure line by line, and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data, models and scores; a temporary one unless given")
    options.add_argument("--rows", type=int, default=30)
    options.add_argument("--size", type=int, default=42)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        setting = RulerSetting(folder, chosen.rows, chosen.size)
        rows = [to_row(line) for measure in (*LINES, *EFFECT_LINES) for line in _report(measure(setting), began)]
    about = {
        "data": f"{PRESET}, {TRAINED} rows in all, {chosen.size} px",
        "models": "flowernet seeds 0 and 1, flowervit seed 0",
        "rows": chosen.rows,
        "before": BEFORE,
        "seconds": time.perf_counter() - began,
        "folder": "what lay there was taken" if chosen.folder else "all made anew",
    }
    write("ruler", rows, about)


def _report(lines: Any, began: float) -> list[RulerLine]:
    lines = list(lines)
    for line in lines:
        print(f"{time.perf_counter() - began:.0f} s: {line.found}: {line.after}", file=sys.stderr, flush=True)
    return lines


def to_row(line: RulerLine) -> dict[str, Any]:
    """A line as a row of the table."""
    return {
        "found": line.found,
        "measure": line.measure,
        "before": line.before,
        "after": line.after,
        "cured / explained": f"{OUTCOMES[line.cured]}: {line.words}",
    }


if __name__ == "__main__":
    main()
