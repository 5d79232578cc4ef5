"""The stage that collects pictures: of the same rows for all methods, and of each method's best and worst rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ...results.answers import write_sealed_arrays
from ...results.ledger import Cell
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...explaining.methods import Method
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords

RoleRows = tuple[tuple[str, tuple[int, ...]], ...]
"""The rows that are shown in each role."""


class PictureTable(PlanTable):
    """The options of the pictures: how many rows all methods share, and how many best and worst rows each has."""

    rows: Count = 6  # in the gallery
    extremes: Count = 3  # the best and the worst rows of each method


@register
class PictureStage(Stage):
    """The stage that explains a few rows again, by every method that was scored on all rows of a model."""

    name = "pictures"
    folders = ("pictures",)
    suffix = ".npz"
    after = ("scores",)
    rank = 1
    key = "pictures"
    default = PictureTable()

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[pictures]`."""
        return PictureTable

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Method, RoleRows, Cell]]:
        """One cell for each method on each model that was scored."""
        if self.options is None:
            return []
        pairs = [(model, method) for model in self.study.scoring.models for method in self.study.scoring.methods]
        shown = [(model, method, self._rows(model, method)) for model, method in pairs]
        return [
            (model, method, rows, self.cell(model, method.text, self._words(method, rows)))
            for model, method, rows in shown
            if rows
        ]

    @staticmethod
    def _words(method: Method, rows: RoleRows) -> str:
        """What pictures depend on besides model and method: the rows, and what files hold that a method reads."""
        from ...explaining.stored_maps import StoredMaps

        return f"{rows!r}{method.explainer!r}" if isinstance(method.explainer, StoredMaps) else repr(rows)

    def _rows(self, model: ModelCells, method: Method) -> RoleRows:
        """The rows that are shown of a method, by role; none if it was not scored on every row."""
        from ..pictures import best_and_worst, gallery_rows

        names = [cell.name for cell, _ in model.cells((method,)) if cell.explains]
        if not set(names) <= set(self.earlier["scores"].ledger.filed):
            return ()
        scoring = self.study.scoring
        extremes = best_and_worst(self.study.run.table(names).to_pandas(), self.options.extremes)
        shown = gallery_rows(scoring.judge.split.labels[scoring.chosen], scoring.judge.seed, self.options.rows)
        roles = {"gallery": [int(scoring.chosen[row]) for row in shown], **extremes}
        return tuple((role, tuple(map(int, rows))) for role, rows in roles.items())

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that collect the pictures of each method on each model."""
        for model, method, rows, cell in self.cells:
            yield self.task(cell, take_pictures, self.words_of(model), method.text, rows, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The files with the pictures, relative to the run's folder."""
        return {
            "pictures": [
                {"model": model.name, "method": method.text, "file": f"{self.folders[0]}/{cell.name}{self.suffix}"}
                for model, method, _, cell in self.cells
                if cell.name in self.ledger.filed
            ]
        }


def take_pictures(model: ModelWords, method: str, rows: RoleRows, place: str) -> CellOutcome:
    """Explain rows by a method, and file the maps with the images and masks that the page shows beside them."""
    from ..opened import classifier_of, fit_method, open_once, whole
    from ..pictures import pictures_of

    def make() -> None:
        chosen = {role: list(numbers) for role, numbers in rows}
        with whole(model):
            ready, judge = fit_method(model, method), open_once(model).judge
            arrays = pictures_of(judge, classifier_of(model), ready, chosen)
        write_sealed_arrays(Path(place), arrays)

    return run_cell(make)
