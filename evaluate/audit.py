"""AuditPlan -> cells -> run: what is asked, cut into pieces that can be done, lost and done again on their own.

A cell is one model, one method and a range of the chosen rows. Its name holds a hash of all that its numbers depend on,
so that a part on disk is either exactly what is asked for, or has another name.
"""

from __future__ import annotations

import hashlib
import json
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torchvision

import an8flower
from an8flower.errors import NotApplicable, Refusal
from an8flower.store import FlowerStore

from .cells import Judge, Target, model_name
from .classifier import Classifier
from .fit_files import fitted_once
from .fitting import StoredExamples
from .measures import askable, parse_metrics
from .methods import Method
from .metric import Need
from .models import open_model
from .resources import Resources
from .results import Run, summarise
from .seeds import seed_of
from .selection import select_rows
from .world import World

CELL_ROWS = 256


@dataclass(frozen=True)
class AuditPlan:
    """What is asked: everything in here changes the numbers, and nothing else does."""

    data: Path
    models: tuple[str, ...]  # safetensors files, or package.module:factory
    methods: tuple[Method, ...]
    metrics: tuple[str, ...]
    split: str = "test"
    rows: int | None = None  # all where None
    target: Target = "label"
    seed: int = 0


class Outcome(NamedTuple):
    """What came of a run."""

    document: dict[str, Any]  # as `score --json` prints it
    done: int  # cells that were computed now
    reused: int  # cells that lay there already


@dataclass(frozen=True)
class Cell:
    """A piece of the work: who is asked about which rows, and under which name the answer is filed."""

    label: str  # for people: what the file name starts with
    identity: tuple[str, ...]  # all that its numbers depend on besides the rows
    indices: np.ndarray
    about: dict[str, str]  # for messages

    @property
    def name(self) -> str:
        """The name of its part."""
        told = json.dumps([an8flower.__version__, *self.identity, self.indices.tolist()])
        return f"{self.label}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


class Ledger:
    """What happens to the cells of a run: each is done, found done, skipped, or failed."""

    def __init__(self, run: Run, total: int, progress: Callable[[int, int], None]) -> None:
        self.run = run
        self.filed: list[str] = []  # parts that answer the plan
        self.done = self.reused = 0
        self.skipped: list[dict[str, str]] = []
        self.failed: list[dict[str, str]] = []
        self._through, self._total, self._progress = 0, total, progress

    def settle(self, cell: Cell, make: Callable[[], pa.Table]) -> None:
        """Make a cell's part unless it is there. A failure fails its cell alone."""
        try:
            if self.run.has(cell.name):
                self.reused += 1
            else:
                self.run.write_part(cell.name, make())
                self.done += 1
            self.filed.append(cell.name)
        except NotApplicable as reason:
            self.skipped.append({**cell.about, "reason": str(reason)})
        except Exception as error:  # a foreign method may raise anything
            self._fail(cell, error)
        self._through += 1
        self._progress(self._through, self._total)

    def _fail(self, cell: Cell, error: Exception) -> None:
        told = {**cell.about, "reason": f"{type(error).__name__}: {error}"}
        self.run.write_json(self.run.failure(cell.name), {**told, "traceback": traceback.format_exc()})
        self.failed.append(told)


