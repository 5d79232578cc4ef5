"""What the quick audit takes, from the command to its page: `python benchmarks/quick_audit.py`, four minutes.

The data are rendered and the models trained in that time; the installation is not in it. Seconds by stage are those of
the run's own account, summed over its workers; it leaves out what all stages share: imports, the summary, and the page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import report
from plans import measured

from an8flower.evaluate.audits import plan as plans

REACH = 240  # seconds


def measure(words: Sequence[str], run: Path) -> dict[str, object]:
    """Carry out an audit in an empty folder, and say what it took, as a line of the table."""
    command = [sys.executable, "-m", "an8flower", "audit", *words, "-o", str(run)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=run.parent, stdout=subprocess.DEVNULL)
    assert process.wait() == 0, command
    seconds = time.perf_counter() - begin
    assert (run / "report.html").exists(), run
    stages = ", ".join(f"{stage} {spent:.0f}" for stage, spent in measured(run).most_common())
    return {"seconds": seconds, "to reach": REACH, "seconds of workers by stage": stages}


def main() -> None:
    """Measure, and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--plan", help="another one than the quick plan, to try this out")
    chosen = options.parse_args()
    plan = plans.load(chosen.plan or plans.QUICK)
    with tempfile.TemporaryDirectory() as folder:
        row = measure([chosen.plan or "--quick"], Path(folder).resolve() / "run")
    about = {"methods and controls": len(plan.methods), "metrics named": len(plan.metrics), "models": len(plan.models)}
    report.write("quick_audit" if not chosen.plan else "quick_audit_tried", [row], about)


if __name__ == "__main__":
    main()
