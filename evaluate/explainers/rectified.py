"""Gradients through ReLUs that have another rule: deconvolution, guided backpropagation, and its products with CAMs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..case import Query
from ..maps import upsample
from ..models.classifier import Classifier
from ..models.networks.batched_passes import input_gradient
from ..models.networks.rectifiers import Rectifying, Rule, require_relus
from ..registry import explainers
from .attribution.activations import activations, gradcam_pp_weights, gradcam_weights
from .attribution.pixels import PixelAttribution
from .ranges import Layers, Ranges

RELUS = {"family": "gradients", "needs": "ReLUs, and no other activations", "sign": "positive, unless pooling=sum"}


@explainers.register("deconvnet", **RELUS, source="Zeiler and Fergus, ECCV 2014")
@dataclass(frozen=True)
class DeconvNet(PixelAttribution):
    """The gradient, but that every ReLU passes what is positive of it, whether it was active or not.

    What arrives at the pixels is not rectified; the default pooling drops what is negative there.
    """

    pooling: str = "pos_l2"

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The gradient under the rule for ReLUs."""
        return rectified_gradient("deconvnet", "deconvnet", classifier, query)


@explainers.register("guided_backprop", **RELUS, source="Springenberg et al., ICLR workshop 2015")
@dataclass(frozen=True)
class GuidedBackprop(PixelAttribution):
    """The gradient, but that every ReLU passes what is positive of it, where it was active.

    It depends little on the class and on the upper layers. What arrives at the pixels is not rectified; the default
    pooling drops what is negative there.
    """

    pooling: str = "pos_l2"

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The gradient under the rule for ReLUs."""
        return rectified_gradient("guided_backprop", "guided", classifier, query)


@dataclass(frozen=True)
class GuidedMap(PixelAttribution):
    """The guided gradient times a rectified class activation map, upsampled bilinearly."""

    name: ClassVar[str]  # what it is registered as

    pooling: str = "pos_l2"
    layer: str | None = None  # of the map: the path of a submodule; the classifier's target layer where None
    ranges: ClassVar[Ranges] = {"layer": Layers()}

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The product, signed as the guided gradient."""
        guided = rectified_gradient(self.name, "guided", classifier, query)
        return guided * upsample(self.map(classifier, query), query.images)[:, None]

    def map(self, classifier: Classifier, query: Query) -> Tensor:
        """The class activation map (B, h, w), not negative."""
        seen = activations(classifier, query, self.layer)
        return (self.weights(seen.channels, seen.gradient()) * seen.channels).sum(1).relu()

    @abstractmethod
    def weights(self, values: Tensor, gradient: Tensor) -> Tensor:
        """The weights (B, K, 1, 1) of the channels, from their values and their gradient, both (B, K, h, w)."""


@explainers.register("guided_gradcam", **RELUS, source="Selvaraju et al., ICCV 2017")
@dataclass(frozen=True)
class GuidedGradCam(GuidedMap):
    """The guided gradient times Grad-CAM."""

    name = "guided_gradcam"

    def weights(self, values: Tensor, gradient: Tensor) -> Tensor:
        """The weights of Grad-CAM, (B, K, 1, 1)."""
        return gradcam_weights(gradient)


@explainers.register("guided_gradcam_pp", **RELUS, source="Chattopadhay et al., WACV 2018")
@dataclass(frozen=True)
class GuidedGradCamPlusPlus(GuidedMap):
    """The guided gradient times Grad-CAM++. The authors' shift of the gradient, made for display, is left out."""

    name = "guided_gradcam_pp"

    def weights(self, values: Tensor, gradient: Tensor) -> Tensor:
        """The weights of Grad-CAM++, (B, K, 1, 1)."""
        return gradcam_pp_weights(values, gradient)


def rectified_gradient(method: str, rule: Rule, classifier: Classifier, query: Query) -> Tensor:
    """The gradient (B, 3, H, W) of each row's target logit with respect to its pixels, with a rule for ReLUs.

    Raises:
        NotApplicable: the network has other activations, or none.
    """
    with Rectifying(rule) as relus:
        gradient = input_gradient(classifier, query.images, query.targets)
    require_relus(method, classifier.arch, relus)
    return gradient
