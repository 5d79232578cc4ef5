"""One data set of an audit with its models, opened for all stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..results.folder import RunFolder
from ..results.ledger import Cell
from ..scoring.run import Scoring
from .plan import Plan
from .strangers import stranger_in
from .study import StudyWords


@dataclass(frozen=True)
class OpenStudy:
    """One data set of an audit with all its models, opened in the process that plans the cells."""

    plan: Plan
    words: StudyWords  # by which a worker opens the same
    scoring: Scoring
    neighbours: Sequence[Path]  # folders of other runs, from which results are taken
    threads: int  # of each worker
    gpus: float  # that a cluster gives to a cell: a share of one, or none
    tuned: Sequence[dict[str, Any]] = ()  # what the searches for the values of methods' parameters tried and chose

    @property
    def run(self) -> RunFolder:
        """The folder of the run, in which all results are filed."""
        return RunFolder(Path(self.words.folder), self.neighbours)

    def stranger_of(self, cell: Cell) -> str:
        """The names of the third parties whose code a cell may run, their metrics among them; empty if it is ours."""
        return stranger_in(cell, self.words.plan.metrics)

    @property
    def methods(self) -> dict[str, str]:
        """The texts by which users call the explainers, by the explainers' repr."""
        return {repr(method.explainer): method.text for method in self.scoring.methods}
