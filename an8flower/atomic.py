"""Files that appear under their final name when they are whole, and what is left of those that never were."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_writes = True  # whether this process may write files of ours


class NoRoom(OSError):
    """A file of ours cannot be written, as the disk is full or read-only; nobody else raises this."""


@contextmanager
def moved_into(place: Path) -> Iterator[Path]:
    """A name of this process's own beside the final one; what was written there is moved when the block is through.

    The content is on the disk before the name is: after a loss of power a file is whole, or not there. Raises NoRoom if
    the disk is full or read-only.
    """
    if not _writes:
        raise PermissionError(errno.EPERM, "a copy of a worker process files nothing", str(place))
    with noticing_no_room(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f"{place.name}.{_machine()}.{os.getpid()}.unfinished")
        try:
            yield unfinished
            move(unfinished, place)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def noticing_no_room(place: Path) -> Iterator[None]:
    """A block that writes files of ours at a place: a full or read-only disk is told from what others may raise."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, NoRoom):
            raise
        raise NoRoom(error.errno, error.strerror, str(place)) from error


def write_nothing_more() -> None:
    """Let this process write no file of ours from now on: it is a copy of one that goes on by itself."""
    global _writes
    _writes = False


def move(unfinished: Path, place: Path) -> None:
    """Move a written file to its final name: first its content is flushed to the disk, and then the new name."""
    with unfinished.open("rb" if os.name == "posix" else "r+b") as written:  # Windows flushes what may be written alone
        os.fsync(written.fileno())
    unfinished.replace(place)
    with suppress(OSError):  # not every system opens folders, and not every file system flushes them
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
