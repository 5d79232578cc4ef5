"""Explanations from the gradient of the class's logit with respect to the pixels: at the image, or around it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..data.counted_noise import standard_normal
from ..data.images import REPLACEMENTS, check_replacement
from ..models.classifier import Classifier
from ..models.linear_stem import StemCut, cut_stem
from ..models.networks.batched_passes import Network, gradient_at, input_gradient, logit
from ..models.networks.guard import evaluating
from ..models.streamlined import streamline
from ..registry import explainers
from .attribution.pixels import PixelAttribution
from .ranges import Between, Choices, Ranges

MAGNITUDES = {"family": "gradients", "needs": "a differentiable network", "sign": "positive, unless pooling=sum"}
SUMS = {"family": "gradients", "needs": "a differentiable network", "sign": "signed, if pooling=sum"}


@explainers.register("gradient", **MAGNITUDES, source="Simonyan et al., ICLR workshop 2014")
@dataclass(frozen=True)
class Gradient(PixelAttribution):
    """How strongly the logit reacts to each pixel. One pass forwards, one backwards."""

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The gradient of the target's logit with respect to the pixels."""
        return input_gradient(classifier, query.images, query.targets)


@explainers.register("gradient_x_input", **SUMS, source="Shrikumar et al., arXiv 1605.01713, 2016")
@dataclass(frozen=True)
class GradientXInput(PixelAttribution):
    """The gradient times the image, in pixel space: black pixels get zero, whatever the normalisation."""

    pooling: str = "sum"

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """Gradient times image; for a network without biases it adds up to the logit."""
        return query.images * input_gradient(classifier, query.images, query.targets)


# Along the path from a baseline to the image.


def even_steps(first: float, last: float, steps: int) -> tuple[Tensor, Tensor]:
    """Positions of `steps` steps at equal distances, with equal weights."""
    return torch.linspace(first, last, steps, dtype=torch.float64), torch.full((steps,), 1 / steps, dtype=torch.float64)


def trapezoid(steps: int) -> tuple[Tensor, Tensor]:
    """Positions and weights of the trapezoid rule: both ends count half."""
    positions, weights = even_steps(0, 1, steps)
    weights[[0, -1]] /= 2
    return positions, weights / weights.sum()


def gauss_legendre(steps: int) -> tuple[Tensor, Tensor]:
    """Positions and weights of Gauss-Legendre: exact for polynomials of degree 2 * steps - 1."""
    positions, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(steps))
    return (positions + 1) / 2, weights / 2


# Number of steps -> positions in [0, 1] and weights that add up to one.
QUADRATURES: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "gausslegendre": gauss_legendre,
    "midpoint": lambda steps: even_steps(0.5 / steps, 1 - 0.5 / steps, steps),
    "left": lambda steps: even_steps(0, 1 - 1 / steps, steps),
    "right": lambda steps: even_steps(1 / steps, 1, steps),
    "trapezoid": trapezoid,
}


