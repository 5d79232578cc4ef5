"""The stage that trains networks anew without the pixels that a method calls important."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from ...results import answers
from ...results.ledger import Cell
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords

Share = Annotated[float, Field(gt=0, lt=1)]


class RoarTable(PlanTable):
    """The options of removing and retraining: which methods, which shares of the pixels, and how long to train."""

    methods: tuple[str, ...] | None = None  # those of the plan where None
    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.1, 0.3, 0.5, 0.7, 0.9)
    epochs: Count | None = None  # those of the architecture where None


@register
class RoarStage(Stage):
    """The stage that removes pixels from all rows by the maps of a method, and trains each architecture anew."""

    name = "roar"
    folders = ("roar",)
    rank = 5
    key = "roar"
    reduced: ClassVar = {"roar_shares": "shares", "roar_epochs": "epochs"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[roar]`."""
        return RoarTable

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str, Cell]]:
        """A cell for each model and method; none if the plan does not ask."""
        if self.options is None:
            return []
        from ...explaining.methods import parse_methods

        methods = parse_methods(self.options.methods or self.study.plan.methods)
        words = to_words(self.options.model_copy(update={"methods": None}), "Roar")
        models = self.study.scoring.models
        return [(model, method.text, self.cell(model, method.text, words)) for model in models for method in methods]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that train networks anew for each method and model."""
        for model, method, cell in self.cells:
            shares, epochs = self.options.shares, self.options.epochs
            yield self.task(cell, retrain_without, self.words_of(model), method, shares, epochs, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The accuracies of the networks that were trained anew, of each method and model."""
        if not self.cells:
            return {}
        entries = [(model, method, answers.read_document(Path(self.place(cell)))) for model, method, cell in self.cells]
        return {
            "roar": [
                {"method": method, "architecture": model.classifier.variant, "model": model.name, **document}
                for model, method, document in entries
                if document
            ]
        }


def retrain_without(
    model: ModelWords, method: str, shares: tuple[float, ...], epochs: int | None, place: str
) -> CellOutcome:
    """Train networks anew without the pixels that a method calls important, and file their accuracies."""
    from ...scoring.retraining import measure_roar
    from ..opened import classifier_of, fit_method, open_once, whole

    def make() -> None:
        judge = open_once(model).judge
        with whole(model):
            ready = fit_method(model, method)
            document = measure_roar(judge, classifier_of(model), ready, shares, epochs)
        answers.write_document(Path(place), document)

    return run_cell(make)
