"""The stage that judges methods by where a network can look: on canvases, with logits that read one cell alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from an8flower.errors import NotApplicable

from ...results import answers
from ...results.ledger import Cell, Ledger
from ..cell_tasks import CellOutcome, CellTask, PicturedLedger, run_cell
from ..plan_table import PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...explaining.methods import Method
    from ...scoring.model_cells import ModelCells
    from ...trust.by_architecture.judge import Canvases, ExaminedCanvases
    from ..opened import ModelWords


class ArchitectureTable(PlanTable):
    """The options of canvases: which methods are judged, and on how many canvases of four pictures."""

    methods: tuple[str, ...] | None = None  # those of the plan where None
    canvases: Annotated[int, Field(ge=4, multiple_of=4)] = 32  # a quarter of them asks about each cell


@register
class ArchitectureStage(Stage):
    """The stage that measures how much of a map lies in the one cell of a canvas that a network can look at."""

    name = "architecture"
    folders = ("canvases",)
    rank = 3.5
    key = "architecture"
    reduced: ClassVar = {"architecture_canvases": "canvases"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[architecture]`."""
        return ArchitectureTable

    def open_ledger(self) -> Ledger:
        """Make the ledger of documents with pictures beside them."""
        return PicturedLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Method, Cell]]:
        """A cell for each model and method; none if the plan does not ask."""
        if self.options is None:
            return []
        from ...explaining.methods import parse_methods

        methods = parse_methods(self.options.methods or self.study.plan.methods)
        words = to_words(self.options.model_copy(update={"methods": None}), "Architecture")
        models = self.study.scoring.models
        return [(model, method, self.cell(model, method.text, words)) for model in models for method in methods]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that judge each method on canvases of each model."""
        for model, method, cell in self.cells:
            words = self.words_of(model)
            yield self.task(cell, judge_method, words, method.text, self.options.canvases, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The verdicts on each method and model, and why others have none."""
        if not self.cells:
            return {}
        from ...trust.by_architecture.judge import CHANCE, HALFWAY

        entries = [self._entry(*cell) for cell in self.cells]
        results = [entry for entry in entries if entry]
        scale = {"canvases": self.options.canvases, "chance": CHANCE, "halfway": HALFWAY}
        return {"canvases": {**scale, "results": results, "skipped": self.ledger.skipped}}

    def _entry(self, model: ModelCells, method: Method, cell: Cell) -> dict[str, Any] | None:
        """The verdicts on one method; None if it was skipped or failed."""
        from ...explaining.methods import family_of

        document = answers.read_document(Path(self.place(cell)))
        if document is None:
            return None
        family = method.family or family_of(method.name)
        about = {"method": method.text, "family": family, "architecture": model.classifier.variant, "model": model.name}
        return {**about, **document}


def judge_method(model: ModelWords, method: str, count: int, place: str) -> CellOutcome:
    """Judge a method in every setting, and file the verdicts, with aggregated maps beside them.

    It is skipped if it applies in no setting; whatever else it raises fails the cell.
    """
    from ...explaining.methods import parse_method
    from ...trust.by_architecture.judge import judge_if_applicable
    from ...trust.by_architecture.networks import CELLS, SETTINGS
    from ..opened import classifier_of, whole

    def make() -> None:
        explainer, batch = parse_method(method).explainer, max(1, model.study.resources.in_flight // CELLS)
        with whole(model, lay_once):
            canvases, classifier = lay_once(model, count), classifier_of(model)
            examined = [judge_if_applicable(explainer, classifier, canvases, setting, batch) for setting in SETTINGS]
        if all(verdict.status == "not applicable" for verdict, _, _ in examined):
            raise NotApplicable(examined[0].verdict.reason)
        beside = Path(place).with_suffix(".npz")
        answers.write_sealed_arrays(beside, draw(examined))
        verdicts = [verdict.document() for verdict, _, _ in examined]
        pictures = f"{beside.parent.name}/{beside.name}"
        answers.write_document(Path(place), {"verdicts": verdicts, "pictures": pictures})

    return run_cell(make)


@lru_cache(maxsize=1)
def lay_once(model: ModelWords, count: int) -> Canvases:
    """Lay the canvases of a model, once in this process for all methods; raises NotApplicable as `lay_canvases`."""
    from ...trust.by_architecture.judge import lay_canvases
    from ..opened import classifier_of, open_once

    return lay_canvases(classifier_of(model), open_once(model).judge.split, count)


def draw(examined: Sequence[ExaminedCanvases]) -> dict[str, np.ndarray]:
    """Aggregated maps as pictures (settings, bins, T, T, 3) uint8, the best first, with the names of both."""
    from ...trust.by_architecture.sheet import BINS, draw_tiles

    shown = [(verdict.setting, maps, cells) for verdict, maps, cells in examined if maps is not None]
    tiles = [draw_tiles(maps, cells) for _, maps, cells in shown if cells is not None]
    return {
        "tiles": np.stack(tiles),
        "settings": np.array([setting for setting, _, _ in shown]),
        "bins": np.array(BINS),
    }
