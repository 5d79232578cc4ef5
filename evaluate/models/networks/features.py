"""The features at a cut through a network: what crosses it, in which precision, and the grid of the tokens."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """The tensors that cross a cut through a network."""

    values: Tensor  # the layer's output: (B, K, h, w), or (B, T, D) of a token model
    carried: tuple[Tensor, ...]  # other tensors that cross the cut, batch first: the residual around the layer


def at_least_single(values: Tensor) -> Tensor:
    """Values of half precision in single precision; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def token_grid(tokens: int) -> tuple[int, int]:
    """The largest square grid of that many tokens; those before it are prefix tokens, such as the class token.

    >>> token_grid(197)
    (14, 14)
    """
    side = math.isqrt(tokens)
    return side, side
