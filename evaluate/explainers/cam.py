"""Class activation maps: the channels of a layer, weighted and summed.

All of them are S = h(sum_k w_k A_k), where A_k are the layer's channels and h is the identity or a ReLU. What tells one
from another is the weights, and that is all that a variant defines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable

from ..activations import gradcam_weights, layer_gradient, upsampled
from ..case import Query
from ..classifier import Classifier
from ..registry import explainers
from ..split import Features

FAMILY = {"family": "cam", "needs": "a layer with spatial extent"}


@dataclass(frozen=True)
class ActivationMap(ABC):
    """The family's formula."""

    layer: str | None = None  # the path of a submodule; the classifier's target layer where None

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        with torch.no_grad():
            features = classifier.head(query.images, self.layer)
        weights = self.weights(classifier, features, query)
        weighted = (weights * classifier.spatial(features.values)).sum(1)
        return upsampled(self.rectified(weighted), query.images)

    @abstractmethod
    def weights(self, classifier: Classifier, features: Features, query: Query) -> Tensor:
        """The weights, (B, K, 1, 1) or (B, K, h, w)."""

    def rectified(self, maps: Tensor) -> Tensor:
        """The formula's h: evidence against the class is dropped, unless a variant keeps it."""
        return maps.relu()


@explainers.register(
    "cam", family="cam", source="Zhou et al., CVPR 2016", needs="a layer, its mean, one linear layer", sign="signed"
)
@dataclass(frozen=True)
class Cam(ActivationMap):
    """The class's own weights in the linear layer: the mean of the map at the layer is the logit without its bias."""

    relu: bool = False  # not in the paper

    def weights(self, classifier: Classifier, features: Features, query: Query) -> Tensor:
        linear = final_linear(classifier, features, self.layer)
        return linear.weight.detach()[query.targets, :, None, None]

    def rectified(self, maps: Tensor) -> Tensor:
        """Evidence against the class stays, unless it is asked to go."""
        return maps.relu() if self.relu else maps


@explainers.register("gradcam", **FAMILY, source="Selvaraju et al., ICCV 2017", sign="positive")
@dataclass(frozen=True)
class GradCam(ActivationMap):
    """The mean, over all positions, of the logit's gradient with respect to the channel."""

    def weights(self, classifier: Classifier, features: Features, query: Query) -> Tensor:
        return gradcam_weights(layer_gradient(classifier, features, query.targets, self.layer))


def final_linear(classifier: Classifier, features: Features, layer: str | None) -> nn.Linear:
    """The one linear layer that follows the mean of the features.

    Raises:
        NotApplicable: something else follows.
    """
    linears = [module for module in classifier.network.modules() if isinstance(module, nn.Linear)]
    if linears and follows_mean(linears[-1], classifier, features, layer):
        return linears[-1]
    name = layer or classifier.target_layer
    raise NotApplicable(
        f'cam: behind "{name}", {classifier.arch} does not go on with the mean and one linear layer; use gradcam'
    )


@torch.no_grad()
def follows_mean(linear: nn.Linear, classifier: Classifier, features: Features, layer: str | None) -> bool:
    """Whether a linear layer on the mean of the features gives the logits: the numbers know, however it is written."""
    if features.values.ndim != 4 or features.values.shape[1] != linear.in_features:
        return False
    logits, expected = linear(features.values.mean((2, 3))), classifier.tail(features, layer)
    return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=1e-3, atol=1e-4)
