"""Relevance that passes through attention: the logit of a vision transformer, handed down to the pixels.

Normalisation is no layer: the relevance of a channel of a pixel is that of its normalised value.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage

from ..case import Query
from ..models.classifier import Classifier
from ..models.networks.features import at_least_single
from ..models.networks.guard import freezing
from ..registry import explainers
from . import patents
from .attribution.attention_aware_rules import AttentionAware, check_operations
from .attribution.contrasts import lead_over
from .attribution.pixels import PixelAttribution
from .ranges import Between, Ranges

FAMILY = {
    "family": "relevance",
    "needs": "attention, linear layers, layer norms and elementwise activations",
    "sign": "signed",
}


@dataclass(frozen=True)
class AttentionAwareRelevance(PixelAttribution):
    """Relevance by a gradient that changes on its way back; a variant says whether attention gets some."""

    name: ClassVar[str]  # what it is registered as
    through_softmax: ClassVar[bool]

    pooling: str = "sum"
    # Both gammas were chosen on validation rows of `single-6c` for flowervit, by `iou`; they suit others only perhaps.
    gamma_linear: float = 0.1  # of the gamma rule in linear layers; 0: the epsilon rule, noisy in transformers
    gamma_conv: float = 100.0  # of the gamma rule in convolutions, which cut the image into patches
    contrast: str | None = None  # a class by name: the relevance is that of the lead over its logit
    ranges: ClassVar[Ranges] = {
        "gamma_linear": Between(0.01, 1.0, log=True),
        "gamma_conv": Between(0.1, 100.0, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("gamma_linear", "gamma_conv"):
            if not 0 <= getattr(self, option) < math.inf:
                raise WrongUsage(f"{self.name}: {option} is {getattr(self, option)}; expected 0 or a positive number")

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The relevance of each channel of each pixel."""
        network = copy_if_half(classifier)
        size = max(
            classifier.in_flight // 2, 1
        )  # the gamma rule keeps two tensors of a layer where a gradient keeps one
        portions = zip(query.images.split(size), query.targets.split(size), strict=True)
        with freezing(network):
            return torch.cat([self.propagate(classifier, network, *portion) for portion in portions])

    def propagate(self, classifier: Classifier, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The relevance (B, 3, H, W) of the pixels of a portion of the images."""
        pixels = at_least_single(classifier.normalise(images)).requires_grad_()
        with AttentionAware(self.through_softmax, self.gamma_linear, self.gamma_conv):
            logits = network(pixels)
        check_operations(logits)
        classifier.count(logits.detach(), self.passes - 1)
        classifier.count(logits, 1.0)
        classifier.count_backward(logits, self.passes - 1)
        (gradient,) = torch.autograd.grad(lead_over(classifier, self.contrast)(logits, targets).sum(), pixels)
        return pixels.detach() * gradient

    @property
    def passes(self) -> float:
        """How often the linear layers run, forwards and backwards."""
        return 2.0 if self.gamma_linear or self.gamma_conv else 1.0


@explainers.register("attnlrp", **FAMILY, source="Achtibat et al., ICML 2024", note=patents.LRP)
@dataclass(frozen=True)
class AttnLrp(AttentionAwareRelevance):
    """Layer-wise relevance propagation through attention: the softmax and both factors of each product get relevance.

    Layer norms are linear, activations pass relevance on, linear layers and convolutions have the gamma rule. The map
    adds up to the logit but for what biases, positions and the softmax take. Costs two passes forwards and two
    backwards; with both gammas 0, one of each. LRP is patented, and free of charge for personal and scientific use
    alone, its authors say.
    """

    name = "attnlrp"
    through_softmax = True


@explainers.register(
    "cplrp",
    **FAMILY,
    source="Ali et al., ICML 2022; with the gamma rule of Achtibat et al., ICML 2024",
    note=patents.LRP,
)
@dataclass(frozen=True)
class CpLrp(AttentionAwareRelevance):
    """Layer-wise relevance propagation in which attention is a constant: the values get all of the relevance.

    Otherwise as `attnlrp`, and easier to tune. The map adds up to the logit but for what biases and positions take.
    LRP is patented, and free of charge for personal and scientific use alone, its authors say.
    """

    name = "cplrp"
    through_softmax = False


def copy_if_half(classifier: Classifier) -> nn.Module:
    """The network of a classifier, or a copy in single precision of one in half precision."""
    if classifier.dtype.itemsize >= 4:
        return classifier.network
    return copy.deepcopy(classifier.network).float()
