"""Cells, and what happens to them: each is done, found done, skipped, or failed.

A cell's name holds a hash of all that its numbers depend on, so that a part on disk is either exactly what is asked
for, or has another name.
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
from .folder import Run


@dataclass(frozen=True)
class Cell:
    """A piece of the work: who is asked about which rows, and under which name the answer is filed."""

    label: str  # for people: what the file name starts with
    identity: tuple[str, ...]  # all that its numbers depend on besides the rows
    indices: np.ndarray
    about: dict[str, str]  # for messages
    explains: bool = False  # whether a method is asked for maps

    @property
    def name(self) -> str:
        """The name of its part."""
        told = json.dumps([an8flower.__version__, *self.identity, self.indices.tolist()])
        return f"{self.label}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


Work = tuple[Cell, Callable[[], pa.Table]]
"""A cell, and how its long rows are made."""


class Ledger:
    """What happens to the cells of a run: each is done, found done, skipped, or failed."""

    def __init__(
        self, run: Run, total: int = 0, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self.run = run
        self.filed: list[str] = []  # parts that answer the plan
        self.done = self.reused = 0
        self.skipped: list[dict[str, str]] = []
        self.failed: list[dict[str, str]] = []
        self._through, self._total, self._progress = 0, total, progress

    def settle(self, cell: Cell, make: Callable[[], pa.Table]) -> None:
        """Make a cell's part unless it is there. A failure fails its cell alone."""
        if self.found(cell):
            return
        try:
            self.run.write_part(cell.name, make())
            self.finished(cell)
        except NotApplicable as reason:
            self.not_applicable(cell, str(reason))
        except Exception as error:  # a foreign method may raise anything
            self.broke(cell, f"{type(error).__name__}: {error}", traceback.format_exc())

    def found(self, cell: Cell) -> bool:
        """Whether a cell's part is there already; it is then filed."""
        there = self.has(cell)
        if there:
            self.reused += 1
            self._file(cell)
        return there

    def has(self, cell: Cell) -> bool:
        """Whether what a cell files is on disk, and whole."""
        return self.run.has(cell.name)

    def finished(self, cell: Cell) -> None:
        """What a cell files has been written; how it failed before is of no more interest."""
        self.run.failure(cell.name).unlink(missing_ok=True)
        self.done += 1
        self._file(cell)

    def not_applicable(self, cell: Cell, reason: str) -> None:
        """A cell asks for what its model cannot have."""
        self.skipped.append({**cell.about, "reason": reason})
        self._step()

    def broke(self, cell: Cell, reason: str, trace: str) -> None:
        """A cell failed: its reason is told, and where it broke lies on disk."""
        told = {**cell.about, "reason": reason}
        write_json(self.run.failure(cell.name), {**told, "traceback": trace})
        self.failed.append(told)
        self._step()

    def _file(self, cell: Cell) -> None:
        self.filed.append(cell.name)
        self._step()

    def _step(self) -> None:
        self._through += 1
        self._progress(self._through, self._total)
