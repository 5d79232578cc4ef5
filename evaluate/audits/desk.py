"""What all stages of a data set in an audit share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..results.folder import Run
from ..results.ledger import Cell, Ledger
from ..scoring.model_cells import ModelCells
from ..scoring.run import Scoring
from .engines.task import Task
from .pieces import Filing, Piece
from .plan import Plan
from .study import Study

VERSIONS = {"certificates": 1, "sanity": 1, "pictures": 1, "filters": 1}  # of what is filed: a change makes it anew


@dataclass(frozen=True)
class Desk:
    """What all aspects of a data set share."""

    plan: Plan
    study: Study
    opened: Scoring
    neighbours: Sequence[Path]
    threads: int
    on_gpu: bool

    @property
    def run(self) -> Run:
        """Where it is filed."""
        return Run(Path(self.study.folder), self.neighbours)

    @property
    def methods(self) -> dict[str, str]:
        """How explainers are called, by their repr."""
        return {repr(method.explainer): method.text for method in self.opened.plan.methods}

    def filing(self, kind: str, suffix: str) -> Filing:
        """A ledger of answers that are files of their own."""
        return Filing(self.run, kind, suffix, self.neighbours)

    def piece(self, ledger: Ledger, cell: Cell, call: Any, *arguments: Any) -> Piece:
        """A cell, with the call that does it."""
        gpus = 1.0 if self.on_gpu else 0.0
        return Piece(cell, ledger, Task(cell.name, call, (self.study, *arguments), self.threads, gpus))

    def cell(self, kind: str, model: ModelCells, method: str, asked: Any) -> Cell:
        """The cell of a model (and a method) that depends on what is asked, and on data, seed and version."""
        judge = self.opened.judge
        data = (judge.split.store.digest, judge.split.name, str(judge.seed), judge.target)
        identity = (kind, str(VERSIONS[kind]), *data, model.digest, method, repr(asked))
        label = "-".join(filter(None, [model.name, method.partition(":")[0]]))
        return Cell(label, identity, self.opened.chosen[:0], {"method": method or kind, "model": model.name})


class Aspect(Protocol):
    """One of them."""

    @property
    def ledger(self) -> Ledger:
        """What has become of its cells."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Its cells."""
        ...

    def told(self) -> dict[str, Any]:
        """What they come to, once they are settled."""
        ...
