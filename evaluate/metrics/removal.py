"""What the network says when the most important pixels are taken away, beside the least important ones.

Random maps score 0: turned upside down, so that largest and smallest change places, they are as likely.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from .faithfulness import Belief
from .masking import ORIGINAL, ImageChange, Masking

ORDERS = ("both", "most", "least")
# (logits (B, K, C), classes (B,)) -> (B, K) float64 in [0, 1]
READINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "probability": lambda logits, classes: Belief.of(logits, classes).share,
    "accuracy": lambda logits, classes: (logits.argmax(2) == classes[:, None]).double(),
}


@dataclass(frozen=True)
class OrderedRemoval(ABC):
    """A mean over several shares of pixels that are taken away, in the order of a map."""

    order: str = "both"  # or most, or least: which pixels go
    steps: int = 9  # shares of the pixels: with 9 it is a tenth to nine tenths
    output: str = "probability"  # of the class; or accuracy: whether the network gives it

    def __post_init__(self) -> None:
        check_known("order", self.order, ORDERS)
        check_known("output", self.output, READINGS)
        if self.steps < 1:
            raise WrongUsage(f"steps is {self.steps}; expected at least 1")

    @abstractmethod
    def kinds(self, ranks: tuple[int, int], pixels: int) -> list[ImageChange]:
        """The images that lack the pixels of some ranks, from the first up to but not including the second."""

    def counts(self, pixels: int) -> list[int]:
        """How many pixels are chosen at each step."""
        return [pixels * step // (self.steps + 1) for step in range(1, self.steps + 1)]

    def height(self, masking: Masking, end: str) -> Tensor:
        """The mean output (B,) float64 without the pixels at one end of the order: `most` or `least`."""
        pixels = masking.pixels
        ranks = [(0, count) if end == "most" else (pixels - count, pixels) for count in self.counts(pixels)]
        kinds = [kind for pair in ranks for kind in self.kinds(pair, pixels)]
        return self.read(masking, kinds).mean(1)

    def read(self, masking: Masking, kinds: list[ImageChange]) -> Tensor:
        """The output (B, K) float64 for the class that the method was asked about."""
        return READINGS[self.output](masking.logits(kinds), masking.query.targets)

    def compare(self, masking: Masking) -> Tensor:
        """The score (B,) float32 in [-1, 1]; higher is better."""
        upper = self.read(masking, [ORIGINAL])[:, 0] if self.order == "most" else self.height(masking, "least")
        lower = self.read(masking, [ORIGINAL])[:, 0] if self.order == "least" else self.height(masking, "most")
        return (upper - lower).float()


def no_difference(masks: Tensor) -> Tensor:
    """exact: 0, as noise is as likely upside down"""
    return torch.zeros(len(masks), device=masks.device)
