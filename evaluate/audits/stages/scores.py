"""The stage that scores methods on models, and scores chance and the truth for reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from an8flower.errors import Refusal

from ...results.folder import RunFolder
from ...results.ledger import Ledger, Work, broken_metrics, file
from ..cell_tasks import CellOutcome, CellTask, MapsLedger, run_cell
from ..stage import Stage, register

if TYPE_CHECKING:
    from ..opened import ModelWords


@register
class ScoreStage(Stage):
    """The stage that scores every method on every model, and chance and the truth beside them."""

    name = "scores"
    folders = ("scores", "maps", "fits", "effects")
    rank = 1

    def open_ledger(self) -> Ledger:
        """Make the ledger of long rows, and of raw maps if the user keeps them."""
        return (MapsLedger if self.study.words.keep_maps else Ledger)(self.study.run)

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that score chance, the truth, and each method on each model."""
        scoring = self.study.scoring
        for cell, _ in scoring.references():
            yield self.task(cell, score_cell, self.words_of(scoring.models[0]), cell.name)
        for model in scoring.models:
            for cell, _ in model.cells(scoring.methods):
                yield self.task(cell, score_cell, self.words_of(model), cell.name)

    def to_document(self) -> dict[str, Any]:
        """The document that `score --json` prints, with the cards of the metrics."""
        scoring = self.study.scoring
        document = scoring.document(self.ledger)
        broken = {metric.name for metric in scoring.judge.metrics} - document["families"].keys()
        return {"scores": {**document, "cards": scoring.cards(without=broken)}}


def score_cell(model: ModelWords, cell: str) -> CellOutcome:
    """Compute the long rows of the cell of this name, and file them."""

    from ..opened import reopening

    broken: dict[str, str] = {}

    def make() -> None:
        with reopening(cell_makers):
            makers = cell_makers(model)
            if cell not in makers:
                raise Refusal(
                    f"{model.source}: gives other cells than when the audit began; run the same command again"
                )
            work, compute = makers[cell]
            rows = compute()
        file(RunFolder(Path(model.study.folder)), work, rows)
        broken.update(broken_metrics(rows))

    outcome = run_cell(make)
    return outcome._replace(broken=tuple(broken.items()))


@lru_cache(maxsize=2)
def cell_makers(model: ModelWords) -> Mapping[str, Work]:
    """The cells of a model with the functions that compute them, by the cells' names."""
    from ..opened import open_once

    return {cell.name: (cell, make) for cell, make in open_once(model).cells()}
