"""DeepLift: what the logit gains over a baseline, handed to the pixels that differ from it.

The rules run on a copy of the network (see `copy_canonically`) in which every activation and every max-pooling is
replaced by a module with DeepLift's way back. They are those of Captum 0.9, whose implementation is not used: its
numbers are others where max-pooling follows an activation directly, where its windows overlap, where the input of an
activation is read by another layer as well, and with activations that it does not list, such as ReLU6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..case import Query
from ..data.images import REPLACEMENTS, check_replacement
from ..models.canonical import copy_canonically
from ..models.classifier import Classifier
from ..models.networks.batched_passes import logit
from ..models.networks.features import at_least_single
from ..models.networks.modules import ACTIVATIONS, LINEAR, MEANS, NORMS, Constant
from ..registry import explainers
from .attribution.pixels import PixelAttribution
from .ranges import Choices, Ranges

SAME = 1e-10  # differences below this are none


@explainers.register(
    "deeplift",
    family="relevance",
    source="Shrikumar et al., ICML 2017",
    needs="a CNN of common layers",
    sign="signed, if pooling=sum",
)
@dataclass(frozen=True)
class DeepLift(PixelAttribution):
    """What each pixel adds to the logit by being what it is instead of the baseline, by the rescale rule.

    An activation multiplies what passes by the slope between its values for the baseline and for the image. The map
    adds up to the logit's difference between image and baseline. Two passes forwards and two backwards; image and
    baseline are in the network together, two images where only one may be.
    """

    pooling: str = "sum"
    baseline: str = "black"  # or white, mean (colour of the image), blur

    ranges: ClassVar[Ranges] = {"baseline": Choices(tuple(REPLACEMENTS))}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_replacement("baseline", self.baseline)

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """What each channel of each pixel contributes."""
        known = (*LINEAR, *MEANS, *NORMS, *ACTIVATIONS, Constant, nn.MaxPool2d)
        network = classifier.recall("deeplift", lambda: insert_rules(copy_canonically(classifier, "deeplift", known)))
        begin = REPLACEMENTS[self.baseline](query.images)
        portions = zip(*(rows.split(max(classifier.in_flight // 2, 1)) for rows in (begin, *query[:2])), strict=True)
        return torch.cat([contributions(classifier, network, *portion) for portion in portions])


def contributions(classifier: Classifier, network: nn.Module, begin: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    """What each channel of each pixel of a portion of images contributes, (b, 3, H, W)."""
    both = at_least_single(classifier.normalise(torch.cat([images, begin]))).requires_grad_()
    logits = classifier.count(network(both), 1.0)
    (multipliers,) = torch.autograd.grad(logit(logits[: len(images)], targets).sum(), both)
    pixels, reference = both.detach().chunk(2)
    return (pixels - reference) * multipliers[: len(images)]


def insert_rules(network: nn.Module) -> nn.Module:
    """Give a network DeepLift's rules, for batches of images and then their baselines; it is changed in place."""
    for name, module in list(network.named_children()):
        if isinstance(module, ACTIVATIONS):
            setattr(network, name, Lifted(Rescaled, module))
        elif isinstance(module, nn.MaxPool2d):
            setattr(network, name, Lifted(Raised, module))
    return network


class Lifted(nn.Module):
    """A module that gives what another one gives, and a multiplier instead of its gradient."""

    def __init__(self, rule: type[torch.autograd.Function], module: nn.Module) -> None:
        super().__init__()
        self.rule = rule
        self.module = module

    def forward(self, values: Tensor) -> Tensor:
        """The module's output for images and then their baselines, (2b, ...)."""
        output: Tensor = self.rule.apply(values, self.module)
        return output


class Rescaled(torch.autograd.Function):
    """The rescale rule: the slope of an activation between baseline and image; its own slope where they are the same.

    What arrives at baselines is none of the images' business, and they get nothing.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, activation: nn.Module) -> Tensor:
        """Activate, and keep what the way back needs."""
        ctx.activation = activation
        active: Tensor = activation(values)
        ctx.save_for_backward(values, active)
        return active

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The multiplier that arrives, times the slope."""
        (values, begin), (active, first) = (tensor.chunk(2) for tensor in ctx.saved_tensors)
        multiplier, nothing = gradients[0].chunk(2)
        with torch.enable_grad():
            leaves = values.detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.activation(leaves).sum(), leaves)
        gap = values - begin
        slope = torch.where(gap.abs() < SAME, slope, (active - first) / gap)
        return torch.cat([multiplier * slope, torch.zeros_like(nothing)]), None


class Raised(torch.autograd.Function):
    """The rule of max-pooling: the differences between baseline and image go to where the maxima are.

    Where a maximum rises, the image's position of it gets the difference; where it falls, the baseline's position.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: nn.MaxPool2d) -> Tensor:
        """Pool, and keep where the maxima are."""
        maxima, places = F.max_pool2d(
            values, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
        )
        ctx.save_for_backward(values, maxima, places)
        return maxima

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The difference that each position is owed, divided by its own gap to the baseline."""
        (values, begin), (maxima, first), (places, origins) = (tensor.chunk(2) for tensor in ctx.saved_tensors)
        multiplier, _ = gradients[0].chunk(2)
        top = torch.maximum(maxima, first)
        rise, fall = multiplier * (top - first), multiplier * (maxima - top)
        owed = scatter(rise, places, values) + scatter(fall, origins, values)
        gap = values - begin
        shares = torch.where(gap.abs() < SAME, scatter(multiplier, places, values), owed / gap)
        return torch.cat([shares, torch.zeros_like(begin)]), None


def scatter(amounts: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Add amounts (B, K, h, w) to zeros (B, K, H, W), each at the flat position that `places` has for it."""
    whole = torch.zeros_like(like).flatten(2)
    return whole.scatter_add_(2, places.flatten(2), amounts.flatten(2)).view_as(like)
