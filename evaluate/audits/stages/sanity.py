"""The stage that checks sanity: whether methods notice that a model is randomised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from ...results import files
from ...results.arrays import write_arrays
from ...results.ledger import Cell, Ledger
from ...trust.sanity.plan import SanityPlan, sanity_plan_type
from ..cell_tasks import CellTask, PicturedLedger, Settled, settle
from ..plan_table import to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...scoring.model_cells import ModelCells
    from ...trust.sanity.run import ModelSanity
    from ..opened import ModelWords

FIRST_KEYS = {"methods", "rows", "steps", "draws", "labels"}  # on which the names of all cells depend


@register
class SanityStage(Stage):
    """The sanity checks of every method on every model."""

    name = "sanity"
    folders = ("sanity",)
    rank = 3
    key = "sanity"
    reduced: ClassVar = {"sanity_rows": "rows", "labels": "labels"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The table `[sanity]`."""
        return sanity_plan_type()

    def open_ledger(self) -> Ledger:
        """The account of documents with pictures beside them."""
        return PicturedLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @property
    def _plan(self) -> SanityPlan:
        """What is asked of each method."""
        return SanityPlan.model_copy(self.options, update={"methods": None})

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str | None, Cell]]:
        """For each model the cell of what all methods share, then one for each method."""
        if self.options is None:
            return []
        from ...explaining.methods import parse_methods

        methods = [method.text for method in parse_methods(self.options.methods or self.study.plan.methods)]
        words = to_words(self._plan, "Sanity", set(type(self._plan).model_fields) - FIRST_KEYS)
        return [
            (model, method, self.cell(model, method or "", words))
            for model in self.study.scoring.models
            for method in (None, *methods)
        ]

    def tasks(self) -> Iterator[CellTask]:
        """The checks of each method on each model as a task."""
        for model, method, cell in self.cells:
            plan = self._plan.model_dump_json()
            yield self.task(cell, check_sanity, self.words_of(model), plan, method, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """A document for each model, as `sanity --json` prints it."""
        documents = map(self._document_of, self.study.scoring.models)
        return {"sanity": [document for document in documents if document]}

    def _document_of(self, model: ModelCells) -> dict[str, Any] | None:
        answers = {
            method: files.read_json(Path(self.place(cell))) for owner, method, cell in self.cells if owner is model
        }
        shared = answers.pop(None, None)
        if not shared:
            return None
        skipped, failed = (
            [entry for entry in entries if entry["model"] == model.name]
            for entries in (self.ledger.skipped, self.ledger.failed)
        )
        results = [answer for answer in answers.values() if answer]
        return {**shared, "results": results, "skipped": skipped, "failed": failed}


def check_sanity(model: ModelWords, plan: str, method: str | None, place: str) -> Settled:
    """Check a method and file what is found, or what all methods on the model share where no method comes."""
    from ...explaining.methods import parse_method
    from ...trust.sanity.run import without_nan
    from ..opened import whole

    def make() -> None:
        pictures: list[Mapping[str, np.ndarray]] = []

        def keep(arrays: Mapping[str, np.ndarray]) -> str:
            pictures.append(arrays)
            return f"{Path(place).parent.name}/{_beside(Path(place)).name}"

        with whole(model, open_sanity):
            checked = open_sanity(model, plan)
            if method is None:
                answer = checked.document([])
            else:
                answer = without_nan({"text": method, **checked.examine(parse_method(method), keep)})
        for arrays in pictures:
            write_arrays(_beside(Path(place)), arrays)
        files.write_json(Path(place), answer)

    return settle(make)


@lru_cache(maxsize=1)
def open_sanity(model: ModelWords, plan: str) -> ModelSanity:
    """The random models of a model, drawn once in this process; the plan comes as JSON."""
    from ...trust.sanity.run import ModelSanity
    from ..opened import classifier_of, open_once

    judge = open_once(model).judge
    wanted = sanity_plan_type().model_validate_json(plan)
    folder = Path(model.study.folder) / "models"
    classifier = classifier_of(model)
    return ModelSanity(classifier, judge.split, wanted, model.study.resources, folder=folder, seed=judge.seed)


def _beside(place: Path) -> Path:
    """The path of the pictures of a document."""
    return place.with_suffix(".npz")
