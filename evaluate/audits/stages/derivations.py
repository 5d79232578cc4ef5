"""The stage that derives the effects of a model a second time, without a gradient, and compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ...results import answers
from ...results.ledger import Cell
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords


class DerivationTable(PlanTable):
    """The options of the second derivation: of how many rows regions are swapped, and in how many orders."""

    rows: Count = 8  # or all if there are fewer
    orders: Count = 2  # of the regions of a row, each with its reverse


@register
class DerivationStage(Stage):
    """The stage that compares two derivations of what each model uses, if a metric of the plan asks for effect maps."""

    name = "derivations"
    folders = ("derivations",)
    rank = 2
    key = "derivations"
    default = DerivationTable()

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[derivations]`."""
        return DerivationTable

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Cell]]:
        """One cell for each model; none if the plan asks for none, or no metric is held against an effect map."""
        judge = self.study.scoring.judge
        asks = any(metric.ideal and "renderer" in metric.needs for metric in judge.metrics)
        if self.options is None or judge.world is None or not asks:
            return []
        words = f"{to_words(self.options, 'Derivations')} {judge.target}"
        return [(model, self.cell(model, "", words)) for model in self.study.scoring.models]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that compare the derivations for each model."""
        for model, cell in self.cells:
            yield self.task(cell, compare_on_rows, self.words_of(model), *self._options, self.place(cell))

    @property
    def _options(self) -> tuple[int, int]:
        return self.options.rows, self.options.orders

    def to_document(self) -> dict[str, Any]:
        """The agreement of the two derivations, a document for each model; nothing if there are no effect maps."""
        documents = [answers.read_document(Path(self.place(cell))) for _, cell in self.cells]
        compared = [document for document in documents if document]
        return {"derivations": compared} if compared else {}


def compare_on_rows(model: ModelWords, rows: int, orders: int, place: str) -> CellOutcome:
    """Compare the two derivations on so many rows, or on all if there are fewer, and file what came out."""
    from ...data.selection import select_rows
    from ...seeds import seed_of
    from ...trust.derivations import compare_derivations
    from ..opened import classifier_of, open_once, whole

    def make() -> None:
        judge = open_once(model).judge
        labels = judge.split.labels
        indices = select_rows(labels, min(rows, len(labels)), seed_of("derivations", judge.seed))
        with whole(model):
            classifier = classifier_of(model)
            case = judge.case(classifier, indices, judge.predict(classifier, indices))
            document = compare_derivations(case, judge.seed, orders)
        answers.write_document(Path(place), {"model": classifier.name, "orders": orders, **document})

    return run_cell(make)
