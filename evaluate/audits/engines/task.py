"""What an engine is given and what it gives back: the seam between the work and where it is done. No torch in here."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from an8flower.errors import Refusal

from ...resources import is_out_of_main_memory
from .here import memory_limit


@dataclass(frozen=True)
class Task:
    """A piece of work that can be done anywhere, lost, and done again: its call has to be the same each time."""

    name: str  # for people and messages
    call: Callable[..., Any]  # a function of a module: what travels to a worker is its name
    arguments: tuple[Any, ...]  # picklable, small
    cpus: int = 1  # these two are what a cluster gives to a task; on one machine every worker has the same share
    gpus: float = 0.0


@dataclass(frozen=True)
class Done:
    """What came of a task."""

    task: Task
    value: Any = None
    error: str | None = None  # one sentence where the task did not come back: raised, too long, died, out of memory
    traceback: str = ""


class Engine(Protocol):
    """Where tasks are done. Its processes live over several runs, until it is closed."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Every task once, in the order in which they end; a task's failure never ends the run.

        Raises Refusal where no process can be had at all.
        """
        ...

    def close(self) -> None:
        """Let go of all processes; what is still being done is dropped."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *raised: object) -> None: ...


def report_error(task: Task, error: BaseException) -> Done:
    """A task that raised; has to be called where the error is handled."""
    return Done(task, error=sentence(error), traceback=traceback.format_exc())


def sentence(error: BaseException) -> str:
    """The sentence that people are told of an error.

    >>> sentence(ValueError("no such layer"))
    'ValueError: no such layer'
    """
    if isinstance(error, Refusal):
        return str(error)
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if not is_out_of_main_memory(error) or not (limit := memory_limit()):
        return message
    return f"out of memory: its process may hold {limit:g} GiB, raise that with --memory-limit ({message})"
