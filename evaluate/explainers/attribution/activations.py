"""What methods that read a layer share: its channels and their gradient, the weights of the channels, the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...case import Query
from ...models.classifier import Classifier
from ...models.networks.batched_passes import Readout, logit
from ...models.networks.features import Features, at_least_single
from ...models.networks.taps import tapping


class Activations(NamedTuple):
    """The output of a layer for a query, with the classifier, the query and the layer that it belongs to."""

    classifier: Classifier
    query: Query
    layer: str | None  # the classifier's target layer where None
    features: Features
    read: Readout = logit  # what of the logits is explained
    slope: Tensor | None = None  # the gradient, where the pass that gave the features went back as well

    @property
    def channels(self) -> Tensor:
        """The layer's channels as maps (B, K, h, w), of at least single precision."""
        return self.classifier.spatial(self.features.values)

    def gradient(self) -> Tensor:
        """The gradient (B, K, h, w) of each row's target logit, or what `read` takes, with respect to the channels."""
        if self.slope is not None:
            return self.slope
        return layer_gradient(self.classifier, self.features, self.query.targets, self.layer, self.read)

    def logits(self) -> Tensor:
        """The logits (B, C) of the query, from the layer on; without gradients."""
        with torch.no_grad():
            return self.classifier.tail(self.features, self.layer)


@torch.no_grad()
def activations(classifier: Classifier, query: Query, layer: str | None = None) -> Activations:
    """Run the network up to a layer.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: its output has no spatial extent.
    """
    return Activations(classifier, query, layer, classifier.head(query.images, layer))


def differentiate_layers(classifier: Classifier, query: Query, layers: Sequence[str]) -> list[Activations]:
    """Run the network once, through all of the layers, and back to the first of them; see `activations`.

    The features carry nothing along: the part behind the layer cannot be run from them.
    """
    for layer in layers:
        classifier.split(layer)  # which says what is wrong with a layer
    with tapping(classifier.network, layers) as outputs:
        logits = at_least_single(classifier.network(classifier.normalise(query.images)))
    classifier.count(logits.detach(), 1.0)
    classifier.count_backward(logits, classifier.share(next(iter(outputs))).tail)
    gradients = torch.autograd.grad(logit(logits, query.targets).sum(), list(outputs.values()))
    slopes = dict(zip(outputs, gradients, strict=True))

    def see(layer: str) -> Activations:
        values, slope = outputs[layer].detach(), slopes[layer]
        if classifier.gives_channels_last(layer, values):
            values, slope = values.permute(0, 3, 1, 2), slope.permute(0, 3, 1, 2)
        return Activations(classifier, query, layer, Features(values, ()), slope=classifier.spatial(slope))

    return [see(layer) for layer in layers]


def layer_gradient(
    classifier: Classifier, features: Features, targets: Tensor, layer: str | None, read: Readout = logit
) -> Tensor:
    """The gradient (B, K, h, w) of what is read of each row's logits with respect to the layer; the tail alone runs."""
    values = features.values.detach().requires_grad_()
    logits = classifier.tail(features._replace(values=values), layer)
    (gradient,) = torch.autograd.grad(read(logits, targets).sum(), values)
    return classifier.spatial(gradient)


def gradcam_weights(gradient: Tensor) -> Tensor:
    """The weights (B, K, 1, 1) of Grad-CAM: the mean over all positions of the gradient (B, K, h, w).

    Source: Selvaraju et al., ICCV 2017, eq. 1.
    """
    return gradient.mean((2, 3), keepdim=True)


def gradcam_pp_weights(values: Tensor, gradient: Tensor, renorm: bool = False) -> Tensor:
    """The weights (B, K, 1, 1) of Grad-CAM++: the sum of positive gradients, each by its coefficient alpha.

    With S_k the sum of channel k, alpha = g^2 / (2 g^2 + S_k g^3) = 1 / (2 + S_k g), and 0 where g or the denominator
    is 0. The factor exp(y_c), common to all channels, is dropped.

    Args:
        values: (B, K, h, w), the layer's output.
        gradient: (B, K, h, w), the gradient g of the logit with respect to it.
        renorm: divide each channel's alphas by their sum over positions with positive gradient, as the authors' code
            does and their paper does not.

    Source: Chattopadhay et al., WACV 2018, eq. 19.
    """
    denominator = 2 + values.sum((2, 3), keepdim=True) * gradient
    # Only positive gradients count, and without g^2 and g^3 small ones do not underflow.
    alphas = torch.where((gradient > 0) & (denominator != 0), 1 / denominator, 0.0)
    if renorm:
        total = alphas.sum((2, 3), keepdim=True)
        alphas = alphas / torch.where(total != 0, total, 1.0)
    return (alphas * gradient).sum((2, 3), keepdim=True)


def linear_after_mean(seen: Activations) -> nn.Linear | None:
    """The one linear layer that follows the mean of the channels; None where the network goes on in another way."""
    linears = [module for module in seen.classifier.network.modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears and follows_mean(linears[-1], seen) else None


@torch.no_grad()
def follows_mean(linear: nn.Linear, seen: Activations) -> bool:
    """Whether a linear layer on the mean of the channels gives the logits, judged by the numbers."""
    values = seen.features.values
    if values.ndim != 4 or values.shape[1] != linear.in_features:
        return False
    logits, expected = at_least_single(linear(values.mean((2, 3)))), seen.logits()
    tolerance = max(1e-3, 4 * torch.finfo(values.dtype).eps)
    nearly = tolerance / 10 * float(expected.abs().max())
    return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=tolerance, atol=nearly)
