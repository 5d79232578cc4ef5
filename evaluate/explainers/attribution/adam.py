"""Adam's update on plain tensors, for explainers that optimise many images at once, each on its own.

Not torch.optim: its first optimiser loads the compiler, which takes seconds, and it knows no rows that stop early.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DECAYS = (0.9, 0.999)  # of the running means


class Moments(NamedTuple):
    """The running means of the gradients and of their squares, each in the variables' shape."""

    mean: Tensor
    square: Tensor

    @classmethod
    def zero(cls, variables: Tensor) -> Moments:
        """The moments before the first step: all zeros."""
        return cls(torch.zeros_like(variables), torch.zeros_like(variables))

    def of_rows(self, rows: Tensor) -> Moments:
        """The moments of some rows, by their places (n,) int64."""
        return Moments(*(moment[rows] for moment in self))

    def after(self, slopes: Tensor) -> Moments:
        """The moments once one more gradient is taken in."""
        return Moments(self.mean.lerp(slopes, 1 - DECAYS[0]), self.square.lerp(slopes.square(), 1 - DECAYS[1]))

    def move(self, steps: int) -> Tensor:
        """The step that follows after so many gradients, at a rate of 1: downhill is against it.

        Source: Kingma and Ba, ICLR 2015, algorithm 1.
        """
        mean, square = (moment / (1 - decay**steps) for moment, decay in zip(self, DECAYS, strict=True))
        return mean / (square.sqrt() + 1e-8)
