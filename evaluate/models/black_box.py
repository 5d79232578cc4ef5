"""A classifier of which nothing but its logits can be read: no layers, no gradients, no operations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from an8flower.errors import NotApplicable

from .classifier import Card, Classifier
from .networks.code_digest import digest_code
from .networks.split import Split
from .normalisation import Normalisation


class BlackBox(Classifier):
    """Images (B, 3, H, W) float32 in [0, 1] -> logits (B, C); whoever asks for more is told why there is none."""

    def __init__(
        self, network: nn.Module, class_names: Sequence[str], size: int, normalisation: Normalisation, reason: str
    ) -> None:
        card = Card(type(network).__name__, tuple(class_names), size)
        super().__init__(network, card, "", *normalisation)
        self.code = digest_code(network)
        self.black_box = reason

    def split(self, layer: str) -> Split:
        """There are no layers to cut at; raises NotApplicable."""
        raise NotApplicable(f"{self.arch}: {self.black_box}")
