"""Work that may kill the process that does it: done by a child with limits, whose end is told in a sentence."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import Refusal
from .regular import shorten

SILENCE = 20.0  # seconds without a sign of life after which a child is ended
STARTING = 120.0  # seconds that it may take to start, on a busy machine
MEMORY = 4 * 2**30  # bytes of its own that it may hold (Linux)

Walk = Callable[[Path, Callable[[], None]], Iterator[Any]]
"""A function of a module that yields what it finds in a file, and calls its second argument as a sign of life."""


def walk_in_child(walk: Walk, path: Path, remedy: str) -> Iterator[Any]:
    """Yield what `walk` yields for a file, from a process of its own.

    Raises:
        Refusal: `walk` raised it, or the child died, fell silent or ran out of memory over the file.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(walk, path, theirs), daemon=True)
    child.start()
    theirs.close()
    patience = STARTING
    try:
        while True:
            if not ours.poll(patience):
                raise Refusal(f"{path}: reading it does not come to an end, so it is damaged; {remedy}")
            kind, content = ours.recv()
            if kind == "refusal":
                raise Refusal(content)
            if kind == "end":
                return
            if kind == "item":
                yield content
            patience = SILENCE
    except EOFError:
        child.join()
        raise Refusal(f"{path}: reading it kills the process ({child.exitcode}), so it is damaged; {remedy}") from None
    finally:
        child.kill()
        child.join()
        ours.close()


def _work(walk: Walk, path: Path, report: Connection) -> None:
    _limit_memory()
    try:
        report.send(("begin", None))
        for item in walk(path, lambda: report.send(("alive", None))):
            report.send(("item", item))
        report.send(("end", None))
    except Refusal as refusal:
        report.send(("refusal", str(refusal)))
    except Exception as error:  # a library that meets a damaged file fails in any way it likes
        report.send(("refusal", f"{path}: damaged ({type(error).__name__}: {shorten(error)})"))


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # other systems have no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
