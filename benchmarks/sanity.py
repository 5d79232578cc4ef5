"""What a sanity check costs beyond its explanations, beside Quantus' MPRT on the same model, images and explainer.

A share of 1.1 says that all that is not explaining (drawing weights, comparing maps by four similarities, intervals)
takes a tenth of what the explanations take. Weights are drawn once for all methods on a model; here, there is one
method, and the share beside it leaves out what the next one would not pay again. Ours and Quantus' take turns within
one run, so that a busy machine slows down both. Quantus compares by one similarity.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

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
from an8flower.evaluate.trust.sanity.plan import sanity_plan
from an8flower.evaluate.trust.sanity.run import ModelSanity, query_of, sanity
from an8flower.generate import generate
from an8flower.store import FlowerStore

ROWS, SIZE, TURNS = 12, 112, 3
CASES = (
    ("flowernet", "gradcam"),
    ("flowernet", "gradient"),
    ("resnet18", "gradcam"),
    ("resnet18", "smoothgrad:samples=5"),
)
CPU = Resources(torch.device("cpu"))


def ours(classifier: Classifier, method: str, store: FlowerStore, folder: Path) -> dict[str, float]:
    """Wall-clock time of a whole check, of its parts that all methods share, and how much of it is explaining."""
    plan = sanity_plan(rows=ROWS, steps=10)
    began = perf_counter()
    model = ModelSanity(classifier, store["test"], plan, CPU, folder=folder)
    ready = perf_counter()
    cost = model.examine(parse_method(method))["cost"]
    done = perf_counter()
    sanity(model, [])  # the controls
    return {
        "seconds": perf_counter() - began,
        "of the method": done - ready,
        "explaining": cost["seconds"] * cost["explanations"],
        "explanations": cost["explanations"],
    }


def theirs(classifier: Classifier, method: str, store: FlowerStore) -> dict[str, float]:
    """The same of Quantus' MPRT, asked as its documentation does."""
    explainer, spent, made = parse_method(method).explainer, 0.0, 0

    def explained(model: Any, inputs: np.ndarray, targets: np.ndarray, **kwargs: Any) -> np.ndarray:
        nonlocal spent, made
        query = Query(torch.as_tensor(inputs), torch.as_tensor(targets), torch.arange(len(inputs)))
        done = explain(model, explainer, query, CPU.in_flight)
        spent, made = spent + done.cost.seconds, made + len(inputs)
        return done.maps[:, None].numpy()

    query, _ = query_of(classifier, store["test"], np.arange(ROWS), seed=0, resources=CPU)
    began = perf_counter()
    quantus.MPRT(disable_warnings=True)(
        model=classifier,
        x_batch=query.images.numpy(),
        y_batch=query.targets.numpy(),
        explain_func=explained,
        batch_size=CPU.in_flight,
    )
    return {"seconds": perf_counter() - began, "explaining": spent, "explanations": made}


def compared(arch: str, method: str, store: FlowerStore, folder: Path) -> dict[str, Any]:
    """One line: medians over turns of total time by time of explaining."""
    classifier = build(arch, store.class_names, store.size, 0).eval()
    turns = [(ours(classifier, method, store, folder), theirs(classifier, method, store)) for _ in range(TURNS)]
    shares = [[side["seconds"] / side["explaining"] for side in turn] for turn in turns]
    last = turns[-1]
    return {
        "model": arch,
        "method": method,
        "explanations": last[0]["explanations"],
        "ms per explanation": median(1000 * turn[0]["explaining"] / turn[0]["explanations"] for turn in turns),
        "total by explaining": median(share[0] for share in shares),
        "without what methods share": median(turn[0]["of the method"] / turn[0]["explaining"] for turn in turns),
        "Quantus: explanations": last[1]["explanations"],
        "Quantus: total by explaining": median(share[1] for share in shares),
    }


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "data.h5"
        generate(specs.load("single-6c").with_changes(rows=60 * 10, size=SIZE), path, workers=1)
        store = FlowerStore(path)
        rows = [compared(arch, method, store, Path(place)) for arch, method in CASES]
    about = {
        "rows": ROWS,
        "size": SIZE,
        "threads": 1,
        "turns": TURNS,
        "quantus": "MPRT, one similarity, cascading only",
    }
    report.write("sanity", rows, about)


if __name__ == "__main__":
    main()
