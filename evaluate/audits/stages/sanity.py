"""The stage that checks the sanity of methods: do their maps change when the model is randomised?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from ...results import answers, files
from ...results.ledger import Cell, Ledger
from ...results.sanity_outcomes import settle
from ...trust.sanity.plan import SanityPlan, sanity_plan_type
from ..cell_tasks import CellOutcome, CellTask, PicturedLedger, run_cell
from ..plan_table import to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...scoring.model_cells import ModelCells
    from ...trust.sanity.run import ModelSanity
    from ..opened import ModelWords

FIRST_KEYS = {"methods", "rows", "steps", "draws", "labels"}  # on which the names of all cells depend


@register
class SanityStage(Stage):
    """The stage that runs the sanity checks of every method on every model."""

    name = "sanity"
    version = 2  # 1: rows as the unit, one draw of the last layer, and an outcome for each similarity
    folders = ("sanity",)
    rank = 3
    key = "sanity"
    reduced: ClassVar = {"sanity_rows": "rows", "labels": "labels"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[sanity]`."""
        return sanity_plan_type()

    def open_ledger(self) -> Ledger:
        """Make the ledger of documents with pictures beside them."""
        return PicturedLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @property
    def _plan(self) -> SanityPlan:
        """The options of the checks, without the list of methods."""
        return SanityPlan.model_copy(self.options, update={"methods": None})

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str | None, Cell]]:
        """For each model one cell for what all methods share (method None), then one for each method."""
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
        """The tasks that check each method on each model."""
        for model, method, cell in self.cells:
            plan = self._plan.model_dump_json()
            yield self.task(cell, check_sanity, self.words_of(model), plan, method, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """A document for each model, as `sanity --json` prints it; a method's tests on all of them are one family."""
        documents = map(self._document_of, self.study.scoring.models)
        return {"sanity": settle([document for document in documents if document])}

    def _document_of(self, model: ModelCells) -> dict[str, Any] | None:
        """The sanity document of one model; None if what its methods share could not be computed."""
        documents = {
            method: answers.read_document(Path(self.place(cell)))
            for owner, method, cell in self.cells
            if owner is model
        }
        shared = documents.pop(None, None)
        if not shared:
            return None
        skipped, failed = (
            [entry for entry in entries if entry["model"] == model.name]
            for entries in (self.ledger.skipped, self.ledger.failed)
        )
        results = [document for document in documents.values() if document]
        return {**shared, "results": results, "skipped": skipped, "failed": failed}


def check_sanity(model: ModelWords, plan: str, method: str | None, place: str) -> CellOutcome:
    """Check a method on a model and file its result; without a method, file what all methods on the model share."""
    from ...explaining.methods import parse_method
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
                answer = files.without_nan({"text": method, **checked.examine(parse_method(method), keep)})
        for arrays in pictures:
            answers.write_sealed_arrays(_beside(Path(place)), arrays)
        answers.write_document(Path(place), answer)

    return run_cell(make)


@lru_cache(maxsize=1)
def open_sanity(model: ModelWords, plan: str) -> ModelSanity:
    """Draw the randomised copies of a model, once in this process; the plan comes as JSON."""
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
