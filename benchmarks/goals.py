"""Whether what the other benchmarks measured last is as fast as we mean to be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import report

Rows = list[Mapping[str, Any]]
FASTER = "ours is faster, times"
ALONE = "the folded network alone"
TOTAL, FURTHER = "total by explaining", "without what methods share"
SHARE = ", share"  # ends the names of columns that say how much goes into a part of a check
SHARED = ("drawing weights", "predicting targets", "controls")  # by all methods on a model
SANITY = 1.1


class Goal(NamedTuple):
    """A number that a benchmark writes, and what we mean it to be."""

    work: str
    limit: float
    unit: str
    result: str  # of which benchmark
    measure: Callable[[Rows], float]
    at_least: bool = False  # otherwise at most
    bound: Callable[[Rows], str] = lambda rows: ""  # what keeps a number from being reached

    @property
    def words(self) -> str:
        """What is to be reached."""
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g} {self.unit}"

    def is_reached(self, value: float) -> bool:
        """Whether a number is what it is meant to be."""
        return value >= self.limit if self.at_least else value <= self.limit


def pick(rows: Rows, column: str, **words: str) -> list[float]:
    """The numbers of a column in the rows whose other columns begin with some words."""
    chosen = [row for row in rows if all(str(row[name]).startswith(word) for name, word in words.items())]
    return [float(row[column]) for row in chosen if row[column] is not None]


def slowest(rows: Rows, command: str) -> float:
    """The most seconds of the commands whose names begin with a word."""
    return max(pick(rows, "seconds", command=command))


def quantus_auroc(rows: Rows) -> float:
    """How many times longer Quantus' AUC takes than ours."""
    (row,) = (row for row in rows if row["ours"] == "auroc")
    return float(row["its ms per map"] / row["ms per map, alone"])


def sanity_line(rows: Rows, model: str) -> Mapping[str, Any]:
    """The line of Grad-CAM on a model with most rows, as the command has them by default."""
    lines = [row for row in rows if (row["model"], row["method"]) == (model, "gradcam")]
    return max(lines, key=lambda row: int(row["rows"]))


def beside_explaining(line: Mapping[str, Any], column: str) -> str:
    """What a check spends beside explaining, the largest first, until the rest of a column would be as meant."""
    parts = {name.removesuffix(SHARE): float(value) for name, value in line.items() if name.endswith(SHARE)}
    left, steps = float(line[column]), []
    for part in sorted(parts, key=lambda part: -parts[part]):
        if left > SANITY and (column == TOTAL or part not in SHARED):
            left -= parts[part]
            steps.append(f"{part} {parts[part]:.2f} (without: {left:.2f})")
    return f"a map is explained in {line['ms per explanation']:.1f} ms; beside that: {', '.join(steps)}"


def score_cam(rows: Rows) -> float:
    """How many times longer the faster of two other Score-CAMs takes than ours."""
    return min(pick(rows, FASTER, who="pytorch-grad-cam Score") + pick(rows, FASTER, who="TorchCAM Score"))


def further_methods(rows: Rows) -> float:
    """The most scenes of a method that is not the first of its run, as a share of those of the first."""
    first, *others = pick(rows, "scenes rendered")
    return max(others) / first


def randomisation(model: str, column: str, which: str) -> Goal:
    """What a sanity check of Grad-CAM costs, by its explanations."""
    return Goal(
        f"model randomisation of Grad-CAM on {model}, {which}",
        SANITY,
        "x its explanations",
        "sanity",
        lambda rows: float(sanity_line(rows, model)[column]),
        bound=lambda rows: beside_explaining(sanity_line(rows, model), column),
    )


GOALS = (
    Goal(
        "integrated gradients, VGG-16 at 224 px",
        1.1,
        "x as fast as Captum",
        "explainers-vgg16",
        lambda rows: min(pick(rows, FASTER, who="Captum IntegratedGradients")),
        at_least=True,
    ),
    Goal(
        "Score-CAM, ResNet-18 at 112 px",
        1.4,
        "x as fast as the best peer",
        "explainers-resnet18",
        score_cam,
        at_least=True,
        bound=lambda rows: (
            "passes of the folded network behind the shared convolution, which alone take "
            f"{pick(rows, FASTER, who=ALONE)[0]:.3g} times as long as all of ours"
        ),
    ),
    Goal(
        "RISE with 50 masks, VGG-16 at 224 px",
        55,
        "bare forward passes",
        "explainers-vgg16",
        lambda rows: max(pick(rows, "in F", who="an8flower rise")),
    ),
    randomisation("resnet18", FURTHER, "a further method on a model"),
    randomisation("resnet18", TOTAL, "the only method"),
    randomisation("flowernet", FURTHER, "a further method on a model"),
    randomisation("flowernet", TOTAL, "the only method"),
    Goal("`auroc` alone", 50, "x as fast as Quantus", "localisation", quantus_auroc, at_least=True),
    Goal(
        "quick audit, from the command to its page",
        240,
        "s",
        "quick_audit",
        lambda rows: max(pick(rows, "seconds")),
    ),
    Goal(
        "`methods` and `metrics`",
        1,
        "s",
        "start",
        lambda rows: max(slowest(rows, "methods"), slowest(rows, "metrics")),
    ),
    Goal(
        "`explain` and `score`, until the first explanation",
        3,
        "s",
        "start",
        lambda rows: max(slowest(rows, "explain, until"), slowest(rows, "score, until")),
    ),
    Goal(
        "scenes that intervention metrics render for a further method",
        0.05,
        "x those for the first",
        "interventions",
        further_methods,
    ),
    Goal("`make test`, installed", 360, "s", "suite", lambda rows: max(pick(rows, "seconds"))),
)


def row(goal: Goal) -> dict[str, Any]:
    """A line of the table."""
    line = {"work": goal.work, "to reach": goal.words}
    path = report.RESULTS / f"{goal.result}.json"
    if not path.exists():
        return {**line, "measured": None, "reached": "not measured", "what bounds it": None}
    results = json.loads(path.read_text())["rows"]
    value = goal.measure(results)
    reached = goal.is_reached(value)
    bound = None if reached else goal.bound(results)
    return {**line, "measured": value, "reached": "yes" if reached else "no", "what bounds it": bound}


def rows() -> list[dict[str, Any]]:
    """The table, from the results that there are."""
    return [row(goal) for goal in GOALS]


def main() -> None:
    """Print the table."""
    print(report.table(rows()))


if __name__ == "__main__":
    main()
