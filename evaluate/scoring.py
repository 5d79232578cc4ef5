"""ScoringPlan -> cells -> run: what is asked, cut into pieces that can be done, lost and done again on their own.

A cell is one model, one method and a range of the chosen rows.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision

import an8flower
from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from .causes import part_threshold
from .causes.reliance import warnings
from .causes.world import World
from .cells import Judge, Target
from .ledger import Cell, Ledger
from .measures import askable, parse_metrics
from .methods import Method
from .metric import Need
from .model_cells import ModelCells
from .models import open_model
from .resources import Resources
from .results import RELIANCE, Kind, Run, contrasts, summarise
from .seeds import seed_of
from .selection import select_rows

CELL_ROWS = 256


@dataclass(frozen=True)
class ScoringPlan:
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


def score(
    plan: ScoringPlan,
    resources: Resources,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Do every cell that is not done, and summarise. `progress` is told how many cells are through, of how many.

    Raises Refusal where the plan cannot be begun: no such data, model, split or metric, or a model that does not fit.
    """
    store = FlowerStore(plan.data)
    models = [open_model(source, store, resources.device) for source in plan.models]
    asked = askable(parse_metrics(plan.metrics), lacking(store) | part_threshold.lacking(store, plan.split))
    if not asked.metrics:
        raise Refusal(asked.left_out[0]["reason"])
    judge = Judge(store[plan.split], plan.target, plan.seed, asked.metrics, resources, world_of(store, plan, resources))
    judge = _validating(judge, store)
    chosen = select_rows(judge.split.labels, plan.rows, seed_of("rows", plan.seed))
    blocks = [chosen[start : start + CELL_ROWS] for start in range(0, len(chosen), CELL_ROWS)]
    passes = 1 + len(models) * (len(plan.methods) + bool(judge.of_models) + bool(judge.world))
    ledger = Ledger(Run(folder), len(blocks) * passes, progress)
    _settle_references(judge, ledger, blocks)
    described = [
        ModelCells(judge, ledger, classifier, source, blocks).settle(plan.methods)
        for classifier, source in zip(models, plan.models, strict=True)
    ]
    data = {"name": store.name, "digest": store.digest, "split": plan.split, "rows": len(chosen)}
    document = _document(plan, judge, ledger, data, described) | {"left_out": list(asked.left_out)}
    document["warnings"] = [sentence for model in described for sentence in _warnings(judge, model)]
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


def world_of(store: FlowerStore, plan: ScoringPlan, resources: Resources) -> World | None:
    """The world of the split that is scored; None where the data set has no spec."""
    return World.of(store[plan.split], resources.device) if store.spec else None


def _validating(judge: Judge, store: FlowerStore) -> Judge:
    """The judge with one for the validation rows beside it, where a metric asks for what is chosen on them."""
    if not any("threshold" in metric.needs for metric in judge.metrics):
        return judge
    split = store[part_threshold.SPLIT]
    return replace(judge, validation=replace(judge, split=split, world=World.of(split, judge.resources.device)))


def _settle_references(judge: Judge, ledger: Ledger, blocks: list[np.ndarray]) -> None:
    for indices in blocks:
        cell = Cell("reference", ("reference", *judge.identity), indices, {"method": "chance and truth"})
        ledger.settle(cell, partial(judge.score_references, indices))


def _warnings(judge: Judge, model: dict[str, Any]) -> list[str]:
    """What has to be known of a model before its scores are read."""
    if judge.world is None or RELIANCE not in model:
        return []
    return warnings(f"{model['arch']} seed {model['seed']}", model[RELIANCE], judge.world.spec)


def _document(
    plan: ScoringPlan, judge: Judge, ledger: Ledger, data: dict[str, Any], models: list[dict[str, Any]]
) -> dict[str, Any]:
    """What `score --json` prints. A method that is not through with every row has no entry in the results."""
    named = {repr(method.explainer): method for method in plan.methods}
    incomplete = {entry["method"] for entry in ledger.failed}
    kinds = {each.name: Kind(each.select, each.family, each.higher_is_better, each.bounds) for each in judge.metrics}
    table, results = ledger.run.table(ledger.filed), []
    for entry in summarise(table, kinds, plan.seed):
        method = named[entry.pop("explainer")]
        if method.text not in incomplete:
            called = {"method": method.name, "text": method.text, "parameters": vars(method.explainer)}
            results.append({**called, **entry})
    complete = {name: method.text for name, method in named.items() if method.text not in incomplete}
    return {
        "dataset": data,
        "target": plan.target,
        "models": models,
        "results": results,
        "families": {metric.name: metric.family for metric in judge.metrics},
        **contrasts(table, kinds, complete, plan.seed),
        "skipped": list({json.dumps(entry): entry for entry in ledger.skipped}.values()),
        "failed": ledger.failed,
        "versions": versions(),
    }


def _file(plan: ScoringPlan, judge: Judge, ledger: Ledger, document: dict[str, Any], chosen: np.ndarray) -> None:
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
