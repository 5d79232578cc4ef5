"""The loss of PIP-Net: two views agree at each position, each prototype is used, and classes are told apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifier import Classifier
from ..training_loss import precision
from .pipnet import PipNet, to_logits
from .views import jitter, shift, shift_back

TINY = 1e-8  # which keeps logarithms finite


@dataclass(frozen=True)
class PipNetLoss:
    """The weighted sum of three terms over two views of each image; a term of weight 0 is not there.

    Source: Nauta et al., CVPR 2023, equations 1 to 3.
    """

    alignment: float = 5.0
    tanh: float = 2.0
    classification: float = 0.0

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, source: torch.Generator) -> Tensor:
        """The loss of images (B, 3, H, W) uint8 with their labels (B,) int64.

        Args:
            source: a generator on the CPU, from which the second view is drawn.
        """
        network = classifier.network
        assert isinstance(network, PipNet), "this is the loss of PIP-Net"
        moved = shift(source, images)
        views = torch.cat([jitter(source, view) for view in (images, moved.images)])
        shares = _share_out(network, classifier.normalise(views))
        first, second = shares.chunk(2)
        presence = shares.amax((2, 3))
        laid, inside = shift_back(second, moved)
        loss = self.alignment * align(first, laid, inside)
        loss = loss + self.tanh * sum(spread_out(part) for part in presence.chunk(2)) / 2
        if self.classification:
            logits = to_logits(network.evidence(presence))
            loss = loss + self.classification * F.cross_entropy(logits, labels.repeat(2))
        return loss

    def words(self) -> str:
        """The loss with its weights, in a few words."""
        terms = {"alignment": self.alignment, "tanh": self.tanh, "class": self.classification}
        return " + ".join(f"{weight:g} {name}" for name, weight in terms.items() if weight)


def _share_out(network: PipNet, images: Tensor) -> Tensor:
    """The shares of prototypes (B, K, h, w) float32; convolutions in the precision that is fast on the device."""
    kind = precision(images.device)
    with torch.autocast(images.device.type, dtype=kind, enabled=kind is not None):
        fits = network.compare(images)
    return fits.float().softmax(1)


def align(first: Tensor, second: Tensor, inside: Tensor) -> Tensor:
    """How far two views disagree: the mean of -log <a, b> over positions, where a and b are shares (B, K, h, w).

    Each view learns from the other, which is held still meanwhile, so that the value counts each pair once.

    Args:
        inside: the positions that both views show, (B, h, w) bool.
    """
    apart = [-((a * b.detach()).sum(1) + TINY).log() for a, b in ((first, second), (second, first))]
    return ((apart[0] + apart[1]) / 2)[inside].mean()


def spread_out(presence: Tensor) -> Tensor:
    """How far prototypes are from being used: the mean over prototypes of -log tanh of their sums over (B, K)."""
    return -(presence.sum(0).tanh() + TINY).log().mean()
