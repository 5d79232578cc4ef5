"""How often a task is tried, and what comes of a task that has to be given up."""

from __future__ import annotations

from dataclasses import dataclass

from .task import Done, Task, fail
from .worker import Answer, value_of

TRIES = 3  # of a task whose process dies: the machine may have been short of memory for a moment
STARTS = 3  # processes in a row that may die before they are ready
NEVER = float("inf")


@dataclass
class Attempt:
    """A task, and how often its processes have died so far."""

    task: Task
    deaths: int = 0  # of processes that were at work on it
    failed_starts: int = 0  # of processes that died before they were


def interpret(task: Task, answer: Answer) -> Done:
    """The outcome of a task of which a worker has given this answer."""
    if answer.error is not None:
        return Done(task, error=answer.error, traceback=answer.traceback)
    try:
        return Done(task, value_of(answer))
    except Exception as error:  # what a class does to be unpickled may raise anything
        return fail(task, error)


def fail_by_death(task: Task, cause: str, tries: int = TRIES) -> Done:
    """The outcome of a task whose process has died each time; `cause` continues "its process"."""
    remedy = "if memory ran out, take fewer --workers or set a --memory-limit"
    return Done(task, error=f"its process {cause} in each of {tries} tries; {remedy}")


def fail_by_time(task: Task, limit: float | None) -> Done:
    """The outcome of a task that was ended at its time limit in seconds."""
    return Done(task, error=f"ran longer than {limit:g} s and was ended; allow more with --time-limit")
