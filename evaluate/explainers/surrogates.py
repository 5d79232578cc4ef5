"""Linear models that stand in for the network around one image: the coefficients of its segments are the map.

All methods here show the network images in which some segments are hidden, and explain its answers by which segments
were shown. They differ in which segments they hide together, and in how they weight the answers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, Readout, logit, predict_perturbed, probability
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from ..seeds import generator
from .attribution.segments import SEGMENTATIONS, check_segments, cut_into_segments, mean_colours
from .ranges import Between, Choices, Ranges

FAMILY = {"family": "perturbation", "needs": "logits", "sign": "signed"}
HIDES = ("mean", "black")


@dataclass(frozen=True)
class Surrogate(ABC):
    """What these methods share: samples with hidden segments, and a linear model of the answers to them.

    Each row draws from its own seed; samples that are alike go through the network once.
    """

    samples: int = 1000
    segments: str = "quickshift"  # or slic, grid
    count: int = 50  # about how many segments, for slic and grid
    hide: str = "mean"  # a segment is hidden by its mean colour; or black
    precision: str = "float32"

    read: ClassVar[Readout]  # what of the network's answer is explained
    fewest: ClassVar[int]  # samples that the method needs
    quick: ClassVar[dict[str, Any]] = {"samples": 80}  # what tests of everything but the quality may replace
    ranges: ClassVar[Ranges] = {
        "samples": Between(200, 1000, log=True),
        "segments": Choices(tuple(SEGMENTATIONS)),
        "count": Between(20, 100),
        "hide": Choices(HIDES),
    }

    def __post_init__(self) -> None:
        if self.samples < self.fewest:
            raise WrongUsage(f"samples is {self.samples}; expected at least {self.fewest}")
        check_segments(self.segments, self.count)
        check_known("hide", self.hide, HIDES)
        check_precision(self.precision)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        labels = cut_into_segments(query.images, self.segments, self.count)
        counts = (labels.flatten(1).max(1).values + 1).tolist()
        shown = [self.draw(count, generator(seed)) for count, seed in zip(counts, query.seeds.tolist(), strict=True)]
        network = streamline(classifier, self.precision)
        scores = answer_samples(
            network, query, labels, self.hide_segments(query.images, labels), shown, type(self).read
        )
        fits = [self.fit(z.double().numpy(), y) for z, y in zip(shown, scores, strict=True)]
        maps = [torch.from_numpy(fit).to(query.images)[row] for fit, row in zip(fits, labels, strict=True)]
        return torch.stack(maps)

    def hide_segments(self, images: Tensor, labels: Tensor) -> Tensor:
        """Hide all segments of the images."""
        if self.hide == "black":
            return torch.zeros_like(images)
        return torch.stack([mean_colours(image, row) for image, row in zip(images, labels, strict=True)])

    @abstractmethod
    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Draw which of an image's segments are shown in each sample: (samples, count) bool, on the CPU."""

    @abstractmethod
    def fit(self, shown: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Fit the coefficients (count,) that explain scores (samples,) by what was shown (samples, count)."""


@explainers.register("lime", **FAMILY, source="Ribeiro et al., KDD 2016")
@dataclass(frozen=True)
class Lime(Surrogate):
    """A ridge regression of the probability; samples count the more, the more of the image they show.

    Every segment is shown in every other sample on average; the first sample shows all.
    """

    kernel_width: float = 0.25
    alpha: float = 1.0  # the ridge's penalty

    read: ClassVar[Readout] = staticmethod(probability)
    fewest: ClassVar[int] = 2
    ranges: ClassVar[Ranges] = {"kernel_width": Between(0.1, 1.0, log=True), "alpha": Between(0.01, 10.0, log=True)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kernel_width > 0:
            raise WrongUsage(f"lime: kernel_width is {self.kernel_width}; expected more than 0")
        if not self.alpha >= 0:
            raise WrongUsage(f"lime: alpha is {self.alpha}; expected 0 or more")

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Draw for each segment whether it is shown or hidden, as a coin falls."""
        shown = torch.randint(2, (self.samples, count), generator=source).bool()
        shown[0] = True
        return shown

    def fit(self, shown: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Fit a ridge regression whose intercept is not penalised: both sides without their weighted means."""
        weights = proximity(shown, self.kernel_width)
        means = np.average(shown, 0, weights), np.average(scores, 0, weights)
        return regression(shown - means[0], scores - means[1], weights, self.alpha)


def proximity(shown: np.ndarray, width: float) -> np.ndarray:
    """How near each sample is to the whole image, in (0, 1].

    Source: sqrt(exp(-d^2 / width^2)), d the cosine distance to the sample that shows all segments, as in the authors'
    code. The cosine of a sample that shows k of S segments is sqrt(k / S).
    """
    distance = 1 - np.sqrt(shown.mean(1))
    return np.exp(-(distance**2) / (2 * width**2))


@explainers.register("kernelshap", **FAMILY, source="Lundberg and Lee, NeurIPS 2017")
@dataclass(frozen=True)
class KernelShap(Surrogate):
    """The segments' Shapley values for the logit: together they make the difference between all shown and all hidden.

    Exact where all combinations of the segments are no more than the samples; estimated from random ones otherwise.
    The authors' own example on images has a thousand samples and slic.
    """

    segments: str = "slic"

    read: ClassVar[Readout] = staticmethod(logit)
    fewest: ClassVar[int] = 4

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Draw all segments, none, and then every other combination, or random ones by their Shapley weights."""
        ends = torch.tensor([[True], [False]]).expand(2, count)
        others = every_combination(count) if 2**count <= self.samples else self.draw_random(count, source)
        return torch.cat([ends, others])

    def draw_random(self, count: int, source: torch.Generator) -> Tensor:
        """Draw combinations in pairs: what one shows, the other hides, which halves the error for nothing."""
        pairs = math.ceil(self.samples / 2) - 1
        sizes = torch.arange(1, count, dtype=torch.float64)
        number = 1 + torch.multinomial(1 / (sizes * (count - sizes)), pairs, replacement=True, generator=source)
        order = torch.rand(pairs, count, generator=source).argsort(1)
        shown = order < number[:, None]
        return torch.stack([shown, ~shown], 1).flatten(0, 1)[: self.samples - 2]

    def fit(self, shown: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Fit the Shapley values, with the weights that the draw has not accounted for."""
        every = len(shown) == 2 ** shown.shape[1]
        return shapley_values(shown, scores, shapley_kernel(shown[2:]) if every else np.ones(len(shown) - 2))


def every_combination(count: int) -> Tensor:
    """All ways to show some, but not all, of `count` segments: (2^count - 2, count) bool.

    >>> every_combination(2).int().tolist()
    [[1, 0], [0, 1]]
    """
    return (torch.arange(1, 2**count - 1)[:, None] >> torch.arange(count)) % 2 > 0


def shapley_kernel(shown: np.ndarray) -> np.ndarray:
    """The weight of each combination, but for a factor: 1 / ((S over k) k (S - k)), where k of S segments are shown.

    Source: Lundberg and Lee, NeurIPS 2017, theorem 2.
    """
    count = shown.shape[1]
    sizes = shown.sum(1).astype(int)
    return np.array([1 / (math.comb(count, k) * k * (count - k)) for k in sizes.tolist()])


def shapley_values(shown: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The values (S,) that explain the scores best, under the condition that they sum to the difference of the ends.

    Args:
        shown: (n, S): all segments, none, and then the samples.
        scores: (n,)
        weights: (n - 2,), of the samples.
    """
    whole, nothing = scores[:2]
    # What is left when all segments share alike. Rows without their mean are orthogonal to the ones, and so is the
    # regression's shortest solution: it moves worth between segments and leaves the sum as it is.
    share = shown.mean(1, keepdims=True)
    left = scores - nothing - share[:, 0] * (whole - nothing)
    moved = regression((shown - share)[2:], left[2:], weights)
    return (whole - nothing) / shown.shape[1] + moved


def regression(features: np.ndarray, values: np.ndarray, weights: np.ndarray, penalty: float = 0) -> np.ndarray:
    """The coefficients (S,) of a weighted ridge regression through the origin; the shortest where there are many.

    In numpy, because scikit-learn takes a second to load, and disturbs Python's random state as it does.

    Args:
        features: (n, S) float64.
        values: (n,)
        weights: (n,)
    """
    weighted = features.T * weights
    normal = weighted @ features + penalty * np.eye(features.shape[1])
    return np.linalg.lstsq(normal, weighted @ values, rcond=1e-9)[0]


def answer_samples(
    network: Network, query: Query, labels: Tensor, hidden: Tensor, shown: list[Tensor], read: Readout
) -> list[np.ndarray]:
    """Run the network on each row's samples: scores, float64 (samples,) a row.

    Args:
        labels: (B, H, W) int64, the pixels' segments.
        hidden: (B, 3, H, W), the images with all segments hidden.
        shown: (samples, segments) bool a row.
    """
    images, targets, _ = query
    device, widest = images.device, max(samples.shape[1] for samples in shown)
    distinct, inverse = zip(*(samples.unique(dim=0, return_inverse=True) for samples in shown), strict=True)
    table = torch.cat([F.pad(samples, (0, widest - samples.shape[1])) for samples in distinct]).to(device)
    lengths = torch.tensor([len(samples) for samples in distinct], device=device)
    rows = torch.arange(len(images), device=device).repeat_interleave(lengths)

    def perturb(rows: Tensor, numbers: Tensor) -> Tensor:
        seen = table[numbers].gather(1, labels[rows].flatten(1)).view(-1, 1, *labels.shape[1:])
        return torch.where(seen, images[rows], hidden[rows])

    scores = (
        predict_perturbed(network, targets, rows, torch.arange(len(rows), device=device), perturb, read).cpu().double()
    )
    return [values[again].numpy() for values, again in zip(scores.split(lengths.tolist()), inverse, strict=True)]
