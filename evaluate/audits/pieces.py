"""The pieces of an audit: what is to be done for one data set, cell by cell, and what has become of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.errors import Refusal

from ..results import files, kept_maps
from ..results.folder import Run
from ..results.ledger import Cell, Ledger
from .engines.task import Done, Engine, Task

Progress = Callable[[int, int], None]


class Piece(NamedTuple):
    """A cell, whose ledger it stands in, and how a worker does it."""

    cell: Cell
    ledger: Ledger
    task: Task


class Filing(Ledger):
    """The cells whose answer is a file of its own: a document, or arrays."""

    def __init__(self, run: Run, kind: str, suffix: str, neighbours: Sequence[Path]) -> None:
        super().__init__(run)
        self._kind, self._suffix, self._neighbours = kind, suffix, neighbours

    def place(self, cell: Cell) -> Path:
        """Where the answer lies."""
        return self.run.folder / self._kind / f"{cell.name}{self._suffix}"

    def has(self, cell: Cell) -> bool:
        """Whether it does, whole, here or in another run."""
        return files.there(self.place(cell), self._neighbours)


class Picturing(Filing):
    """Documents with pictures beside them."""

    def has(self, cell: Cell) -> bool:
        """Whether both are there."""
        place = self.place(cell)
        if not super().has(cell):
            return False
        shown = "pictures" in (files.read_json(place) or {})
        return not shown or files.there(place.with_suffix(".npz"), self._neighbours)


class Keeping(Ledger):
    """Cells of long rows whose raw maps are asked for as well."""

    def has(self, cell: Cell) -> bool:
        """Whether both are there."""
        return super().has(cell) and (not cell.explains or kept_maps.there(kept_maps.place(self.run.folder, cell.name)))


class Tally:
    """What all cells have cost, in seconds by their name: kept from run to run."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.seconds: dict[str, float] = {name: float(value) for name, value in (files.read_json(place) or {}).items()}

    def add(self, name: str, seconds: float) -> None:
        """Note what a cell has cost."""
        self.seconds[name] = seconds

    def file(self) -> None:
        """Keep it."""
        files.write_json(self._place, self.seconds)


def carry_out(pieces: Sequence[Piece], engine: Engine, tally: Tally, progress: Progress) -> None:
    """Do what is not done. A failure fails its cell alone; where nothing can be written, a Refusal ends it all."""
    todo = {piece.task.name: piece for piece in pieces if not piece.ledger.found(piece.cell)}
    through, total = len(pieces) - len(todo), len(pieces)
    progress(through, total)
    try:
        for done in engine.run([piece.task for piece in todo.values()]):
            enter(todo[done.task.name], done, tally)
            through += 1
            progress(through, total)
    finally:
        tally.file()
    order = {piece.cell.name: i for i, piece in enumerate(pieces)}
    for ledger in {id(piece.ledger): piece.ledger for piece in pieces}.values():
        ledger.filed.sort(key=lambda name: order.get(name, -1))  # in the order of the plan, whoever was first


def enter(piece: Piece, done: Done, tally: Tally) -> None:
    """Note what has become of a piece."""
    if done.error is not None:
        piece.ledger.broke(piece.cell, done.error, done.traceback)
        return
    settled: Settled = done.value
    tally.add(piece.cell.name, settled.seconds)
    if settled.full:
        raise Refusal(
            f"{piece.ledger.run.folder}: nothing more can be written there: {settled.full}; make room; "
            "what is finished is kept, and the same command goes on from there"
        )
    if settled.skipped:
        piece.ledger.not_applicable(piece.cell, settled.skipped)
    else:
        piece.ledger.finished(piece.cell)


def failures(ledgers: Sequence[Ledger], dataset: str) -> Iterator[dict[str, Any]]:
    """What failed, with the data set."""
    for ledger in ledgers:
        for told in ledger.failed:
            yield {"dataset": dataset, **told}


class Settled(NamedTuple):
    """What came of a cell that did not fail."""

    seconds: float
    skipped: str = ""  # why the model cannot have what is asked
    full: str = ""  # why nothing can be written any more: then no other cell can be done either
