"""What a sanity check costs beyond its explanations, beside Quantus' MPRT on the same model, images and explainer.

A share of 1.1 says that all that is not explaining (drawing weights, comparing maps by four similarities, intervals)
takes a tenth of what the explanations take: the time inside the explainer, with the batch that the check gives it.
That is the strictest measure, since whoever calls `explain` for the same images, in the same portions, also pays for
its guard and its checks; the share of that stands beside it. Weights are drawn once for all methods on a model; here,
there is one method, and a column leaves out what the next one would not pay again. Where the time goes that is not
explaining is measured in the same turns. Ours and Quantus' take turns within one run, so that a busy machine slows
down both. Quantus compares by one similarity.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
import quantus
import report
import torch

from an8flower import spec as specs
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.trust.sanity import check, mprt, randomisation, run
from an8flower.evaluate.trust.sanity.plan import sanity_plan
from an8flower.generate import generate
from an8flower.store import FlowerStore

SIZE, TURNS = 112, 3
CPU = Resources(torch.device("cpu"))
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "predicting targets": ((run, "query_of"),),
    "drawing weights": ((randomisation, "draw_initial"), (randomisation, "complete_draw")),
    "controls": ((run.ModelSanity, "controls"),),
    "similarities": ((check, "similarities"), (mprt, "similarities"), (mprt, "entropies"), (run, "compare_unrelated")),
    "intervals": ((run, "judge"), (run, "interval_over_draws")),
    "checks in explain": ((run, "explain"), (run, "explain_lent")),
}


@dataclass(frozen=True)
class Case:
    """A check of one method on one model: its rows and steps, and how often Quantus has a turn as well."""

    arch: str
    method: str
    rows: int = 12
    steps: int = 10
    quantus_turns: int = TURNS


CASES = (
    Case("flowernet", "gradcam"),
    Case("flowernet", "gradient"),
    Case("resnet18", "gradcam", quantus_turns=1),
    Case("resnet18", "smoothgrad:samples=2", quantus_turns=1),
    Case("flowernet", "gradcam", rows=30, steps=8, quantus_turns=0),  # as `an8flower sanity` does it by default
    Case("resnet18", "gradcam", rows=30, steps=8, quantus_turns=0),
)


@dataclass
class Clock:
    """Seconds by part; what a part does inside another one belongs to the outer one."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    busy: bool = False

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does what another one does, on this clock."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.busy:
                return function(*args, **kwargs)
            self.busy, began = True, perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += perf_counter() - began
                self.busy = False

        return call


@contextmanager
def watching() -> Iterator[Clock]:
    """Put every function of the parts on a clock, inside the block."""
    clock = Clock()
    with ExitStack() as patches:
        for part, functions in PARTS.items():
            for owner, name in functions:
                patches.enter_context(patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        yield clock


def ours(classifier: Classifier, case: Case, store: FlowerStore, folder: Path) -> dict[str, float]:
    """Wall-clock time of a whole check, of its parts, and how much of it is explaining."""
    method = parse_method(case.method)
    with watching() as clock:
        began = perf_counter()
        plan = sanity_plan(rows=case.rows, steps=case.steps)
        model = run.ModelSanity(classifier, store["test"], plan, CPU, folder=folder)
        ready = perf_counter()
        cost = model.examine(method)["cost"]
        done = perf_counter()
        run.sanity(model, [])  # the controls
        end = perf_counter()
    return {
        "seconds": end - began,
        "of the method": done - ready,
        "explaining": cost["seconds"] * cost["explanations"],
        "by explain": portioned(classifier, method.explainer, model) * cost["explanations"],
        "explanations": cost["explanations"],
        **clock.seconds,
        "checks in explain": clock.seconds["checks in explain"] - cost["seconds"] * cost["explanations"],
    }


def portioned(classifier: Classifier, explainer: Any, model: run.ModelSanity) -> float:
    """The seconds that `explain` takes for an image, with the rows in the portions in which they are dealt to draws."""
    query = model.setting.query
    began = perf_counter()
    for draw in np.unique(model.draws):
        portion = torch.from_numpy(np.flatnonzero(model.draws == draw))
        explain(classifier, explainer, Query(*(tensor[portion] for tensor in query)), CPU.in_flight)
    return (perf_counter() - began) / len(query.images)


def theirs(classifier: Classifier, case: Case, store: FlowerStore) -> dict[str, float]:
    """The same of Quantus' MPRT, asked as its documentation does."""
    explainer, spent, made = parse_method(case.method).explainer, 0.0, 0

    def explained(model: Any, inputs: np.ndarray, targets: np.ndarray, **kwargs: Any) -> np.ndarray:
        nonlocal spent, made
        query = Query(torch.as_tensor(inputs), torch.as_tensor(targets), torch.arange(len(inputs)))
        done = explain(model, explainer, query, CPU.in_flight)
        spent, made = spent + done.cost.seconds, made + len(inputs)
        return done.maps[:, None].numpy()

    query, _ = run.query_of(classifier, store["test"], np.arange(case.rows), seed=0, resources=CPU)
    began = perf_counter()
    quantus.MPRT(disable_warnings=True)(
        model=classifier,
        x_batch=query.images.numpy(),
        y_batch=query.targets.numpy(),
        explain_func=explained,
        batch_size=CPU.in_flight,
    )
    return {"seconds": perf_counter() - began, "explaining": spent, "explanations": made}


def compared(case: Case, store: FlowerStore, folder: Path) -> dict[str, Any]:
    """One line: medians over turns of total time by time of explaining, and of the parts by that."""
    classifier = build(case.arch, store.class_names, store.size, 0).eval()
    turns, others = [], []
    for turn in range(TURNS):
        turns.append(ours(classifier, case, store, folder))
        if turn < case.quantus_turns:
            others.append(theirs(classifier, case, store))
    share = {part: median(turn[part] / turn["explaining"] for turn in turns) for part in PARTS}
    return {
        "model": case.arch,
        "method": case.method,
        "rows": case.rows,
        "explanations": turns[0]["explanations"],
        "ms per explanation": median(1000 * turn["explaining"] / turn["explanations"] for turn in turns),
        "total by explaining": median(turn["seconds"] / turn["explaining"] for turn in turns),
        "without what methods share": median(turn["of the method"] / turn["explaining"] for turn in turns),
        "total by calls of explain": median(turn["seconds"] / turn["by explain"] for turn in turns),
        **{f"{part}, share": value for part, value in share.items()},
        "Quantus: explanations": others[0]["explanations"] if others else None,
        "Quantus: total by explaining": median(o["seconds"] / o["explaining"] for o in others) if others else None,
    }


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "data.h5"
        generate(specs.load("single-6c").with_changes(rows=60 * 10, size=SIZE), path, workers=1)
        store = FlowerStore(path)
        rows = [compared(case, store, Path(place)) for case in CASES]
    about = {
        "size": SIZE,
        "threads": 1,
        "turns": TURNS,
        "quantus": "MPRT, one similarity, cascading only; one turn on resnet18",
        "shares": "of the time inside the explainers",
    }
    report.write("sanity", rows, about)


if __name__ == "__main__":
    main()
