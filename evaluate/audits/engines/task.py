"""What an engine is given and what it gives back: the seam between the work and where it is done. No torch in here."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from an8flower.errors import Refusal

from ...resources import is_out_of_main_memory
from .here import memory_limit

LONGEST = 2000  # characters of the text of an error: more is not read by anybody


@dataclass(frozen=True)
class Task:
    """A piece of work that can be done anywhere, lost, and done again: its call has to be the same each time."""

    name: str  # for people and messages
    call: Callable[..., Any]  # a function of a module: what travels to a worker is its name
    arguments: tuple[Any, ...]  # picklable, small
    cpus: int = 1  # these two are what a cluster gives to a task; on one machine every worker has the same share
    gpus: float = 0.0
    stranger: str = ""  # whose code it runs, if not ours alone: no other task follows in a process that has run it


@dataclass(frozen=True)
class Done:
    """The outcome of a task: a value, or the reason why there is none."""

    task: Task
    value: Any = None
    error: str | None = None  # one sentence, if the task raised, ran too long, died or ran out of memory
    traceback: str = ""


class Engine(Protocol):
    """Where tasks are done. Its processes live over several runs, until it is closed."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Do every task once, and give the outcomes in the order in which they end; no failure ends the run.

        Raises Refusal if no process can be had at all.
        """
        ...

    def close(self) -> None:
        """Let go of all processes; what is still being done is dropped."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *raised: object) -> None: ...


def fail(task: Task, error: BaseException) -> Done:
    """The outcome of a task that raised; has to be called where the error is handled."""
    return Done(task, error=sentence(error), traceback=traceback.format_exc())


def sentence(error: BaseException) -> str:
    """The sentence by which people learn of an error.

    >>> sentence(ValueError("no such layer"))
    'ValueError: no such layer'
    """
    text = text_of(error)
    if isinstance(error, Refusal):
        return text
    description = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if not is_out_of_main_memory(error) or not (limit := memory_limit()):
        return description
    return f"out of memory: its process may hold {limit:g} GiB, raise that with --memory-limit ({description})"


def text_of(error: BaseException) -> str:
    """The text of an error, which a stranger's class makes; also if that raises in its turn."""
    try:
        return str(error)[:LONGEST]
    except BaseException as another:  # a stranger's class may do anything
        return f"its text cannot be had, as that raises {type(another).__name__}"
