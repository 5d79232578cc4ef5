"""Every explainer on the networks whose weights are set by hand: which passes where, and why not.

`python benchmarks/by_hand.py` judges all of them at their defaults (but for `LIGHTER`); with the names of methods,
as in `python benchmarks/by_hand.py gradcam rise`, it judges these anew and keeps what is filed of the others.
"""

from __future__ import annotations

import json
import sys
from time import process_time
from typing import Any

import report
import torch

from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.registry import explainers
from an8flower.evaluate.trust.by_hand.judge import ROWS, judge_by_hand
from an8flower.evaluate.trust.by_hand.networks import HANDSET
from an8flower.evaluate.trust.by_hand.scenes import SIZE

FILE = report.RESULTS / "by_hand.json"


# What is judged with fewer steps on fewer rows: at its 800 steps it takes 4 s a row.
LIGHTER = {"extremal_perturbation": ("extremal_perturbation:iterations=400", 8)}


def judged(method: str) -> dict[str, Any]:
    """The verdicts on a method by network, with the numbers behind them."""
    began = process_time()
    text, rows = LIGHTER.get(method, (method, ROWS))
    explainer = parse_method(text).explainer
    verdicts = [judge_by_hand(explainer, network, rows).verdict.document() for network in HANDSET]
    return row_of(method, verdicts, process_time() - began)


def row_of(method: str, verdicts: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The row of a method, from the documents of its verdicts."""
    details = {verdict["network"]: _short(verdict) for verdict in verdicts}
    return {
        "method": method,
        **{verdict["network"]: _words(verdict) for verdict in verdicts},
        "seconds": seconds,
        "details": details,
    }


def _words(verdict: dict[str, Any]) -> str:
    """A verdict and its value on the scale, as in `pass 0.98`."""
    skill = verdict["skill"]
    return verdict["status"] if skill is None else f"{verdict['status']} {skill['mean']:.2f}"


def _short(verdict: dict[str, Any]) -> dict[str, Any]:
    skill = verdict["skill"]
    interval = None if skill is None else [round(skill[key], 3) for key in ("mean", "low", "high")]
    share = None if verdict["share"] is None else round(verdict["share"], 3)
    return {"status": verdict["status"], "reason": verdict["reason"], "skill": interval, "share": share}


def filed() -> dict[str, dict[str, Any]]:
    """What was measured before, by method."""
    if not FILE.is_file():
        return {}
    document = json.loads(FILE.read_text())
    return {row["method"]: {**row, "details": document["details"][row["method"]]} for row in document["rows"]}


def write(rows: list[dict[str, Any]]) -> None:
    """Report the rows as all benchmarks do; the reasons and intervals stand in the JSON document alone."""
    about: dict[str, Any] = {
        "networks": len(HANDSET),
        "rows": ROWS,
        "size": SIZE,
        "threads": 1,
        "parameters": "defaults",
    }
    about["lighter"] = ", ".join(f"{text} on {count} rows" for text, count in LIGHTER.values())
    report.write("by_hand", [{name: row[name] for name in row if name != "details"} for row in rows], about)
    document = json.loads(FILE.read_text()) | {"details": {row["method"]: row["details"] for row in rows}}
    FILE.write_text(json.dumps(document, indent=2) + "\n")


def main(wanted: list[str]) -> None:
    """Judge, and report after each method, so that what is done stays done."""
    torch.set_num_threads(1)
    names = [name for name in explainers.names() if name not in explainers.plug_ins()]
    rows = filed() if wanted else {}
    for name in wanted or names:
        rows[name] = judged(name)
        write([rows[name] for name in names if name in rows])


if __name__ == "__main__":
    main(sys.argv[1:])
