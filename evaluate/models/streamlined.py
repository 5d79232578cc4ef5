"""A faster copy of a classifier, for methods that run it hundreds of times on one batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable
from an8flower.names import check_known

from .classifier import Classifier
from .networks.agreement import agree
from .networks.arithmetic import multiplying_in_full
from .networks.features import at_least_single
from .networks.guard import evaluating
from .networks.sums_in_place import write_sums_over_convolutions
from .networks.unrolled import fold_batch_norms, unroll
from .networks.winograd import replace_wide_convolutions

PRECISIONS = ("float32", "bf16")  # float32: as the classifier's own weights


@dataclass(frozen=True)
class Streamlined:
    """Images (B, 3, H, W) in [0, 1] -> logits (B, C); its passes are booked on the classifier that it was made from."""

    classifier: Classifier
    network: nn.Module

    @property
    def in_flight(self) -> int:
        """The number of images that the copy may be given at once."""
        return self.classifier.in_flight

    def __call__(self, images: Tensor) -> Tensor:
        return self.classifier.count(at_least_single(self.network(self.normalise(images))), 1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the copy wants them: normalised, in the dtype of its weights, channels last."""
        normalised = self.classifier.normalise(images.contiguous(memory_format=torch.channels_last))
        dtype = next((weights.dtype for weights in self.network.parameters()), images.dtype)
        return normalised.to(dtype)


def streamline(classifier: Classifier, precision: str = "float32") -> Streamlined:
    """A copy with batch norms folded and channels last, on the same device, with weights that want no gradient.

    On a CPU, wide convolutions of 3 x 3 multiply less, forwards and back to their inputs (see `WinogradConv2d`), which
    moves their outputs and gradients by about 1e-6 of the largest; a rectifier whose input is as close to zero as that
    may let pass what it would not.

    Weights that are the same in both, such as those of linear layers, lie in memory once: nobody may write into a copy.

    The copy is made anew at every call, so that it never falls behind the classifier's weights; where these are watched
    (`Classifier.keeping`), once.

    Args:
        precision: `float32` gives what the classifier gives but for rounding; `bf16` is faster and coarser.

    Raises:
        WrongUsage: unknown precision.
    """
    check_precision(precision)
    return Streamlined(classifier, classifier.recall(("streamlined", precision), lambda: fold(classifier, precision)))


def fold(classifier: Classifier, precision: str) -> nn.Module:
    """The network of `streamline`."""
    network = copy_network(classifier).requires_grad_(False).eval().to(memory_format=torch.channels_last)
    if precision == "bf16":
        return network.bfloat16()
    if isinstance(network, fx.GraphModule):
        if classifier.device.type == "cpu":
            replace_wide_convolutions(network)
        network.graph.owning_module = None  # no circle: a copy that is forgotten leaves memory at once
    return network


def check_precision(precision: str) -> None:
    """Raise WrongUsage with the nearest name if there is no such precision."""
    check_known("precision", precision, PRECISIONS)


def copy_network(classifier: Classifier) -> nn.Module:
    """A copy of the classifier's network, folded if its graph can be traced and the result agrees."""
    try:
        folded = fold_batch_norms(unroll(classifier.network, sharing=True))
        copy_of_it = cast(nn.Module, write_sums_over_convolutions(folded))
    except NotApplicable:
        return copy.deepcopy(classifier.network)
    return copy_of_it if agrees(copy_of_it, classifier) else copy.deepcopy(classifier.network)


def agrees(network: nn.Module, classifier: Classifier) -> bool:
    """Whether another network gives the classifier's logits: a graph may miss what happens outside it."""
    images = classifier.probe(2)
    with evaluating(classifier), torch.no_grad(), multiplying_in_full():
        return agree(network(images), classifier.network(images), classifier.dtype)


@torch.no_grad()
def deviation(classifier: Classifier, images: Tensor, precision: str) -> Tensor:
    """How far a precision moves the probabilities of each image: the largest difference over the classes, (B,)."""
    network = streamline(classifier, precision)
    portions = images.split(classifier.in_flight)
    apart = [network(portion).softmax(1) - classifier(portion).softmax(1) for portion in portions]
    return torch.cat(apart).abs().amax(1)
