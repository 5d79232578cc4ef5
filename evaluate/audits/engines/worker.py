"""What goes on in a worker process: it takes an order, carries it out, answers, and waits for the next one.

Nothing here imports torch: how many threads it uses is settled before a task brings it in.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.atomic import write_nothing_more

from ...resources import is_out_of_main_memory
from .here import Place, settle
from .task import sentence

READY, BEGUN = "ready", "begun"  # the signs of life that go before an answer
NO_ORDER = 0  # the number in messages that are about no order; orders are counted from 1
GIB = 2**30
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS")]  # read when a library is imported
DATA_PAGES = 5  # where /proc/self/statm says how much private memory the process has


@dataclass(frozen=True)
class Answer:
    """What a worker says of an order: the value of the call, or why there is none."""

    value: bytes | None = None  # pickled
    error: str | None = None
    traceback: str = ""
    worn: bool = False  # the process holds so much memory, or has run out of it, that the next task needs a fresh one


class Message(NamedTuple):
    """What comes from a process, with its id and the number of the order that it is about.

    A task may fork its process, and the copy goes on as if it were the worker. By these two numbers nothing that a
    copy says, or that comes too late, is taken for the answer to another order.
    """

    process: int
    order: int
    content: str | Answer  # a sign of life, or the answer


def serve(pipe: Connection, place: Place) -> None:
    """Carry out one order after the other, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all: the parent decides
    settle_in(place)
    os.dup2(2, 1)  # stdout belongs to the parent's results; what a task prints goes to stderr
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=write_nothing_more)
    say = partial(_say, pipe, os.getpid())
    try:
        say(NO_ORDER, READY)
        while True:
            number, order = pipe.recv()
            say(number, carry_out(order, place.memory_limit, partial(say, number, BEGUN)))
    except (EOFError, OSError):
        return


def settle_in(place: Place) -> None:
    """Take this process's share of the machine and no more."""
    settle(place)
    for variable in THREADS:
        os.environ[variable] = str(place.threads)
    if torch := sys.modules.get("torch"):  # it came in before
        torch.set_num_threads(place.threads)
    if place.memory_limit:
        _limit_memory(int(place.memory_limit * GIB))


def carry_out(order: bytes, memory_limit: float | None, begin: Callable[[], None] = lambda: None) -> Answer:
    """Unpickle a call with its arguments, call it, and pickle the value; an error is answered in words.

    `begin` is called when the code is imported, since that is not the task's time.
    """
    try:
        call, arguments = pickle.loads(order)  # from the parent, through a pipe that nobody else has
        begin()
        return Answer(pickle.dumps(call(*arguments)), worn=is_worn(memory_limit))
    except BaseException as error:  # a foreign method may raise anything; Ctrl-C does not reach a worker
        traceback.clear_frames(error.__traceback__)  # what they hold may be all the memory that there is
        worn = is_out_of_main_memory(error) or is_worn(memory_limit)
        return Answer(error=sentence(error), traceback=traceback.format_exc(), worn=worn)


def value_of(answer: Answer) -> Any:
    """Unpickle the value that the task gave; raises whatever unpickling it raises."""
    assert answer.value is not None, "asked for only where there is no error"
    return pickle.loads(answer.value)


def is_worn(memory_limit: float | None) -> bool:
    """Whether more than half of what the process may hold is taken before the next task begins."""
    return memory_limit is not None and _count_private_bytes() > memory_limit * GIB / 2


def _say(pipe: Connection, process: int, order: int, content: str | Answer) -> None:
    """Send a message, unless this is a copy that a task has forked and that has come back: such a copy ends here."""
    if os.getpid() != process:
        os._exit(0)
    pipe.send(Message(process, order, content))


def _limit_memory(limit: int) -> None:
    """Make allocations beyond the limit fail, so that a method that leaks gets a MemoryError and the machine lives.

    RLIMIT_DATA counts the private memory that a process can write to. RLIMIT_AS would also count libraries and what is
    reserved but never used, of which torch has many gigabytes; RLIMIT_RSS does nothing on Linux. CUDA's memory is
    not counted. On other systems than Linux the limit may have no effect, and the system's own remedy is left.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _count_private_bytes() -> int:
    """The bytes of this process that count towards RLIMIT_DATA; 0 if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[DATA_PAGES]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
