"""The cells of a run and their outcomes: each cell is done now, was done before, is skipped, or failed.

The name of a cell holds a hash of everything that its numbers depend on, so that a part on disk is either exactly the
one that is needed, or has another name.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

import an8flower
from an8flower.errors import NotApplicable

from .files import write_json
from .folder import RunFolder


@dataclass(frozen=True)
class Cell:
    """One unit of a run's work: it is computed as a whole, and its result has a file of its own."""

    label: str  # for people: the start of the file name
    identity: tuple[str, ...]  # everything that the numbers depend on besides the rows
    indices: np.ndarray  # the rows of the split
    about: dict[str, str]  # for messages: method, model and so on
    explains: bool = False  # whether a method computes maps in this cell

    @property
    def name(self) -> str:
        """The name of the cell's file, without its ending."""
        identity = json.dumps([an8flower.__version__, *self.identity, self.indices.tolist()])
        return f"{self.label}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


Work = tuple[Cell, Callable[[], pa.Table]]
"""A cell, and the function that computes its long rows."""


class Ledger:
    """Keeps account of the cells of a run: which are done now, were done before, are skipped, or failed."""

    def __init__(
        self, run: RunFolder, total: int = 0, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self.run = run
        self.filed: list[str] = []  # the names of the parts on disk that belong to the plan
        self.done = self.reused = 0
        self.skipped: list[dict[str, str]] = []
        self.failed: list[dict[str, str]] = []
        self._through, self._total, self._progress = 0, total, progress

    def settle(self, cell: Cell, make: Callable[[], pa.Table]) -> None:
        """Compute the part of a cell unless it is on disk. A failure fails this cell alone."""
        if self.reuse(cell):
            return
        try:
            self.run.write_part(cell.name, make())
            self.mark_done(cell)
        except NotApplicable as reason:
            self.mark_skipped(cell, str(reason))
        except Exception as error:  # a foreign method may raise anything
            self.mark_failed(cell, f"{type(error).__name__}: {error}", traceback.format_exc())

    def reuse(self, cell: Cell) -> bool:
        """Whether the part of a cell is on disk already; the cell is then counted as reused."""
        done = self.has(cell)
        if done:
            self.reused += 1
            self._file(cell)
        return done

    def has(self, cell: Cell) -> bool:
        """Whether the part of a cell is on disk, and whole."""
        return self.run.has(cell.name)

    def mark_done(self, cell: Cell) -> None:
        """Count a cell as done, and forget how it failed before."""
        self.run.failure(cell.name).unlink(missing_ok=True)
        self.done += 1
        self._file(cell)

    def mark_skipped(self, cell: Cell, reason: str) -> None:
        """Count a cell as skipped: its method or metric does not apply to its model."""
        self.skipped.append({**cell.about, "reason": reason})
        self._step()

    def mark_failed(self, cell: Cell, reason: str, trace: str) -> None:
        """Count a cell as failed, and write the reason and the traceback to disk."""
        failure = {**cell.about, "reason": reason}
        write_json(self.run.failure(cell.name), {**failure, "traceback": trace})
        self.failed.append(failure)
        self._step()

    def _file(self, cell: Cell) -> None:
        self.filed.append(cell.name)
        self._step()

    def _step(self) -> None:
        self._through += 1
        self._progress(self._through, self._total)
