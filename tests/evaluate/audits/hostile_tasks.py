"""Tasks that do to their process, or to who listens to it, what no task should; workers know them by name."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path


class OwnError(BaseException):
    """An error that `except Exception` does not catch."""


class Unspeakable(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise OwnError


def raise_own() -> None:
    raise OwnError("petals")


def raise_unspeakable() -> None:
    raise Unspeakable


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def raise_generator_exit() -> None:
    raise GeneratorExit


def fork(seconds: float, log: Path) -> str:
    """The copy comes back too, later or at once, with another answer."""
    if os.fork() == 0:
        time.sleep(seconds)
        log.write_text("the copy came back")
        return "copy"
    return "worker"


def fork_and_die(log: Path) -> None:
    """The copy keeps all pipes open, and lives on."""
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    with log.open("a") as file:
        file.write(f"{child}\n")
    os._exit(3)


def close_everything() -> None:
    os.closerange(0, 256)


def close_everything_and_stay() -> None:
    """A thread keeps the process from ending by itself."""
    threading.Thread(target=time.sleep, args=(1000,)).start()
    os.closerange(3, 256)


def write_junk() -> str:
    """Writes to every pipe that it finds."""
    for descriptor in range(3, 64):
        with suppress(OSError):
            os.write(descriptor, (4).to_bytes(4, "big") + b"junk")
    return "done"


def file(place: Path) -> str:
    """Forks, and both write a file of ours."""
    from an8flower.atomic import moved_into

    copy = os.fork() == 0
    if not copy:
        time.sleep(0.5)
    with moved_into(place.with_name("copy" if copy else "worker")) as unfinished:
        unfinished.write_text("x")
    return "done"


def pid() -> int:
    return os.getpid()


def never_ready(pipe: Connection, place: object, parent: int) -> None:
    """What a worker does that hangs while it starts."""
    time.sleep(1000)