@explainers.register("integrated_gradients", **SUMS, source="Sundararajan et al., ICML 2017")
@dataclass(frozen=True)
class IntegratedGradients(PixelAttribution):
    """The mean gradient on the straight way from a baseline to the image, times what the image adds to the baseline.

    `steps` passes forwards and backwards. In the limit the map adds up to what the logit gains on that way; see
    `completeness` for what is missing.
    """

    pooling: str = "sum"
    steps: int = 50
    baseline: str = "black"  # or white, mean (colour of the image), blur
    method: str = "gausslegendre"  # or midpoint, left, right, trapezoid

    ranges: ClassVar[Ranges] = {"baseline": Choices(tuple(REPLACEMENTS))}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_replacement("baseline", self.baseline)
        check_known("method", self.method, QUADRATURES)
        check_count("integrated_gradients", "steps", self.steps, 2 if self.method == "trapezoid" else 1)

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The integral of the gradient along the path, step by step.

        The first convolution is affine: what it gives on the path lies between what it gives at the ends, and the
        gradients are added up behind it, so that they pass back through it once.
        """
        begin = REPLACEMENTS[self.baseline](query.images)
        network = cut_stem(streamline(classifier))
        parts = zip(*(rows.split(network.in_flight) for rows in (begin, query.images, query.targets)), strict=True)
        return torch.cat([self.integrate(network, *part) for part in parts])

    def integrate(self, network: StemCut, begin: Tensor, end: Tensor, targets: Tensor) -> Tensor:
        """The integral of the gradient on the way from `begin` to `end`, times the way: (B, 3, H, W)."""
        positions, weights = QUADRATURES[self.method](self.steps)
        with torch.no_grad():
            first, last = network.stem(begin), network.stem(end)
        places = positions.to(first).view(-1, 1, 1, 1, 1)

        def features_on_path(rows: slice, steps: slice) -> Tensor:
            return torch.lerp(first[rows], last[rows], places[steps])

        total = torch.zeros_like(first)
        for rows, steps, gradients in every_gradient(network, targets, self.steps, features_on_path):
            for weight, gradient in zip(weights[steps].tolist(), gradients, strict=True):
                total[rows].add_(gradient, alpha=weight)
        return (end - begin) * network.pull_back(total, end)


def completeness(classifier: Classifier, query: Query, explainer: IntegratedGradients) -> Tensor:
    """How much each image's attribution (B,) misses what the logit gains between baseline and image.

    The unit is that of the logits; zero is perfect. More steps bring it down. The explanation is made for it.
    """
    with evaluating(classifier), torch.enable_grad():
        total = explainer.attribution(classifier, query).sum((1, 2, 3))
    begin = REPLACEMENTS[explainer.baseline](query.images)
    with evaluating(classifier), torch.no_grad():
        gain = logit(classifier(query.images), query.targets) - logit(classifier(begin), query.targets)
    return (total - gain).abs()


# In a neighbourhood of the image.


@dataclass(frozen=True)
class NoisyGradients(PixelAttribution):
    """What gradients have in common, or not, at copies of the image under Gaussian noise.

    `samples` passes forwards and backwards. The copies are not clipped to [0, 1]. The noise derives from the row's seed
    alone: the methods of this kind see the same copies. The pooling is that of `gradient`, so that nothing but the
    noise tells them apart; Smilkov et al. leave it open.
    """

    name: ClassVar[str]  # what it is registered as
    fewest: ClassVar[int] = 1  # copies that it needs at least

    samples: int = 50
    spread: float = 0.15  # standard deviation of the noise, as a share of each image's range of values
    ranges: ClassVar[Ranges] = {"samples": Between(10, 100, log=True), "spread": Between(0.02, 0.5, log=True)}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name, "samples", self.samples, self.fewest)
        if not 0 <= self.spread < math.inf:
            raise WrongUsage(f"{self.name}: spread is {self.spread}; expected a share, such as 0.15")

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The attribution that the variant makes of the gradients at all copies."""
        return self.of_moments(*moments(streamline(classifier), query, self.samples, self.spread))

    @abstractmethod
    def of_moments(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The attribution, from the mean and the variance of the gradients, each (B, 3, H, W)."""


@explainers.register("smoothgrad", **MAGNITUDES, source="Smilkov et al., arXiv 1706.03825, 2017")
@dataclass(frozen=True)
class SmoothGrad(NoisyGradients):
    """The mean of the gradients."""

    name = "smoothgrad"

    def of_moments(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The mean of the gradients."""
        return mean


@explainers.register("smoothgrad_squared", **MAGNITUDES, source="Hooker et al., NeurIPS 2019")
@dataclass(frozen=True)
class SmoothGradSquared(NoisyGradients):
    """The mean of the squares of the gradients."""

    name = "smoothgrad_squared"

    def of_moments(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The mean of squares, which is the variance and the square of the mean."""
        return variance + mean.square()


@explainers.register("vargrad", **MAGNITUDES, source="Adebayo et al., ICLR workshop 2018")
@dataclass(frozen=True)
class VarGrad(NoisyGradients):
    """The variance of the gradients: the mean square of what tells them from their mean."""

    name = "vargrad"
    fewest = 2

    def of_moments(self, mean: Tensor, variance: Tensor) -> Tensor:
        """The variance of the gradients."""
        return variance


def moments(network: Network, query: Query, samples: int, spread: float) -> tuple[Tensor, Tensor]:
    """The mean and the population variance, each (B, 3, H, W), of the gradients at noisy copies of each image.

    One portion after the other is taken in, as Welford does one value: nothing is kept, and nothing cancels.

    Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, The American Statistician 1983,
    equation 2.1.
    """
    images = query.images
    deviation = spread * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def noisy(rows: slice, numbers: slice) -> Tensor:
        noises = standard_normal(query.seeds[rows], range(samples)[numbers], images.shape[1:])
        return images[rows] + deviation[rows] * noises

    mean, squares = torch.zeros_like(images), torch.zeros_like(images)
    for rows, numbers, gradients in every_gradient(network, query.targets, samples, noisy):
        before, count = numbers.start, len(gradients)
        middle = gradients.mean(0)
        away = middle - mean[rows]
        mean[rows] += away * (count / (before + count))
        squares[rows] += (gradients - middle).square().sum(0) + away.square() * (before * count / (before + count))
    return mean, squares / samples


def every_gradient(
    network: Network, targets: Tensor, numbers: int, perturbed: Callable[[slice, slice], Tensor]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The gradients of the target logit at every perturbation of every row, in portions.

    A portion holds as many numbers of all rows as may be in flight, and no more than one number where there are more
    rows than that; so the rows of a portion can be added up at once, and a GPU is not asked which they were.

    Args:
        targets: (B,) int64, the class asked for in each row.
        perturbed: (rows, numbers) -> the perturbed images (n, b, 3, H, W) of these numbers of these rows.

    Yields:
        rows, numbers and the gradients (n, b, 3, H, W); of each row, the numbers come in order.
    """
    for start in range(0, len(targets), network.in_flight):
        rows = slice(start, min(start + network.in_flight, len(targets)))
        classes = targets[rows]
        at_once = max(1, network.in_flight // len(classes))
        for number in range(0, numbers, at_once):
            which = slice(number, min(number + at_once, numbers))
            images = perturbed(rows, which)
            gradients = gradient_at(network, images.flatten(0, 1), classes.repeat(len(images)), logit)
            yield rows, which, gradients.unflatten(0, images.shape[:2])


def check_count(method: str, name: str, count: int, fewest: int) -> None:
    """Raise WrongUsage where there are too few steps or samples."""
    if count < fewest:
        raise WrongUsage(f"{method}: {name} is {count}; expected at least {fewest}")
