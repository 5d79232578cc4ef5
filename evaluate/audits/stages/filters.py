"""The stage that describes the filters which an interpreting method finds relevant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...results.answers import write_sealed_arrays
from ...results.ledger import Cell
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...explaining.methods import Method
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords

INTERPRETED = "vebi"  # the method whose filters are described


@register
class FilterStage(Stage):
    """The stage that describes the relevant filters of every model on which the interpreting method was scored."""

    name = "filters"
    folders = ("filters",)
    suffix = ".npz"
    after = ("scores",)
    rank = 2

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Method, Cell]]:
        """One cell for each model on which the interpreting method was scored."""
        scores, scoring = self.earlier["scores"].ledger, self.study.scoring
        missing = {(entry["method"], entry.get("model")) for entry in (*scores.skipped, *scores.failed)}
        return [
            (model, method, self.cell(model, method.text, repr("")))
            for method in scoring.methods
            if method.name == INTERPRETED
            for model in scoring.models
            if (method.text, model.name) not in missing
        ]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that describe the filters of each model."""
        for model, method, cell in self.cells:
            yield self.task(cell, look_into_filters, self.words_of(model), method.text, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The files with the filters' pictures and numbers, relative to the run's folder."""
        return {
            "filters": [
                {"model": model.name, "method": method.text, "file": f"{self.folders[0]}/{cell.name}{self.suffix}"}
                for model, method, cell in self.cells
                if cell.name in self.ledger.filed
            ]
        }


def look_into_filters(model: ModelWords, method: str, place: str) -> CellOutcome:
    """Describe the filters that a fitted method finds relevant in a model, and file the arrays."""
    from ..filters import filters_of
    from ..opened import classifier_of, fit_method, open_once, whole

    def make() -> None:
        with whole(model):
            ready, judge = fit_method(model, method), open_once(model).judge
            arrays = filters_of(classifier_of(model), ready, judge, judge.seed)
        write_sealed_arrays(Path(place), arrays)

    return run_cell(make)
