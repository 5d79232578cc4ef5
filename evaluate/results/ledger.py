"""The cells of a run and their outcomes: each cell is done now, was done before, is skipped, or failed.

The name of a cell holds a hash of everything that its numbers depend on, so that a part on disk is either exactly the
one that is needed, or has another name.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute

import an8flower
from an8flower.errors import NotApplicable, Refusal

from .files import write_json
from .folder import METRIC_FAILED, RunFolder

VERSION = 3  # of how cells are computed and filed: since 3, smoothgrad and its kin draw their noise from a counter


@dataclass(frozen=True)
class Content:
    """What the long rows of a cell have to be about, whoever made them."""

    model: str | None  # null in all rows where no model is asked
    explainers: tuple[str, ...]
    metrics: tuple[str, ...]
    further: tuple[tuple[str, str], ...] = ()  # pairs of an explainer and a metric that come after all of these

    def mismatch(self, rows: pa.Table, indices: np.ndarray) -> str | None:
        """What long rows are about other than the cell, as in "has other ..."; None where they are the cell's."""
        pairs = [(explainer, metric) for explainer in self.explainers for metric in self.metrics]
        pairs += self.further
        if rows.num_rows != len(pairs) * len(indices):
            return "numbers of rows"
        explainers, metrics = (np.repeat([pair[side] for pair in pairs], len(indices)) for side in (0, 1))
        expected = {
            "row": np.tile(indices, len(pairs)).tolist(),
            "explainer": explainers.tolist(),
            "metric": metrics.tolist(),
            "model": [self.model] * rows.num_rows,
        }
        different = (f"{name}s" for name, values in expected.items() if rows[name].to_pylist() != values)
        return next(different, None)


@dataclass(frozen=True)
class Cell:
    """One unit of a run's work: it is computed as a whole, and its result has a file of its own."""

    label: str  # for people: the start of the file name
    identity: tuple[str, ...]  # everything that the numbers depend on besides the rows
    indices: np.ndarray  # the rows of the split
    about: dict[str, str]  # for messages: method, model and so on
    explains: bool = False  # whether a method computes maps in this cell
    content: Content | None = None  # what the rows of its part have to be; None where the answer is no long rows

    @property
    def name(self) -> str:
        """The name of the cell's file, without its ending."""
        identity = json.dumps([an8flower.__version__, VERSION, *self.identity, self.indices.tolist()])
        return f"{self.label}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


Work = tuple[Cell, Callable[[], pa.Table]]
"""A cell, and the function that computes its long rows."""


def file(run: RunFolder, cell: Cell, rows: pa.Table) -> None:
    """Write the long rows of a cell; raises Refusal where they are about something else than the cell."""
    different = cell.content.mismatch(rows, cell.indices) if cell.content else None
    if different:
        raise Refusal(f"{cell.name}: other {different} came than this cell is about; nothing of it is kept")
    run.write_part(cell.name, rows)


def is_answer(cell: Cell, rows: pa.Table) -> bool:
    """Whether long rows are about the cell, and no metric failed in them."""
    return not broken_metrics(rows) and (cell.content is None or cell.content.mismatch(rows, cell.indices) is None)


def broken_metrics(rows: pa.Table) -> dict[str, str]:
    """The metrics that failed in long rows, with the reasons."""
    pairs = zip(rows["metric"].to_pylist(), rows["reason"].to_pylist(), strict=True)
    return {metric: reason for metric, reason in pairs if reason is not None and reason.startswith(METRIC_FAILED)}


def without_metrics(rows: pa.Table, names: Collection[str]) -> pa.Table:
    """Long rows without those of some metrics."""
    return rows.filter(pa.compute.invert(pa.compute.is_in(rows["metric"], pa.array(list(names), pa.string()))))


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
        self.broken: list[dict[str, str]] = []  # metrics that failed in cells which are done otherwise
        self._through, self._total, self._progress = 0, total, progress

    def settle(self, cell: Cell, make: Callable[[], pa.Table]) -> None:
        """Compute the part of a cell unless it is on disk. A failure fails this cell alone."""
        if self.reuse(cell):
            return
        try:
            rows = make()
            file(self.run, cell, rows)
            self.mark_done(cell, broken_metrics(rows))
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
        """Whether the part of a cell is on disk, whole, of the cell, and without a metric that failed."""
        return self.run.has(cell.name, lambda rows: is_answer(cell, rows))

    def discard(self, cell: Cell) -> None:
        """Remove what was filed of a cell."""
        self.run.part(cell.name).unlink(missing_ok=True)

    def mark_done(self, cell: Cell, broken: Mapping[str, str] | None = None) -> None:
        """Count a cell as done, and forget how it failed before; metrics that failed in it are told with it."""
        self.run.failure(cell.name).unlink(missing_ok=True)
        for reason in (broken or {}).values():
            self.broken.append({**cell.about, "reason": reason})
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

    @property
    def failures(self) -> list[dict[str, str]]:
        """Every cell that failed, and every metric that failed in a cell."""
        return [*self.failed, *self.broken]

    def _file(self, cell: Cell) -> None:
        self.filed.append(cell.name)
        self._step()

    def _step(self) -> None:
        self._through += 1
        self._progress(self._through, self._total)
