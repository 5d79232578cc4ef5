"""How often a task is tried, and what is told of one that has to be given up."""

from __future__ import annotations

from dataclasses import dataclass

from .task import Done, Task, report_error
from .worker import Answer, value_of

TRIES = 3  # of a task whose process dies: the machine may have been short of memory for a moment
STARTS = 3  # processes in a row that may die before they are ready
NEVER = float("inf")


@dataclass
class Attempt:
    """A task, and how many of the processes that it was given to have died."""

    task: Task
    deaths: int = 0  # of processes that were at work on it
    failed_starts: int = 0  # of processes that died before they were


def read_answer(task: Task, answer: Answer) -> Done:
    """Turn the answer of a worker into the outcome of its task; a value that cannot be unpickled is an error."""
    if answer.error is not None:
        return Done(task, error=answer.error, traceback=answer.traceback)
    try:
        return Done(task, value_of(answer))
    except Exception as error:  # what a class does to be unpickled may raise anything
        return report_error(task, error)


def died_too_often(task: Task, cause: str, tries: int = TRIES) -> Done:
    """A task whose process has died each time; `cause` continues "its process"."""
    remedy = "if memory ran out, take fewer --workers or set a --memory-limit"
    return Done(task, error=f"its process {cause} in each of {tries} tries; {remedy}")


def too_long(task: Task, limit: float | None) -> Done:
    """A task that was ended at its time limit in seconds."""
    return Done(task, error=f"ran longer than {limit:g} s and was ended; allow more with --time-limit")
