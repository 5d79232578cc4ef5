"""Seeds that derive from names, so that nothing depends on the order of calls or on global state."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*names: str | int) -> int:
    """A seed in [0, 2**63) that depends on the names, their order and their kinds, and on nothing else.

    >>> seed_of("train", "flowernet", 0) == seed_of("train", "flowernet", 0)
    True
    >>> seed_of("train", "flowernet", 0) == seed_of("train", "flowernet", "0")
    False
    """
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8], "big") >> 1


def row_seed(seed: int, data: str, split: str, row: int) -> int:
    """The seed by which methods draw for a row of a split, in all runs of one seed; `data` is the store's digest."""
    return seed_of("explain", seed, data, split, row)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator on a device, started from a seed."""
    import torch  # here, because results are read where there is no torch, and they want seeds as well

    return torch.Generator(device).manual_seed(seed)
