"""The loss of ProtoPNet: classes, patches near prototypes of their class and far from others, few weights across."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifier import Classifier
from ..training_loss import precision
from .protopnet import ProtoPNet, similarity


def cluster_cost(smallest: Tensor, is_own: Tensor) -> Tensor:
    """The mean distance of images to the nearest prototype of their class; its gradient is that of the nearest one.

    Args:
        smallest: the squared distance of each image to each prototype, at the nearest position, (B, K).
        is_own: whether a prototype is of the image's class, (B, K) bool.
    """
    return smallest.masked_fill(~is_own, torch.inf).amin(1).mean()


def separation_cost(smallest: Tensor, is_own: Tensor) -> Tensor:
    """The mean distance of images to the nearest prototype of another class; arguments as in `cluster_cost`."""
    return smallest.masked_fill(is_own, torch.inf).amin(1).mean()


def cross_weights(network: ProtoPNet) -> Tensor:
    """The sum of magnitudes of the weights between prototypes and other classes than their own."""
    return network.last.weight.masked_fill(network.is_own_class, 0.0).abs().sum()


def network_of(classifier: Classifier) -> ProtoPNet:
    """The network of a classifier that is known to be a ProtoPNet."""
    assert isinstance(classifier.network, ProtoPNet), "the recipe is registered for these alone"
    return classifier.network


@dataclass(frozen=True)
class ProtoPNetLoss:
    """Cross entropy + cluster cost - separation cost + weights between prototypes and other classes, each weighted."""

    cluster: float = 0.8
    separation: float = 0.08
    sparsity: float = 1e-4

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, source: torch.Generator) -> Tensor:
        """The loss of images (B, 3, H, W) uint8 with labels (B,), a scalar."""
        network, normalised = network_of(classifier), classifier.normalise(images.float() / 255)
        kind = precision(normalised.device)
        with torch.autocast(normalised.device.type, dtype=kind, enabled=kind is not None):
            features = network.backbone(normalised)
        smallest = network.prototypes(network.add_on(features.float())).amin((2, 3))
        is_own = network.class_identity[None] == labels[:, None]
        return (
            F.cross_entropy(network.last(similarity(smallest)), labels)
            + self.cluster * cluster_cost(smallest, is_own)
            - self.separation * separation_cost(smallest, is_own)
            + self.sparsity * cross_weights(network)
        )

    def words(self) -> str:
        """The loss with its weights, in a few words."""
        terms = {"cluster": self.cluster, "separation": -self.separation, "cross weights": self.sparsity}
        return "cross entropy" + "".join(f" {value:+g} {name}" for name, value in terms.items() if value)
