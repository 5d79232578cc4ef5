"""The tables of the page on the ruler, from what `benchmarks/metric_table.py` and `benchmarks/ruler.py` measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markup import code, plain, table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TRUTHS = ("truth", "truth at 11 x 11", "truth at 6 x 6", "truth at 3 x 3")
EFFECTS = ("effect map", "square", "square root", "rank", "blurred 1 px", "blurred 2 px", "clipped at 1 %")
CONTROLS = ("noise", "smooth noise", "bump", "center", "mean training mask", "mask of another row", "edges")
FURTHER = ("constant but a corner", "gradcam, other rows", "vebi, other rows")


def right_maps() -> str:
    """What maps that are right score: the truth, coarse and fine, and the effect map, changed and not."""
    keys = (*TRUTHS, EFFECTS[0], *(f"effect map, {name}" for name in (*EFFECTS[1:], "clipped at 5 %")))
    return _scores(keys, (*TRUTHS, *EFFECTS, "clipped at 5 %"))


def blind_maps() -> str:
    """What maps that see no model score, and a method's maps of other rows."""
    return _scores((*CONTROLS, *FURTHER), (*CONTROLS, *FURTHER))


def criterion() -> str:
    """The criterion in words, what each metric makes of it, and the choice."""
    document = _measured()
    about = document["about"]
    names = ("sees the truth", "beats the controls", "order alone", "flat maps", "choice")
    words = "\n".join(f"- *{name}*: {about[name]}." for name in names)
    rows = [
        [code(row["metric"]), plain(row["best control"]), _number(row["margin"]), _number(row["tau"]), row["fails"]]
        for row in document["rows"]
    ]
    judged = table(["metric", "best control", "margin of the effect map", "tau", "fails"], rows)
    leads = f"So `{about['leads (evidence)']}` leads, and `{about['leads (use)']}` beside it."
    return f"{words}\n\n{judged}\n\n{leads}"


def measured_ruler() -> str:
    """What was found wrong, with the figures before and after, and what became of it."""
    document = _measured("ruler")
    about, machine = document["about"], document["machine"]
    keys = ("found", "measure", "before", "after", "cured / explained")
    measured = table(list(keys), [[row[key] for key in keys] for row in document["rows"]])
    words = f"{about['data']}; {about['models']}; {about['rows']} rows are scored ({about['folder']})."
    if about["folder"] == "all made anew":
        where = f"a machine of {machine['cores']} cores with a load of {machine['load']:.0f}"
        words += f" It took {about['seconds']:.0f} s on {where}."
    return f"{measured}\n\n{words}"


def _scores(keys: Sequence[str], titles: Sequence[str]) -> str:
    rows = [[code(row["metric"]), *(_number(row[key]) for key in keys)] for row in _measured()["rows"]]
    return table(["metric", *titles], rows)


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def _measured(name: str = "metric_table") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document
