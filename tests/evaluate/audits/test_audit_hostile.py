"""An audit with explainers that lie about the machine: only a disk without room for the run's own files ends it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from an8flower.atomic import NoRoom, moved_into
from an8flower.errors import Refusal
from an8flower.evaluate.audits.cell_tasks import CellTask, CostRecord, carry_out, run_cell
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.engines.task import Task
from an8flower.evaluate.results.folder import RunFolder
from an8flower.evaluate.results.ledger import Cell, Ledger


def fill_own_disk() -> object:
    """What a method does whose scratch disk is full."""
    return run_cell(_raise_enospc)


def fill_disk_of_run(place: str) -> object:
    """What happens where a part of the run cannot be written."""

    def make() -> None:
        with moved_into(Path(place)):
            _raise_enospc()

    return run_cell(make)


def _raise_enospc() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def carry_out_one(folder: Path, call: Callable[..., object], *arguments: str) -> Ledger:
    ledger = Ledger(RunFolder(folder))
    task = Task("it", call, arguments)
    cell = Cell("it", (), np.empty(0, np.int64), {"method": "mine"})
    carry_out([CellTask(cell, ledger, task)], Inline(), CostRecord(folder / "costs.json"), lambda *_: None)
    return ledger


def test_a_full_disk_of_a_method_does_not_end_the_audit(tmp_path: Path) -> None:
    (failure,) = carry_out_one(tmp_path, fill_own_disk).failed
    assert failure["reason"] == "OSError: [Errno 28] No space left on device"


def test_a_full_disk_of_the_run_ends_the_audit(tmp_path: Path) -> None:
    place = tmp_path / "scores" / "part"
    with pytest.raises(Refusal, match=r"nothing more can be written there: No space left on device \(.*part\); make"):
        carry_out_one(tmp_path, fill_disk_of_run, str(place))
    assert not list(place.parent.iterdir())


def test_what_is_no_lack_of_room_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), moved_into(tmp_path / "a"):
        (tmp_path / "none").read_text()
    with pytest.raises(NoRoom), moved_into(tmp_path / "a"):
        _raise_enospc()
