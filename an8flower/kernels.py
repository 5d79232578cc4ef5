"""What all compiled loops share: how they are compiled, and a random number for a point of a lattice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compile_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: compile a function without the GIL, and without fast maths, whose bits differ between machines."""
    return njit(nogil=True, cache=True, error_model="numpy")(function)


@compile_kernel
def noise(i: int, j: int, seed: int) -> float:
    """A pseudo-random number in [0, 1) for a point of a lattice; the same on every machine."""
    mixed = ((i * 73856093) ^ (j * 19349663) ^ (seed * 83492791)) & 0x7FFFFFFF
    mixed = (mixed * 1274126177) & 0x7FFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 668265263) & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 13)) & 0xFFFFFF) / 16777216.0
