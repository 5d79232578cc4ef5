"""Where a command runs code that is not ours: in a worker process, under limits, unless the user says otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluate.audits.engines.task import Engine
    from ..evaluate.explaining.methods import Method


@contextmanager
def open_worker(
    in_process: bool, time_limit: float, memory_limit: float | None, threads: int | None = None
) -> Iterator[Engine | None]:
    """One worker process, which starts when it is needed; None if all is to be done in this process.

    It has as many threads as this process unless another number is given, so that it computes the same numbers.
    In the block nothing that is printed reaches standard output, which belongs to results.
    """
    with keep_stdout():
        if in_process:
            yield None
            return
        import torch

        from ..evaluate.audits.engines.choose import engine_named

        limits = {"time_limit": time_limit, "memory_limit": memory_limit}
        with engine_named("local", threads=threads or torch.get_num_threads(), **limits) as engine:
            yield engine


def read_methods(texts: Sequence[str], precision: str, engine: Engine | None) -> list[Method]:
    """The methods that texts name; the code of strangers is imported by the engine's worker if there is one."""
    from ..evaluate.audits.strangers import parse_methods_apart
    from ..evaluate.explaining.methods import parse_methods, set_precisions

    if engine:
        return parse_methods_apart(texts, precision, engine)
    return set_precisions(parse_methods(texts), precision)


@contextmanager
def keep_stdout() -> Iterator[None]:
    """Send what this process prints, in Python or in C, to standard error."""
    sys.stdout.flush()
    saved = None
    with suppress(OSError):  # there may be no standard output
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)
