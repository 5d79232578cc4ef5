"""PIP-Net: each channel is a prototype, positions share themselves out among them, and a sparse layer adds up.

Source: Nauta, Schlötterer, van Keulen and Seifert, CVPR 2023 (PIP-Net).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import PrototypeNetwork

FOUND = 0.1  # in eval mode, a prototype that is found less strongly counts as not found
SMALLEST = 1e-3  # in training, a weight that falls below becomes 0


class EvidenceLayer(nn.Module):
    """A linear layer without bias whose weights are never negative, from prototypes to classes.

    Attributes:
        values: the weights as they are stored, (C, K); a negative one counts as 0.
    """

    def __init__(self, prototypes: int, classes: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.empty(classes, prototypes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew from a normal distribution around 1, so that each prototype speaks for each class."""
        nn.init.normal_(self.values, 1.0, 0.1)

    @property
    def weights(self) -> Tensor:
        """The weights (C, K), none below 0."""
        return self.values.clamp(min=0)

    def forward(self, presence: Tensor) -> Tensor:
        """How strongly prototypes are found (B, K) -> the sums for each class (B, C), none below 0."""
        return presence @ self.weights.T

    @torch.no_grad()
    def drop_small(self) -> None:
        """Set weights below 0.001 to 0: from there no gradient moves them again."""
        self.values.masked_fill_(self.values < SMALLEST, 0.0)


class PipNet(PrototypeNetwork):
    """A network whose positions are shared out among prototypes by a softmax; the largest share anywhere counts.

    A class gets the sum s = w p, where p are the largest shares and w are weights without sign and bias. The logits are
    log(1 + s^2): the publication trains with their log softmax, so that their softmax is what was trained to be a
    probability. They order classes as the sums do. Where the sum of a class is 0, its gradient is 0 as well.

    In eval mode shares below 0.1 are 0, here and in `locate`. An image in which no prototype of weight is found has
    sums, and logits, of 0 for each class: the network abstains. All its probabilities are then equal, and the first
    class counts as predicted, as with any tie.
    """

    def __init__(self, backbone: nn.Module, channels: int, prototypes: int, classes: int) -> None:
        """Take a backbone without head.

        Args:
            backbone: from normalised images (B, 3, H, W) to features (B, `channels`, h, w).
            prototypes: how many; a convolution of 1 x 1 makes them of the features.
        """
        super().__init__()
        self.backbone = backbone
        self.prototypes = nn.Conv2d(channels, prototypes, 1, bias=False)
        self.evidence = EvidenceLayer(prototypes, classes)

    @property
    def weights(self) -> Tensor:
        """What each prototype (column) adds to the sum of each class (row) when it is found, (C, K) >= 0."""
        return self.evidence.weights

    def compare(self, images: Tensor) -> Tensor:
        """How well each prototype fits each position, before the softmax: normalised (B, 3, H, W) -> (B, K, h, w)."""
        return self.prototypes(self.backbone(images))

    def locate(self, images: Tensor) -> Tensor:
        """The share of each prototype in each position: normalised images (B, 3, H, W) -> (B, K, h, w) in [0, 1].

        In training mode the shares of a position sum to 1. In eval mode those below 0.1 are 0.
        """
        shares = self.compare(images).softmax(1)
        return shares if self.training else shares * (shares >= FOUND)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, C), log(1 + s^2) of the sums s."""
        return to_logits(self.evidence(self.find(images)))


def to_logits(sums: Tensor) -> Tensor:
    """The logits log(1 + s^2) of the sums s of classes, (B, C) >= 0."""
    return sums.square().log1p()
