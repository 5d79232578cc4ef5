"""The stage that certifies models: which parts of a scene each model relies on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from an8flower.errors import NotApplicable

from ...results import answers
from ...results.ledger import Cell
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords


class CertificateTable(PlanTable):
    """The options of the certificates: how many rows are changed, rendered and classified again."""

    rows: Count = 300  # or all if there are fewer


@register
class CertificateStage(Stage):
    """The stage that certifies every model, if the data can be rendered again."""

    name = "certificates"
    folders = ("certificates",)
    rank = 2
    version = 3  # 1: without what parts of the change do, and how much of the evidence is used; 2: without the rim
    key = "certificate"
    default = CertificateTable()

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[certificate]`."""
        return CertificateTable

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Cell]]:
        """One cell for each model; none if the data cannot be rendered again, or the plan asks for no certificates."""
        if self.options is None or self.study.scoring.judge.world is None:
            return []
        words = to_words(self.options, "Certificate")
        return [(model, self.cell(model, "", words)) for model in self.study.scoring.models]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that certify each model."""
        for model, cell in self.cells:
            yield self.task(cell, certify_model, self.words_of(model), self.options.rows, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """The certificates of the models, or the reason why there are none."""
        documents = [answers.read_document(Path(self.place(cell))) for _, cell in self.cells]
        certificates = [document for document in documents if document]
        if certificates:
            return {"certificates": certificates}
        lacking = "the data have no spec, so that nothing can be rendered with one thing changed"
        if "planting" in self.study.scoring.store.file.attrs:
            lacking = "these are photographs; what models do if a mark is exchanged stands under its own heading"
        why = lacking if self.study.scoring.judge.world is None else "not asked for"
        return {"certificates": [], "no_certificate": why if not self.cells else "it failed for every model"}


def certify_model(model: ModelWords, rows: int, place: str) -> CellOutcome:
    """Certify a model on so many rows, or on all if there are fewer, and file the certificate."""
    from ...data.selection import select_rows
    from ...seeds import seed_of
    from ...trust.certificate import certify
    from ..opened import classifier_of, open_once, whole

    def make() -> None:
        judge = open_once(model).judge
        if judge.world is None:
            raise NotApplicable(
                f"{model.study.plan.data}: has no spec, so that nothing can be rendered with one thing changed"
            )
        labels = judge.split.labels
        indices = select_rows(labels, min(rows, len(labels)), seed_of("rows", judge.seed))
        with whole(model):
            classifier, batch = classifier_of(model), model.study.resources.in_flight
            certificate = certify(classifier, judge.world, indices, seed=judge.seed, batch=batch)
        answers.write_document(Path(place), {**certificate.document(), "rows": len(indices)})

    return run_cell(make)
