"""The stage that judges the prototypes of networks that have some: what they stand for, by exact parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from ...results import answers
from ...results.ledger import Cell, Ledger
from ...results.prototype_results import KEY, JudgedModel, SkippedModel
from ..cell_tasks import CellOutcome, CellTask, PicturedLedger, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...metrics.prototypes.judging import PrototypeTest
    from ...scoring.judge import Judge
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords


class PrototypesTable(PlanTable):
    """The options of judging prototypes: on how many rows, and whether by the published definitions as well."""

    rows: Count = 300  # or all if there are fewer
    published: bool = False


@register
class PrototypesStage(Stage):
    """The stage that judges the prototypes of every model that has some, if the plan asks."""

    name = "prototypes"
    folders = ("prototypes",)
    rank = 2.5
    key = KEY
    reduced: ClassVar = {"prototypes_rows": "rows"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[prototypes]`."""
        return PrototypesTable

    def open_ledger(self) -> Ledger:
        """Make the ledger of documents with pictures beside them."""
        return PicturedLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Cell]]:
        """One cell for each model; none if the plan does not ask."""
        if self.options is None:
            return []
        words = to_words(self.options, "Prototypes")
        return [(model, self.cell(model, "", words)) for model in self.study.scoring.models]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that judge the prototypes of each model."""
        for model, cell in self.cells:
            yield self.task(cell, judge_prototypes, self.words_of(model), self.options, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """How the prototypes of each model were judged, and why those of others were not."""
        if not self.cells:
            return {}
        documents = [answers.read_document(Path(self.place(cell))) for _, cell in self.cells]
        results = [JudgedModel.model_validate(document) for document in documents if document]
        skipped = [SkippedModel(model=entry["model"], reason=entry["reason"]) for entry in self.ledger.skipped]
        test = to_test(self.options, self.study.scoring.judge)
        return {KEY: test.to_document(results, skipped).model_dump(mode="json")}


def to_test(options: PrototypesTable, judge: Judge) -> PrototypeTest:
    """The rows of a data set by which prototypes are judged, as a plan says; all if there are fewer."""
    from ...metrics.prototypes.judging import PrototypeTest

    return PrototypeTest(judge.split, min(options.rows, len(judge.split.labels)), judge.seed, options.published)


def judge_prototypes(model: ModelWords, options: PrototypesTable, place: str) -> CellOutcome:
    """Judge the prototypes of a model, and file the document, with the pictures beside it.

    It is skipped if the network has no prototypes, or the data have no part maps.
    """
    from ..opened import classifier_of, open_once, whole

    def make() -> None:
        test = to_test(options, open_once(model).judge)
        with whole(model):
            description = test.describe(classifier_of(model), model.study.resources)
        beside = Path(place).with_suffix(".npz")
        answers.write_sealed_arrays(beside, description.pictures)
        judged = description.model.model_copy(update={"pictures": f"{beside.parent.name}/{beside.name}"})
        answers.write_document(Path(place), judged.model_dump(mode="json"))

    return run_cell(make)
