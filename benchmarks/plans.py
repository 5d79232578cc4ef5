"""What the shipped plans cost: measured at their reduced size, extrapolated to their full one.

Each stage's seconds grow with the rows that it takes, with the trainings, and with what one image costs the network
(its multiplications, counted). What grows otherwise (more steps of insertion on more pixels, say) is not in there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from report import write
from torch.utils.flop_counter import FlopCounterMode

from an8flower import spec as specs
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.plan import Models, Plan
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.training import epochs_for

KINDS = ("scores", "certificates", "sanity", "meta", "pictures", "filters")


@cache
def operations(arch: str, size: int) -> float:
    """Floating-point operations of one image."""
    classifier = build(arch, ["a", "b"], size, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops())


def size_of(plan: Plan) -> int:
    """Side of the plan's pictures."""
    entry = plan.data[0]
    return entry.size or specs.load(str(entry.spec)).size


def training_rows(plan: Plan) -> int:
    """Rows that a network is trained on, of all data sets."""
    found = [specs.load(str(each.spec)).with_changes(rows=each.rows) for each in plan.data]
    return sum(spec.rows.train for spec in found)


def scored_rows(plan: Plan) -> int:
    """Rows that are scored, of all data sets."""
    found = [specs.load(str(each.spec)).with_changes(rows=each.rows) for each in plan.data]
    return sum(plan.rows or spec.rows.test for spec in found)


def work(plan: Plan, kind: str) -> float:
    """What a stage has to do, in operations up to a factor that is the same at both sizes."""
    rows = {
        "models": training_rows(plan),
        "scores": scored_rows(plan),
        "certificates": len(plan.data) * (plan.certificate.rows if plan.certificate else 0),
        "sanity": plan.sanity.rows if plan.sanity else 0,
        "meta": plan.meta.rows if plan.meta else 0,
        "pictures": len(plan.data),
        "filters": len(plan.data),
    }[kind]
    return rows * sum(each * operations(str(entry.arch), size_of(plan)) for entry, each in repeats(plan, kind))


def repeats(plan: Plan, kind: str) -> list[tuple[Models, float]]:
    """How often each architecture is gone through: once a seed, and in training once an epoch."""
    return [
        (entry, len(entry.seeds) * (_epochs(entry) if kind == "models" else 1)) for entry in plan.models if entry.arch
    ]


def _epochs(entry: Models) -> int:
    return epochs_for(str(entry.arch), entry.epochs)


def measured(folder: Path) -> Counter[str]:
    """Seconds by stage, from a run's own account."""
    places = {kind: {path.stem for path in (folder / kind).glob("*")} for kind in KINDS}
    found: Counter[str] = Counter()
    for cell, seconds in json.loads((folder / "costs.json").read_text()).items():
        found[next((kind for kind in KINDS if cell in places[kind]), "models")] += seconds
    return found


def row(name: str, folder: Path) -> dict[str, object]:
    """One line of the table."""
    full, place = plans.load(name), folder / f"{name}-reduced"
    if not (place / "summary.json").exists():
        command = ["an8flower", "audit", name, "--reduced", "-o", str(place)]
        subprocess.run([sys.executable, "-m", *command], cwd=folder, check=True)
    small = plans.from_mapping(json.loads((place / "plan.json").read_text())["plan"], name)
    spent = measured(place)
    whole = sum(seconds * work(full, kind) / work(small, kind) for kind, seconds in spent.items() if work(small, kind))
    return {
        "plan": name,
        "reduced: core minutes": sum(spent.values()) / 60,
        "full: core hours, extrapolated": whole / 3600,
        "command at full size": f"`an8flower audit {name}`",
    }


def main() -> None:
    """Run the plans that have a reduced size; what is in the folder already is taken from there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--plan", action="append", help="may be repeated; all unless given")
    options.add_argument("--folder", type=Path, help="keeps data and runs; a temporary one unless given")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        names = given.plan or [name for name in plans.shipped_plans() if plans.load(name).reduced]
        rows = [row(name, folder.absolute()) for name in names]
    write(
        "plans", rows, {"workers": "one a core, of one thread each", "not counted": "what a run took from another one"}
    )


if __name__ == "__main__":
    main()
