"""Engines by their names."""

from __future__ import annotations

from collections.abc import Sequence

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from .inline import Inline
from .local import Local
from .ray import OnRay
from .task import Engine

NAMES = ("inline", "local", "ray")


def engine_named(
    name: str,
    *,
    workers: int = 1,
    threads: int = 1,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    devices: Sequence[str] = (),
    address: str | None = None,
) -> Engine:
    """Make an engine, which is to be closed in the end; raises WrongUsage for a name or a number that is wrong."""
    check_known("engine", name, NAMES)
    _check(workers=workers, threads=threads, time_limit=time_limit, memory_limit=memory_limit)
    if name == "inline":
        return Inline()
    if name == "local":
        return Local(workers, threads, time_limit, memory_limit, devices)
    return OnRay(address, workers, threads, time_limit, memory_limit)


def _check(**numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and number <= 0:
            raise WrongUsage(f"--{name.replace('_', '-')} {number:g}: has to be above 0")
