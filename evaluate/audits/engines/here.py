"""What an engine has told this process: on which device it works, and how much memory it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The share of the machine that a worker has."""

    threads: int = 1  # of torch
    memory_limit: float | None = None  # GiB that the process may hold; None: what the machine has
    device: str | None = None  # "cuda:1"; None: nobody has said


_place: Place | None = None


def settle(place: Place) -> None:
    """Remember this process's place; done once, when a worker starts."""
    global _place
    _place = place


def device(otherwise: str) -> str:
    """The device on which this process works: the one that an engine has given to it, else the argument."""
    return (_place and _place.device) or otherwise


def memory_limit() -> float | None:
    """The GiB that this process may hold; None if nobody has set a limit."""
    return _place.memory_limit if _place else None
