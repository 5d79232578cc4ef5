"""ScoringPlan -> cells -> run: what is asked, cut into pieces that can be done, lost and done again on their own.

A cell is one model, one method and a range of the chosen rows.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

import an8flower
from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from ..data.seal import DataSeal
from ..data.selection import select_rows
from ..data.world import World
from ..explaining.fitting import StoredExamples, is_fitted_first
from ..explaining.methods import Method, family_of, parse_method
from ..explaining.stored_maps import StoredMaps
from ..metrics.interventions import part_threshold
from ..metrics.interventions.reliance import redundancy_warnings, warnings
from ..metrics.naming import parse_metrics
from ..models.classifier import Classifier
from ..models.networks.arithmetic import describe_arithmetic
from ..models.sources import Source, open_judged
from ..resources import Resources
from ..results.boards import boards
from ..results.files import write_json
from ..results.folder import RunFolder
from ..results.ledger import Cell, Content, Ledger, Work, broken_metrics, without_metrics
from ..results.reliability import reliability_warnings
from ..results.skill import SKILL_CONTROLS
from ..results.summary import CHANCE, ORACLE, RELIANCE, contrasts, summarise
from ..results.wording import model_words
from ..seeds import seed_of
from .fine_tuned import FineTuner, files_of
from .judge import Judge, Target, TruthKind
from .leading import check_leading, choose_leading
from .model_cells import ModelCells
from .needs import missing_needs, select_computable
from .truth_by_use import check_use

CELL_ROWS = 256


@dataclass(frozen=True)
class ScoringPlan:
    """What is asked: everything in here changes the numbers, and nothing else does.

    It can be made of words alone, and then travels to a worker.
    """

    data: Path
    models: tuple[str | Source, ...]  # safetensors files, package.module:factory, networks
    methods: tuple[str | Method, ...]  # a text is parsed when the plan is opened
    metrics: tuple[str, ...]
    split: str = "test"
    rows: int | None = None  # all where None
    target: Target = "label"
    truth: TruthKind = "association"
    seed: int = 0
    leading: tuple[str, ...] = ()  # of the metrics, the first ranks methods; see `leading.choose_leading` for none


class ScoringOutcome(NamedTuple):
    """The document and the cells of a scoring run."""

    document: dict[str, Any]  # as `score --json` prints it
    done: int  # cells that were computed now
    reused: int  # cells that lay there already
    filed: list[str]  # the cells that answer it, in the folder of the run


class Scoring:
    """A plan that is open: its data, its models, and the cells that it takes.

    Raises Refusal where the plan cannot be begun: no such data, model, split or metric, or a model that does not fit.
    """

    def __init__(self, plan: ScoringPlan, resources: Resources, folder: Path, keep_maps: bool = False) -> None:
        self.plan, self.store = plan, FlowerStore(plan.data)
        self.data_seal = DataSeal(self.store)
        if plan.truth == "use":
            check_use(self.store)
        check_leading(plan.leading, plan.metrics)
        models = [open_judged(source, self.store, resources.device) for source in plan.models]
        lacks = missing_needs(self.store) | part_threshold.missing_needs(self.store, plan.split)
        possible = select_computable(parse_metrics(plan.metrics), lacks)
        if not possible.metrics:
            raise Refusal(possible.left_out[0]["reason"])
        self.left_out = list(possible.left_out)
        self.methods = tuple(parse_method(text) if isinstance(text, str) else text for text in plan.methods)
        judge = Judge(
            split=self.store[plan.split],
            target=plan.target,
            seed=plan.seed,
            metrics=possible.metrics,
            resources=resources,
            world=world_of(self.store, plan, resources, folder / "effects"),
            truth=plan.truth,
            fine_tuner=_fine_tuner_of(self.store, models, plan.models, folder),
        )
        self.judge = _with_validation(judge, self.store)
        self.chosen = select_rows(judge.split.labels, plan.rows, seed_of("rows", plan.seed))
        self.blocks = [self.chosen[start : start + CELL_ROWS] for start in range(0, len(self.chosen), CELL_ROWS)]
        self.models = [
            ModelCells(
                self.judge,
                classifier,
                source,
                self.blocks,
                folder=folder,
                keep_maps=keep_maps,
                check_data=self.data_seal.check,
            )
            for classifier, source in zip(models, plan.models, strict=True)
        ]

    def cells(self) -> list[Work]:
        """All cells: what asks no model, and those of each model."""
        return [*self.references(), *(work for model in self.models for work in model.cells(self.methods))]

    def references(self) -> Iterator[Work]:
        """What chance and the truth score by the metrics that ask no model."""
        content = Content(None, (CHANCE, ORACLE), tuple(metric.name for metric in self.judge.of_maps))
        about = {"method": "chance and truth"}
        for indices in self.blocks:
            cell = Cell("reference", ("reference", *self.judge.identity), indices, about, content=content)
            yield cell, partial(self._score_references, indices)

    def _score_references(self, indices: np.ndarray) -> pa.Table:
        """What chance and the truth score on rows, of data that are what they were."""
        rows = self.judge.score_references(indices)
        self.data_seal.check()
        return rows

    def refuse_damaged(self) -> None:
        """Raise a Refusal if what is read of the data set is not what its checksums say."""
        fitted = any(is_fitted_first(method.explainer) for method in self.methods)
        validation = [] if self.judge.validation is None else [self.judge.validation.split.name]
        splits = dict.fromkeys([self.judge.split.name, *validation, *([StoredExamples.split] if fitted else [])])
        if broken := [
            place for split in splits if split in self.store.splits for place in self.store[split].list_damage()
        ]:
            raise Refusal(
                f"{self.store.path}: {', '.join(broken)} damaged: not what was recorded when the file was written; "
                "put a whole file there, or make it again"
            )

    def refuse_foreign_maps(self) -> None:
        """Raise the first Refusal of maps from files that are for none of the models."""
        for method in self.methods:
            if isinstance(method.explainer, StoredMaps):
                reasons = [model.reason_against(method) for model in self.models]
                if all(reasons):
                    raise next(filter(None, reasons))

    def check_accuracy(self, warn: Callable[[str], None]) -> None:
        """Say, before anything is scored, which models are at chance or far below what their files state."""
        if "planting" in self.store.file.attrs:  # where marks contradict labels, accuracy says nothing of the model
            return
        for model in self.models:
            if doubt := model.check_accuracy():
                warn(doubt)

    def document(self, ledger: Ledger) -> dict[str, Any]:
        """What `score --json` prints, of cells that are settled."""
        store, plan = self.store, self.plan
        data = {"name": store.name, "digest": store.digest, "split": plan.split, "rows": len(self.chosen)}
        described = [model.describe(self.methods, ledger) for model in self.models]
        redundant = redundancy_warnings(store.spec) if store.spec else []
        lacking = [store.lack] if store.lack else []
        doubts = [check.doubt for model in self.models if (check := model.accuracy_check) and check.doubt]
        warned = doubts + [sentence for model in described for sentence in _warnings(self.judge, model)]
        document = _document(self, ledger, data, described)
        return {
            **document,
            "left_out": self.left_out,
            "redundant": next(iter(redundant), None),
            "warnings": [*lacking, *redundant, *warned, *reliability_warnings(len(self.chosen))],
        }

    def cards(self, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """The cards of the metrics that are asked; without some, such as those that failed."""
        return [metric.card() for metric in self.judge.metrics if metric.name not in without]


def settle_here(scoring: Scoring, ledger: Ledger) -> None:
    """Do every cell that is not done, one after the other in this process."""
    for cell, make in scoring.cells():
        ledger.settle(cell, make)


def score(
    plan: ScoringPlan,
    resources: Resources,
    folder: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
    settle: Callable[[Scoring, Ledger], None] = settle_here,
    warn: Callable[[str], None] = lambda sentence: None,
) -> ScoringOutcome:
    """Do every cell that is not done, and summarise.

    Args:
        progress: is told how many cells are through, of how many.
        settle: does the cells, and enters into the ledger what became of them.
        warn: is told, before anything is scored, which model is at chance or far below what its file states.

    Raises Refusal as `Scoring` does.
    """
    opened = Scoring(plan, resources, folder)
    opened.refuse_damaged()
    opened.refuse_foreign_maps()
    opened.check_accuracy(warn)
    ledger = Ledger(RunFolder(folder), len(opened.cells()), progress)
    settle(opened, ledger)
    document = opened.document(ledger)
    _file(opened, ledger, document)
    return ScoringOutcome(document, ledger.done, ledger.reused, ledger.filed)


def world_of(store: FlowerStore, plan: ScoringPlan, resources: Resources, folder: Path) -> World | None:
    """The world of the split that is scored, with a folder for what is measured once; None without a spec."""
    return replace(World.of(store[plan.split], resources.device), folder=folder) if store.spec else None


def _fine_tuner_of(
    store: FlowerStore, models: list[Classifier], sources: tuple[str | Source, ...], folder: Path
) -> FineTuner:
    """Whoever fine-tunes the models of a plan, and keeps what comes of it beside their files."""
    digests = [classifier.digest for classifier in models]
    return FineTuner(store, files_of(dict(zip(digests, sources, strict=True))), folder)


def _with_validation(judge: Judge, store: FlowerStore) -> Judge:
    """The judge with one for the validation rows beside it, where a metric asks for what is chosen on them."""
    if not any("threshold" in metric.needs for metric in judge.metrics):
        return judge
    split, folder = store[part_threshold.SPLIT], judge.world.folder if judge.world else None
    world = replace(World.of(split, judge.resources.device), folder=folder)
    return replace(judge, validation=replace(judge, split=split, world=world))


def _warnings(judge: Judge, model: dict[str, Any]) -> list[str]:
    """What has to be known of a model before its scores are read."""
    if judge.world is None or RELIANCE not in model:
        return []
    return warnings(model_words(model), model[RELIANCE], judge.world.spec)


def _document(scoring: Scoring, ledger: Ledger, data: dict[str, Any], models: list[dict[str, Any]]) -> dict[str, Any]:
    """What `score --json` prints. A method that is not through with every row has no entry in the results."""
    plan, judge = scoring.plan, scoring.judge
    named = {repr(method.explainer): method for method in scoring.methods}
    incomplete = {entry["method"] for entry in ledger.failed}
    kinds = {metric.name: metric.kind for metric in judge.metrics}
    table, results = ledger.run.table(ledger.filed), []
    broken = broken_metrics(table)
    table, kinds = without_metrics(table, broken), {name: kind for name, kind in kinds.items() if name not in broken}
    blind = _blind_controls(scoring)
    for entry in summarise(table, kinds, plan.seed, blind):
        method = named[entry.pop("explainer")]
        if method.text not in incomplete:
            called = {"method": method.name, "text": method.text, "parameters": vars(method.explainer)}
            results.append({**called, "family": method.family or family_of(method.name), **entry})
    complete = {name: method.text for name, method in named.items() if method.text not in incomplete}
    return {
        "dataset": data,
        "target": plan.target,
        **({"truth": plan.truth} if plan.truth != "association" else {}),
        "models": models,
        "results": results,
        "leading": choose_leading(plan.leading, kinds),
        "families": {name: kind.family for name, kind in kinds.items()},
        **contrasts(table, kinds, complete, plan.seed),
        "boards": boards(table, kinds, complete, controls_of(scoring), plan.seed, blind),
        "skipped": list({json.dumps(entry): entry for entry in ledger.skipped}.values()),
        "failed": ledger.failures,
        "versions": versions(),
        "machine": describe_arithmetic(judge.resources.device),
    }


def controls_of(scoring: Scoring) -> set[str]:
    """The methods that explain nothing, by the repr of their explainers."""
    return {repr(method.explainer) for method in scoring.methods if family_of(method.name) == "baselines"}


def _blind_controls(scoring: Scoring) -> dict[str, str]:
    """The texts of the controls that skill is measured against, by the repr of their explainers."""
    return {repr(method.explainer): method.text for method in scoring.methods if method.name in SKILL_CONTROLS}


def _file(opened: Scoring, ledger: Ledger, document: dict[str, Any]) -> None:
    """plan.json tells what was asked and which parts answer it, summary.json what came out."""
    plan = opened.plan
    request = {
        "data": {**document["dataset"], "path": str(plan.data)},
        "models": [str(source) for source in plan.models],
        "methods": [method.text for method in opened.methods],
        "metrics": opened.cards(),
        "leading": document["leading"],
        "target": plan.target,
        **({"truth": plan.truth} if plan.truth != "association" else {}),
        "seed": plan.seed,
        "rows": opened.chosen.tolist(),
        "parts": ledger.filed,
        "explainers": {method.text: repr(method.explainer) for method in opened.methods},
        "versions": document["versions"],
        "machine": document["machine"],
    }
    write_json(ledger.run.folder / "plan.json", request)
    cards = [card for card in request["metrics"] if card["name"] in document["families"]]
    write_json(ledger.run.folder / "summary.json", {**document, "cards": cards})


def versions() -> dict[str, str]:
    """The versions that numbers may depend on."""
    return {
        "an8flower": an8flower.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
    }
