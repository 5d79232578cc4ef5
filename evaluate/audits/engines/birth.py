"""How a worker process comes to be: on Linux forked from a server that has everything imported, elsewhere started anew.

A fork of the process that runs the audit may hang, or lose its GPU; the server is safe to fork, because it has
imported and nothing else: it has no threads and no GPU. A worker is there in milliseconds, not in seconds.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver, parent_process, reduction, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from .here import Place
from .worker import THREADS, serve

IMPORTS = ["torch", "an8flower.evaluate.audits.cell_tasks"]  # what nearly every task brings in
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True)
class Surroundings:
    """What a worker takes over from the process that asks for it: the server has what was so at its own start."""

    environment: dict[str, str]
    stderr: _Stream

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        return cls(dict(os.environ), _Stream(2))

    def adopt(self) -> None:
        """Make them those of this process."""
        os.environ.clear()
        os.environ.update(self.environment)
        if self.stderr.number != 2:
            os.dup2(self.stderr.number, 2)
            os.close(self.stderr.number)


class _Stream:
    """An open file, by its number, which is another one in the process that it is sent to."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        if sys.platform == "win32":  # where a new process inherits it under the same number
            return _Stream, (self.number,)
        return _receive, (reduction.DupFd(self.number),)


def _receive(duplicate: Any) -> _Stream:
    return _Stream(duplicate.detach())


def start_worker(place: Place) -> tuple[BaseProcess, Connection]:
    """Start a process that carries out the orders that come through a pipe; this end of the pipe comes with it.

    Raises:
        OSError: no more processes or memory are to be had.
    """
    context = _prepare_context()
    ours, theirs = context.Pipe()
    with _limited_threads(place.threads), _held_interruptions():
        process = context.Process(target=_live, args=(theirs, place, Surroundings.here()), daemon=True)
        process.start()
    theirs.close()  # so that this end is told when the process has gone
    return process, ours


def _prepare_context() -> SpawnContext | ForkServerContext:
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)  # without effect if the user's own program runs the server already
    resource_tracker.ensure_running()  # before interruptions are held back, since its start lets them through again
    return context


def _live(pipe: Connection, place: Place, surroundings: Surroundings) -> None:
    surroundings.adopt()
    _die_with_parent()
    serve(pipe, place)


def _die_with_parent() -> None:
    """End this process when its parent is gone, even if killed, and even if a task never gives Python control."""
    if sys.platform == "linux":
        _let_server_end()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_wait_for_parent, daemon=True).start()
    parent = parent_process()
    assert parent, "a worker has been started by somebody"
    if not parent.is_alive():  # it died before we asked
        os._exit(1)


def _let_server_end() -> None:
    """Close this process's end of the pipe that keeps the server up: it ends with the process that started it."""
    end = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if end is not None:
        os.close(end)


def _wait_for_parent() -> None:
    if process := parent_process():
        connection.wait([process.sentinel])
    os._exit(1)


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Name the number of threads in the environment, which the server's libraries read when they are imported."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _held_interruptions() -> Iterator[None]:
    """Hold Ctrl-C back, which reaches all processes of a terminal: a worker that is being born inherits that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
