"""What goes on in a worker process: it takes an order, carries it out, answers, and waits for the next one.

Nothing here imports torch: how many threads it uses is settled before a task brings it in.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from ...resources import is_out_of_main_memory
from .here import Place, settle
from .task import sentence

READY, BEGUN = "ready", "begun"  # the signs of life that go before an answer
GIB = 2**30
PR_SET_PDEATHSIG = 1  # of Linux's prctl
DATA_PAGES = 5  # where /proc/self/statm says how much private memory the process has


@dataclass(frozen=True)
class Answer:
    """What a worker says of an order."""

    value: bytes | None = None  # pickled
    error: str | None = None
    traceback: str = ""
    worn: bool = False  # the process holds so much memory, or has run out of it, that the next task needs a fresh one


def serve(pipe: connection.Connection, place: Place, parent: int) -> None:
    """Carry out one order after the other, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all: the parent decides
    _die_with(parent)
    settle_in(place)
    os.dup2(2, 1)  # stdout belongs to the parent's results; what a task prints goes to stderr
    pipe.send(READY)
    try:
        while True:
            pipe.send(carry_out(pipe.recv_bytes(), place.memory_limit, lambda: pipe.send(BEGUN)))
    except (EOFError, OSError):
        return


def settle_in(place: Place) -> None:
    """Take this process's share of the machine and no more."""
    settle(place)
    for variable in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{variable}_NUM_THREADS"] = str(place.threads)
    if torch := sys.modules.get("torch"):  # the user's script has brought it in
        torch.set_num_threads(place.threads)
    if place.memory_limit:
        _limit_memory(int(place.memory_limit * GIB))


def carry_out(order: bytes, memory_limit: float | None, begun: Callable[[], None] = lambda: None) -> Answer:
    """Unpickle a call with its arguments, call it, and pickle what it gives; whatever goes wrong is told in words."""
    try:
        call, arguments = pickle.loads(order)  # from the parent, through a pipe that nobody else has
        begun()  # what it took to import is not the task's time
        return Answer(pickle.dumps(call(*arguments)), worn=is_worn(memory_limit))
    except (Exception, SystemExit) as error:  # a foreign method may raise anything
        traceback.clear_frames(error.__traceback__)  # what they hold may be all the memory that there is
        worn = is_out_of_main_memory(error) or is_worn(memory_limit)
        return Answer(error=sentence(error), traceback=traceback.format_exc(), worn=worn)


def value_of(answer: Answer) -> Any:
    """What the task gave; raises whatever unpickling it raises."""
    assert answer.value is not None, "asked for only where there is no error"
    return pickle.loads(answer.value)


def is_worn(memory_limit: float | None) -> bool:
    """Whether more than half of what the process may hold is taken before the next task begins."""
    return memory_limit is not None and _count_bytes() > memory_limit * GIB / 2


def _limit_memory(limit: int) -> None:
    """Make allocations beyond the limit fail, so that a method that leaks gets a MemoryError and the machine lives.

    RLIMIT_DATA counts the private memory that a process can write to. RLIMIT_AS would also count libraries and what is
    reserved but never used, of which torch has many gigabytes; RLIMIT_RSS does nothing on Linux. CUDA's memory is
    not counted. Elsewhere than on Linux the limit may have no effect, and the system's own remedy is left.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _count_bytes() -> int:
    """Bytes that count towards RLIMIT_DATA; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[DATA_PAGES]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, even if killed, and even if a task never gives Python control."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_wait_for_parent, daemon=True).start()
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _wait_for_parent() -> None:
    if process := parent_process():
        connection.wait([process.sentinel])
    os._exit(1)
