"""Cells as tasks of an engine: which are still to be done, how their results are filed, what each cost. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.atomic import NoRoom
from an8flower.errors import NotApplicable, Refusal

from ..results import answers, files, kept_maps
from ..results.folder import RunFolder
from ..results.ledger import Cell, Ledger
from .engines.task import Done, Engine, Task, fail

Progress = Callable[[int, int], None]


class CellTask(NamedTuple):
    """A cell, the ledger that records its outcome, and the task by which a worker computes it."""

    cell: Cell
    ledger: Ledger
    task: Task


class FileLedger(Ledger):
    """The ledger of cells whose result is a file of its own: a document, or arrays."""

    def __init__(self, run: RunFolder, folder: str, suffix: str, neighbours: Sequence[Path]) -> None:
        super().__init__(run)
        self._folder, self._suffix, self._neighbours = folder, suffix, neighbours

    def place(self, cell: Cell) -> Path:
        """The path of the file with the result of a cell."""
        return self.run.folder / self._folder / f"{cell.name}{self._suffix}"

    def discard(self, cell: Cell) -> None:
        """Remove the answer of a cell."""
        self.place(cell).unlink(missing_ok=True)

    def has(self, cell: Cell) -> bool:
        """Whether the result of a cell is there and whole; if another run has it, it is taken from there first."""
        return answers.find_or_take(self.place(cell), self._neighbours)


class PicturedLedger(FileLedger):
    """The ledger of cells whose result is a document with pictures beside it."""

    def has(self, cell: Cell) -> bool:
        """Whether both the document of a cell and its pictures are there."""
        place = self.place(cell)
        if not super().has(cell):
            return False
        has_pictures = "pictures" in (answers.read_document(place) or {})
        return not has_pictures or answers.find_or_take(place.with_suffix(".npz"), self._neighbours)


class MapsLedger(Ledger):
    """The ledger of cells whose result is long rows with the raw maps beside them."""

    def has(self, cell: Cell) -> bool:
        """Whether both the long rows of a cell and its maps are there."""
        return super().has(cell) and (
            not cell.explains or kept_maps.has_maps(kept_maps.maps_path(self.run.folder, cell.name), cell.indices)
        )


class CostRecord:
    """The seconds that each cell took, by the cell's name; a file keeps them from run to run."""

    def __init__(self, place: Path) -> None:
        self._place = place
        recorded = files.read_json(place) or {}
        # What is no number is left out: what cells took is told, and nothing depends on it.
        self.seconds = {name: float(value) for name, value in recorded.items() if isinstance(value, int | float)}

    def add(self, name: str, seconds: float) -> None:
        """Record the seconds that a cell took."""
        self.seconds[name] = seconds

    def write(self) -> None:
        """Write the cost record to its file."""
        files.write_json(self._place, self.seconds)


class CellOutcome(NamedTuple):
    """The outcome of a cell that did not fail."""

    seconds: float
    skipped: str = ""  # why the cell cannot be computed for this model; empty if it was
    full: str = ""  # why nothing can be written any more, so that no other cell can be done either; else empty
    broken: tuple[tuple[str, str], ...] = ()  # the metrics that failed, each with the reason


def run_cell(make: Callable[[], object]) -> CellOutcome:
    """Compute a cell by calling a function, and return how long it took, or why it cannot be done.

    Only a disk that has no room for the run's own files ends a run: what a method raises of its own scratch space is
    its own failure.
    """
    began = time.perf_counter()
    skipped = full = ""
    try:
        make()
    except NotApplicable as reason:
        skipped = str(reason)
    except NoRoom as error:
        full = f"{error.strerror} ({error.filename})"
    return CellOutcome(time.perf_counter() - began, skipped, full)


def carry_out(
    tasks: Sequence[CellTask],
    engine: Engine,
    costs: CostRecord,
    progress: Progress,
    check_data: Callable[[], None] = lambda: None,
) -> None:
    """Compute the cells that have no result yet, on an engine.

    A failure fails its cell alone. If nothing can be written any more, a Refusal ends the run. `check_data` raises a
    Refusal if a data set is not what it was: then no answer that comes in is kept.
    """
    todo = {task.task.name: task for task in tasks if not task.ledger.reuse(task.cell)}
    finished, total = len(tasks) - len(todo), len(tasks)
    progress(finished, total)
    try:
        for done in engine.run([task.task for task in todo.values()]):
            if done.error is None:
                costs.add(todo[done.task.name].cell.name, done.value.seconds)
            record(todo[done.task.name], refuse_stale(todo[done.task.name], done, check_data))
            finished += 1
            progress(finished, total)
    finally:
        costs.write()
    order = {task.cell.name: i for i, task in enumerate(tasks)}
    for ledger in {id(task.ledger): task.ledger for task in tasks}.values():
        ledger.filed.sort(key=lambda name: order.get(name, -1))  # in the order of the plan, whoever was first


def refuse_stale(task: CellTask, done: Done, check_data: Callable[[], None]) -> Done:
    """The outcome of a task; if the data have changed since the audit began, its answer is removed, and it failed."""
    try:
        check_data()
    except Refusal as reason:
        task.ledger.discard(task.cell)
        return fail(done.task, reason)
    return done


def record(task: CellTask, done: Done) -> None:
    """Record the outcome of a cell in its ledger; raises Refusal if nothing can be written any more."""
    if done.error is not None:
        task.ledger.mark_failed(task.cell, done.error, done.traceback)
        return
    outcome: CellOutcome = done.value
    if outcome.full:
        raise Refusal(
            f"{task.ledger.run.folder}: nothing more can be written there: {outcome.full}; make room; "
            "what is finished is kept, and the same command goes on from there"
        )
    if outcome.skipped:
        task.ledger.mark_skipped(task.cell, outcome.skipped)
    else:
        task.ledger.mark_done(task.cell, dict(outcome.broken))


def failures(ledgers: Sequence[Ledger], dataset: str) -> Iterator[dict[str, Any]]:
    """The failures that several ledgers recorded, each with the name of the data set."""
    for ledger in ledgers:
        for failure in ledger.failures:
            yield {"dataset": dataset, **failure}