def audit(
    plan: AuditPlan, resources: Resources, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Outcome:
    """Do every cell that is not done, and summarise. `progress` is told how many cells are through, of how many.

    Raises Refusal where the plan cannot be begun: no such data, model, split or metric, or a model that does not fit.
    """
    store = FlowerStore(plan.data)
    models = [open_model(source, store, resources.device) for source in plan.models]
    asked = askable(parse_metrics(plan.metrics), lacking(store))
    if not asked.metrics:
        raise Refusal(asked.left_out[0]["reason"])
    judge = Judge(store[plan.split], plan.target, plan.seed, asked.metrics, resources, world_of(store, plan, resources))
    chosen = select_rows(judge.split.labels, plan.rows, seed_of("rows", plan.seed))
    blocks = [chosen[start : start + CELL_ROWS] for start in range(0, len(chosen), CELL_ROWS)]
    passes = 1 + len(models) * (len(plan.methods) + bool(judge.of_models))
    ledger = Ledger(Run(folder), len(blocks) * passes, progress)
    _settle_references(judge, ledger, store, blocks)
    described = [
        _settle_model(judge, ledger, store, plan.methods, classifier, source, blocks)
        for classifier, source in zip(models, plan.models, strict=True)
    ]
    data = {"name": store.name, "digest": store.digest, "split": plan.split, "rows": len(chosen)}
    document = _document(plan, judge, ledger, data, described) | {"left_out": list(asked.left_out)}
    _file(plan, judge, ledger, document, chosen)
    return Outcome(document, ledger.done, ledger.reused)


def lacking(store: FlowerStore) -> dict[Need, str]:
    """What a data set cannot be asked for, each with the sentence that says why."""
    found: dict[Need, str] = {}
    if store.spec is None:
        found["renderer"] = f"{store.path} has no spec, so its rows cannot be rendered again with one thing changed"
    if not store.part_names:
        found["parts"] = f"{store.path} has no part maps"
    return found


def world_of(store: FlowerStore, plan: AuditPlan, resources: Resources) -> World | None:
    """The world of the split that is scored; None where the data set has no spec."""
    return World.of(store[plan.split], resources.device) if store.spec else None


def _settle_references(judge: Judge, ledger: Ledger, store: FlowerStore, blocks: list[np.ndarray]) -> None:
    for indices in blocks:
        cell = Cell("reference", ("reference", *_identity(judge, store)), indices, {"method": "chance and truth"})
        ledger.settle(cell, partial(judge.score_references, indices))


def _settle_model(
    judge: Judge,
    ledger: Ledger,
    store: FlowerStore,
    methods: tuple[Method, ...],
    classifier: Classifier,
    source: str,
    blocks: list[np.ndarray],
) -> dict[str, Any]:
    """All cells of a model; what is known of it, with its accuracy on the chosen rows."""
    predicted = [judge.predict(classifier, indices) for indices in blocks]
    digest, name = classifier.digest, model_name(classifier)
    if judge.of_models:
        for indices, guesses in zip(blocks, predicted, strict=True):
            identity = ("reference", *_identity(judge, store), digest, judge.target)
            cell = Cell(f"{name}-reference", identity, indices, {"method": "chance and truth", "model": name})
            ledger.settle(cell, partial(judge.score_model_references, classifier, indices, guesses))
    for method in methods:
        identity = (*_identity(judge, store), digest, repr(method.explainer), judge.target)
        label = f"{name}-{method.name.replace(':', '.')}"
        ready = cache(partial(_fitted, judge, ledger, store, method, classifier, source))
        for indices, guesses in zip(blocks, predicted, strict=True):
            cell = Cell(label, identity, indices, {"method": method.text, "model": name})
            ledger.settle(cell, partial(_scored, judge, classifier, ready, indices, guesses))
    labels = judge.split.labels[np.concatenate(blocks)]
    accuracy = float((np.concatenate(predicted) == labels).mean())
    about = {"arch": classifier.arch, "seed": classifier.card.seed, "digest": digest, "accuracy": accuracy}
    return about | _precision_errors(judge, methods, classifier, blocks[0])


def _precision_errors(
    judge: Judge, methods: tuple[Method, ...], classifier: Classifier, indices: np.ndarray
) -> dict[str, Any]:
    """What lower precisions, where methods were asked for them, cost in accuracy; measured on the first rows."""
    asked = {getattr(method.explainer, "precision", "float32") for method in methods} - {"float32"}
    errors = {precision: judge.precision_error(classifier, indices, precision) for precision in sorted(asked)}
    return {"precision_error": errors} if errors else {}


def _fitted(
    judge: Judge, ledger: Ledger, store: FlowerStore, method: Method, classifier: Classifier, source: str
) -> Method:
    """A method that is ready to explain: fitted on the training split where it has to be."""
    examples, batch = StoredExamples(store, judge.resources.device), judge.resources.in_flight
    explainer = fitted_once(method.explainer, classifier, examples, source, ledger.run.folder, batch)
    return method._replace(explainer=explainer)


def _scored(
    judge: Judge, classifier: Classifier, ready: Callable[[], Method], indices: np.ndarray, predicted: np.ndarray
) -> pa.Table:
    """A cell's rows; only now, when one is missing, the method is made ready."""
    return judge.score(classifier, ready(), indices, predicted)


def _identity(judge: Judge, store: FlowerStore) -> tuple[str, ...]:
    metrics = json.dumps([(metric.name, metric.version) for metric in judge.metrics])
    return (store.digest, judge.split.name, str(judge.seed), metrics)


def _document(
    plan: AuditPlan, judge: Judge, ledger: Ledger, data: dict[str, Any], models: list[dict[str, Any]]
) -> dict[str, Any]:
    """What `score --json` prints. A method that is not through with every row has no entry in the results."""
    named = {repr(method.explainer): method for method in plan.methods}
    incomplete = {entry["method"] for entry in ledger.failed}
    selects = {metric.name: metric.select for metric in judge.metrics}
    results = []
    for entry in summarise(ledger.run.table(ledger.filed), selects, plan.seed):
        method = named[entry.pop("explainer")]
        if method.text not in incomplete:
            results.append({"method": method.name, "parameters": vars(method.explainer), **entry})
    return {
        "dataset": data,
        "target": plan.target,
        "models": models,
        "results": results,
        "skipped": list({json.dumps(entry): entry for entry in ledger.skipped}.values()),
        "failed": ledger.failed,
        "versions": versions(),
    }


def _file(plan: AuditPlan, judge: Judge, ledger: Ledger, document: dict[str, Any], chosen: np.ndarray) -> None:
    """plan.json tells what was asked and which parts answer it, summary.json what came out."""
    asked = {
        "data": {**document["dataset"], "path": str(plan.data)},
        "models": list(plan.models),
        "methods": [method.text for method in plan.methods],
        "metrics": [metric.card() for metric in judge.metrics],
        "target": plan.target,
        "seed": plan.seed,
        "rows": chosen.tolist(),
        "parts": ledger.filed,
        "versions": document["versions"],
    }
    ledger.run.write_json(ledger.run.folder / "plan.json", asked)
    ledger.run.write_json(ledger.run.folder / "summary.json", {**document, "cards": asked["metrics"]})


def versions() -> dict[str, str]:
    """The versions that numbers may depend on."""
    return {
        "an8flower": an8flower.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
    }
