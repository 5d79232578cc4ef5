"""What part-prototype networks have in common: they find prototypes in an image, and add up what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class PrototypeNetwork(nn.Module, ABC):
    """Finds each prototype at each position of an image; a logit is a weighted sum of how strongly each was found.

    Attributes:
        backbone: the convolutional layers that give the features in which prototypes are looked for.
    """

    backbone: nn.Module

    @property
    @abstractmethod
    def weights(self) -> Tensor:
        """What each prototype (column) adds to the logit of each class (row) when it is found, (C, K) float32."""

    @abstractmethod
    def locate(self, images: Tensor) -> Tensor:
        """How strongly each prototype is found at each position: normalised images (B, 3, H, W) -> (B, K, h, w), >= 0.

        0 where it is not found at all; the largest value depends on the kind of network.
        """

    def find(self, images: Tensor) -> Tensor:
        """How strongly each prototype is found anywhere in the images: (B, 3, H, W) -> (B, K)."""
        return self.locate(images).amax((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, C)."""
        return self.find(images) @ self.weights.T
