"""Models judged by their prototypes on rows of a split, with the pictures of each: what the command and audits file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from an8flower.errors import NotApplicable
from an8flower.store import FlowerSplit

from ...data.selection import select_rows
from ...data.world import World
from ...models.accuracy_check import check_accuracy
from ...models.classifier import Classifier
from ...models.networks.arithmetic import describe_arithmetic
from ...models.sources import Source, open_judged
from ...resources import Resources
from ...results.arrays import write_arrays
from ...results.prototype_results import JudgedModel, PrototypesDocument, SkippedModel
from ...seeds import seed_of
from .describing import Description, describe_prototypes
from .judge import PrototypeJudge
from .locating import network_of
from .measures import STRONGEST

ROWS = 300  # unless more or fewer are wanted


@dataclass(frozen=True)
class PrototypeTest:
    """The rows by which prototypes are judged, and how."""

    split: FlowerSplit
    rows: int | None = None  # None means `ROWS`, or all if there are fewer
    seed: int = 0
    published: bool = False  # whether the published definitions are computed as well

    @property
    def indices(self) -> np.ndarray:
        """The rows, spread evenly over the classes; raises WrongUsage if there are not that many."""
        labels = self.split.labels
        count = min(ROWS, len(labels)) if self.rows is None else self.rows
        return select_rows(labels, count, seed_of("rows", self.seed))

    def describe(self, classifier: Classifier, resources: Resources) -> Description:
        """Judge the prototypes of a classifier; raises as `describe_prototypes` does."""
        network_of(classifier)  # refused before anything is read
        world = World.of(self.split, resources.device) if self.split.store.spec is not None else None
        judge = PrototypeJudge(
            *(classifier, self.split, self.indices, world, self.seed, resources.in_flight), published=self.published
        )
        return describe_prototypes(judge)

    def to_document(self, results: Sequence[JudgedModel], skipped: Sequence[SkippedModel]) -> PrototypesDocument:
        """The document of the models that were judged, and of those that were not."""
        return PrototypesDocument(
            rows=len(self.indices),
            split=self.split.name,
            strongest=STRONGEST,
            published=self.published,
            results=tuple(results),
            skipped=tuple(skipped),
        )


def judge_models(
    sources: Sequence[str | Source],
    test: PrototypeTest,
    resources: Resources,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Judge the prototypes of models, and describe them as `prototypes --json` prints them.

    Args:
        folder: where the pictures of each model go, as MODEL-prototypes.npz; None writes none.
        warn: takes a sentence about each model that is at chance or far below what its file states.

    Raises:
        NotApplicable: no model has prototypes that can be judged; the reason is that of the first.
        Refusal: no such model, or it does not fit the data.
        WrongUsage: there are not that many rows.
    """
    store = test.split.store
    models = [open_judged(source, store, resources.device) for source in sources]
    doubts = [check_accuracy(model, test.split, resources.in_flight).doubt for model in models]
    for doubt in filter(None, doubts):
        warn(doubt)
    results: list[JudgedModel] = []
    skipped: list[SkippedModel] = []
    for done, model in enumerate(models):
        progress(done, len(models))
        try:
            results.append(_file(test.describe(model, resources), folder))
        except NotApplicable as reason:
            skipped.append(SkippedModel(model=model.name, reason=str(reason)))
    if not results:
        raise NotApplicable(skipped[0].reason)
    return {
        "dataset": {"name": store.name, "digest": store.digest},
        "seed": test.seed,
        "prototypes": test.to_document(results, skipped).model_dump(mode="json"),
        "machine": describe_arithmetic(resources.device),
        "warnings": list(filter(None, doubts)),
    }


def _file(description: Description, folder: Path | None) -> JudgedModel:
    """The document of a model, which names the file of its pictures if there is a folder for it."""
    if folder is None:
        return description.model
    name = f"{description.model.model}-prototypes.npz"
    write_arrays(folder / name, description.pictures)
    return description.model.model_copy(update={"pictures": name})
