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
from ..data.images import REPLACEMENTS, check_replacement
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, every_pair, gradient_at, input_gradient, logit
from ..models.networks.guard import evaluating
from ..models.streamlined import streamline
from ..registry import explainers
from ..seeds import generator, seed_of
from .attribution.pixels import PixelAttribution

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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_replacement("baseline", self.baseline)
        check_known("method", self.method, QUADRATURES)
        check_count("integrated_gradients", "steps", self.steps, 2 if self.method == "trapezoid" else 1)

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The integral of the gradient along the path, step by step."""
        begin = REPLACEMENTS[self.baseline](query.images)
        way = query.images - begin
        positions, weights = (values.to(way) for values in QUADRATURES[self.method](self.steps))

        def images_on_path(rows: Tensor, steps: Tensor) -> Tensor:
            return begin[rows] + positions[steps].view(-1, 1, 1, 1) * way[rows]

        mean = torch.zeros_like(way)
        for row, step, gradient in every_gradient(streamline(classifier), query.targets, self.steps, images_on_path):
            mean[row] += weights[step] * gradient
        return way * mean


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

    One gradient after the other is taken in, as Welford does: nothing is kept, and nothing cancels.
    """
    images, seeds = query.images, query.seeds.tolist()
    deviation = spread * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))

    def noisy(rows: Tensor, numbers: Tensor) -> Tensor:
        pairs = zip(rows.tolist(), numbers.tolist(), strict=True)
        noises = torch.stack([noise(seeds[row], number, images.shape[1:]) for row, number in pairs])
        return images[rows] + deviation[rows] * noises.to(images.device)

    mean, squares = torch.zeros_like(images), torch.zeros_like(images)
    for row, number, gradient in every_gradient(network, query.targets, samples, noisy):
        away = gradient - mean[row]
        mean[row] += away / (number + 1)
        squares[row] += away * (gradient - mean[row])
    return mean, squares / samples


def noise(seed: int, number: int, shape: torch.Size) -> Tensor:
    """Standard normal noise for a row's seed and a number, drawn on the CPU: the same on every device."""
    return torch.randn(shape, generator=generator(seed_of("noise", seed, number)))


def every_gradient(
    network: Network, targets: Tensor, numbers: int, perturbed: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """The gradient (3, H, W) of the target logit at every perturbation of every row, with row and number, in order.

    Rows and numbers share passes: `perturbed` gives, as in `predict_perturbed`, `in_flight` images at once.
    """
    pairs = every_pair(len(targets), numbers, targets.device)
    for rows, which in zip(*(indices.split(network.in_flight) for indices in pairs), strict=True):
        gradients = gradient_at(network, perturbed(rows, which), targets[rows], logit)
        yield from zip(rows.tolist(), which.tolist(), gradients, strict=True)


def check_count(method: str, name: str, count: int, fewest: int) -> None:
    """Raise WrongUsage where there are too few steps or samples."""
    if count < fewest:
        raise WrongUsage(f"{method}: {name} is {count}; expected at least {fewest}")
