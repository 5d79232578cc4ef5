"""Whether another form of a network (a copy, its halves) says what the network says, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from .features import at_least_single

SINGLE, HALF = 1e-2, 0.1
"""How far outputs may be apart, as a share of the largest one: in single precision or finer, and in half precision.

A GPU multiplies single precision in 10 bits where torch lets it, and a deep network adds such errors up.
"""


def agree(output: Tensor, expected: Tensor, precision: torch.dtype) -> bool:
    """Whether an output is the expected one but for rounding; never where one of them is not finite.

    Args:
        precision: the dtype of the weights that gave the expected output.
    """
    tolerance = SINGLE if precision.itemsize >= 4 else HALF
    output, expected = at_least_single(output), at_least_single(expected)
    if output.shape != expected.shape:
        return False
    return bool((output - expected).abs().max() <= tolerance * expected.abs().max())
