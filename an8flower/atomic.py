"""Files that appear under their final name when they are whole, and what is left of those that never were."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def moved_into(place: Path) -> Iterator[Path]:
    """A name of this process's own beside the final one; what was written there is moved when the block is through."""
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f"{place.name}.{_machine()}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine left unfinished in a folder when they were killed."""
    for place in folder.glob("*.unfinished"):
        *_, machine, process, _ = place.name.rsplit(".", 3)
        if machine == _machine() and process.isdigit() and not _alive(int(process)):
            with suppress(OSError):
                place.unlink()


def _machine() -> str:
    """This machine's name without dots: only here can be told whether a process lives."""
    return socket.gethostname().partition(".")[0]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
