"""Cells as tasks: which are still to be done, who files their answers, what each has cost. No torch in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.atomic import NoRoom
from an8flower.errors import NotApplicable, Refusal

from ..results import files, kept_maps
from ..results.folder import RunFolder
from ..results.ledger import Cell, Ledger
from .engines.task import Done, Engine, Task

Progress = Callable[[int, int], None]


class CellTask(NamedTuple):
    """A cell, the ledger that keeps account of it, and the task by which a worker does it."""

    cell: Cell
    ledger: Ledger
    task: Task


class FileLedger(Ledger):
    """The account of cells whose answer is a file of its own: a document, or arrays."""

    def __init__(self, run: RunFolder, folder: str, suffix: str, neighbours: Sequence[Path]) -> None:
        super().__init__(run)
        self._folder, self._suffix, self._neighbours = folder, suffix, neighbours

    def place(self, cell: Cell) -> Path:
        """The path at which the answer of a cell lies."""
        return self.run.folder / self._folder / f"{cell.name}{self._suffix}"

    def has(self, cell: Cell) -> bool:
        """Whether a cell's answer lies here or in another run, and is whole."""
        return files.find_or_take(self.place(cell), self._neighbours)


class PicturedLedger(FileLedger):
    """The account of documents that have pictures beside them."""

    def has(self, cell: Cell) -> bool:
        """Whether both the document and its pictures are there."""
        place = self.place(cell)
        if not super().has(cell):
            return False
        shown = "pictures" in (files.read_json(place) or {})
        return not shown or files.find_or_take(place.with_suffix(".npz"), self._neighbours)


class MapsLedger(Ledger):
    """The account of long rows beside which the raw maps are kept."""

    def has(self, cell: Cell) -> bool:
        """Whether both the long rows and the maps are there."""
        return super().has(cell) and (
            not cell.explains or kept_maps.has_maps(kept_maps.maps_path(self.run.folder, cell.name))
        )


class CostRecord:
    """The seconds that each cell has taken, by its name: a file that is kept from run to run."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.seconds: dict[str, float] = {name: float(value) for name, value in (files.read_json(place) or {}).items()}

    def add(self, name: str, seconds: float) -> None:
        """Note what a cell has taken."""
        self.seconds[name] = seconds

    def write(self) -> None:
        """Write the record to its file."""
        files.write_json(self._place, self.seconds)


class Settled(NamedTuple):
    """The outcome of a cell that did not fail."""

    seconds: float
    skipped: str = ""  # why the model cannot have what is asked
    full: str = ""  # why nothing can be written any more: then no other cell can be done either


def settle(make: Callable[[], object]) -> Settled:
    """Do what a cell asks, and say how long it took, or why it cannot be done.

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
    return Settled(time.perf_counter() - began, skipped, full)


def carry_out(tasks: Sequence[CellTask], engine: Engine, costs: CostRecord, progress: Progress) -> None:
    """Do what is not done. A failure fails its cell alone; where nothing can be written, a Refusal ends it all."""
    todo = {task.task.name: task for task in tasks if not task.ledger.reuse(task.cell)}
    through, total = len(tasks) - len(todo), len(tasks)
    progress(through, total)
    try:
        for done in engine.run([task.task for task in todo.values()]):
            if done.error is None:
                costs.add(todo[done.task.name].cell.name, done.value.seconds)
            enter(todo[done.task.name], done)
            through += 1
            progress(through, total)
    finally:
        costs.write()
    order = {task.cell.name: i for i, task in enumerate(tasks)}
    for ledger in {id(task.ledger): task.ledger for task in tasks}.values():
        ledger.filed.sort(key=lambda name: order.get(name, -1))  # in the order of the plan, whoever was first


def enter(task: CellTask, done: Done) -> None:
    """Enter the outcome of a cell into its ledger; raises Refusal if nothing more can be written."""
    if done.error is not None:
        task.ledger.mark_failed(task.cell, done.error, done.traceback)
        return
    settled: Settled = done.value
    if settled.full:
        raise Refusal(
            f"{task.ledger.run.folder}: nothing more can be written there: {settled.full}; make room; "
            "what is finished is kept, and the same command goes on from there"
        )
    if settled.skipped:
        task.ledger.mark_skipped(task.cell, settled.skipped)
    else:
        task.ledger.mark_done(task.cell)


def failures(ledgers: Sequence[Ledger], dataset: str) -> Iterator[dict[str, Any]]:
    """The failures in some ledgers, each with the name of the data set."""
    for ledger in ledgers:
        for failure in ledger.failed:
            yield {"dataset": dataset, **failure}
