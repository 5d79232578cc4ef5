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

from .results import Run


@dataclass(frozen=True)
class Cell:
    """A piece of the work: who is asked about which rows, and under which name the answer is filed."""

    label: str  # for people: what the file name starts with
    identity: tuple[str, ...]  # all that its numbers depend on besides the rows
    indices: np.ndarray
    about: dict[str, str]  # for messages

    @property
    def name(self) -> str:
        """The name of its part."""
        told = json.dumps([an8flower.__version__, *self.identity, self.indices.tolist()])
        return f"{self.label}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


class Ledger:
    """What happens to the cells of a run: each is done, found done, skipped, or failed."""

    def __init__(self, run: Run, total: int, progress: Callable[[int, int], None]) -> None:
        self.run = run
        self.filed: list[str] = []  # parts that answer the plan
        self.done = self.reused = 0
        self.skipped: list[dict[str, str]] = []
        self.failed: list[dict[str, str]] = []
        self._through, self._total, self._progress = 0, total, progress

    def settle(self, cell: Cell, make: Callable[[], pa.Table]) -> None:
        """Make a cell's part unless it is there. A failure fails its cell alone."""
        try:
            if self.run.has(cell.name):
                self.reused += 1
            else:
                self.run.write_part(cell.name, make())
                self.done += 1
            self.filed.append(cell.name)
        except NotApplicable as reason:
            self.skipped.append({**cell.about, "reason": str(reason)})
        except Exception as error:  # a foreign method may raise anything
            self._fail(cell, error)
        self._through += 1
        self._progress(self._through, self._total)

    def _fail(self, cell: Cell, error: Exception) -> None:
        told = {**cell.about, "reason": f"{type(error).__name__}: {error}"}
        self.run.write_json(self.run.failure(cell.name), {**told, "traceback": traceback.format_exc()})
        self.failed.append(told)
