"""Does the network's answer hang on the pixels that a map calls important? Eight ways to take pixels away, and look.

x is an image, M its map, n(M) the map range-normalised to [0, 1], r the baseline that masked pixels become, all in
pixel space; p is the probability of a class on x, o on the changed image, both in double precision. Metrics that want
the same changed image share it. The docstring of each class is the definition on its card.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..registry import register_metric
from .masking import ORIGINAL, Faded, ImageChange, Masking, check_baseline, explain_images, remove_ranks
from .metric import Asking, Metric, sentence

RANKED = "read by rank: only the order of the values counts, whatever their sign"
SHIFTED = "the map is range-normalised: its minimum becomes 0, whatever its sign"
SHUFFLED = "in a random order, fixed by the row's seed"
WEIGHED = "none: every pixel counts by its value"
TARGETS = ("asked", "predicted")
PLOTTED = 57  # points of a curve that are kept: more than a picture shows
COMMON = {
    "oracle": "measured: what the mask scores, taken as the map",
    "resize": "none: maps and images have one size",
    "class": "that which the method was asked about",
}
FADED = {"normalisation": "n(M) = (M - min) / (max - min) per map; a constant map becomes zeros, which show nothing"}
OUTSIDE = "a network that never saw black pixels may take them for a class: read it beside chance, or see baseline=mean"
NORMALISED_SPACE = "pytorch-grad-cam's documentation masks the normalised tensor: masked pixels turn grey"


def register_masking(name: str, *, further: dict[str, str], **card: Any) -> Callable[[type], type]:
    """Register a frozen dataclass that reads a `Masking`, made with its defaults, as a metric of this family."""

    def file(kind: type) -> type:
        card.setdefault("needs", ("model",))
        metric = Metric(
            name=name,
            family="faithfulness",
            score=Asking(Masking.of, kind()),
            definition=sentence(kind),
            further={**COMMON, **further},
            version=1,
            **card,
        )
        register_metric(metric)
        return kind

    return file


class Belief(NamedTuple):
    """How sure the network is of a class, with nothing lost where that is nearly one."""

    share: Tensor  # float64: the probability of the class
    rest: Tensor  # float64: the probability of all other classes together

    @classmethod
    def of(cls, logits: Tensor, classes: Tensor) -> Belief:
        """The beliefs (B, K) in one class (B,) a row, from logits (B, K, C)."""
        shares = logits.double().softmax(2)
        indices = classes[:, None, None].expand(-1, shares.shape[1], 1)
        return cls(shares.gather(2, indices)[..., 0], shares.scatter(2, indices, 0.0).sum(2))


@dataclass(frozen=True)
class FadedScore:
    """A score of the class's probability before and after the image is multiplied by its map."""

    baseline: str = "black"  # or mean (each image's own colour), or blur

    def __post_init__(self) -> None:
        check_baseline(self.baseline)

    def beliefs(self, masking: Masking) -> tuple[Belief, Belief]:
        """The beliefs (B,) in the class that the method was asked about, on the image and on the masked image."""
        both = Belief.of(masking.logits([ORIGINAL, Faded(self.baseline)]), masking.query.targets)
        before, after = (Belief(*values) for values in zip(*(value.unbind(1) for value in both), strict=True))
        return before, after


@register_masking(
    "average_drop",
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=False,
    sign=SHIFTED,
    ties=WEIGHED,
    undefined="the class's probability on the image is 0 in double precision",
    source="Chattopadhay et al.: Grad-CAM++, WACV 2018",
    further={**FADED, "quirks": f"{OUTSIDE}; {NORMALISED_SPACE}; its DropInConfidence does not divide by p"},
)
class AverageDrop(FadedScore):
    """max(p - o, 0) / p, o being the class's probability on x n(M) + r (1 - n(M)); papers print 100 times its mean."""

    def __call__(self, masking: Masking) -> Tensor:
        before, after = self.beliefs(masking)
        return ((before.share - after.share).clamp(min=0) / before.share).float()


@register_masking(
    "average_increase",
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign=SHIFTED,
    ties=WEIGHED,
    undefined="never",
    source="Chattopadhay et al.: Grad-CAM++, WACV 2018",
    further={**FADED, "quirks": f"{OUTSIDE}; {NORMALISED_SPACE}; a map of ones but for one pixel scores like a coin"},
)
class AverageIncrease(FadedScore):
    """Whether o > p, o being the class's probability on x n(M) + r (1 - n(M)); papers print 100 times its mean."""

    def __call__(self, masking: Masking) -> Tensor:
        before, after = self.beliefs(masking)
        # By the odds, which tell apart probabilities that are both 1 in double precision.
        return (after.share / after.rest > before.share / before.rest).float()


@register_masking(
    "average_gain",
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign=SHIFTED,
    ties=WEIGHED,
    undefined="the other classes' probability on the image, 1 - p, is 0 in double precision",
    source="Zhang et al.: Opti-CAM, CVIU 248 (2024) 104101",
    further={
        **FADED,
        "quirks": f"{OUTSIDE}; 1 - p is the sum of the other classes' probabilities, so that p near 1 loses nothing",
    },
)
class AverageGain(FadedScore):
    """max(o - p, 0) / (1 - p), o being the class's probability on x n(M) + r (1 - n(M)); papers print 100 times it."""

    def __call__(self, masking: Masking) -> Tensor:
        before, after = self.beliefs(masking)
        return ((before.rest - after.rest).clamp(min=0) / before.rest).float()


@register_masking(
    "adcc",
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign=SHIFTED,
    ties=WEIGHED,
    undefined="the map, or the map of the masked image, is constant, or the class's probability on the image is 0",
    source="Poppi et al.: Revisiting the Evaluation of CAM Methods, CVPR workshops 2021",
    needs=("model", "method"),
    further={
        **FADED,
        "quirks": "the authors' code explains the predicted class, and counts a constant map as coherency 0",
    },
)
class Adcc(FadedScore):
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop.

    With y = x n(M) + r (1 - n(M)): coherency is (Pearson's correlation of M and the map of y + 1) / 2, complexity the
    mean of n(M).
    """

    def __call__(self, masking: Masking) -> Tensor:
        before, after = self.beliefs(masking)
        every = torch.arange(len(masking.maps), device=masking.maps.device)
        masked = Faded(self.baseline).images(masking, every)
        coherency = (correlation(masking.maps, explain_images(masking.case, masked)) + 1) / 2
        brevity = 1 - masking.normalised_maps.double().mean((1, 2))
        retained = 1 - (before.share - after.share).clamp(min=0) / before.share
        return (3 / (1 / coherency + 1 / brevity + 1 / retained)).float()  # one of them 0: 3 / inf


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of maps (B, H, W) with others: (B,) float64 in [-1, 1]; NaN where one is constant."""
    left, right = (standardise(maps.double().flatten(1)) for maps in (first, second))
    return (left * right).sum(1).clamp(-1, 1)


def standardise(values: Tensor) -> Tensor:
    """Values (B, N) less their mean, of length 1; NaN where they are constant."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    scaled = (values - low) / (high - low)  # first, so that neither tiny nor huge values are lost in the squares
    centred = scaled - scaled.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class Curve(ABC):
    """The mean height of a class's probability while pixels are changed, those of the largest values first."""

    baseline: str = "black"  # or mean (each image's own colour), or blur
    steps: int = 224  # at most: each changes as many pixels
    target: str = "asked"  # or predicted: the class that the network takes the unchanged image for

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        if self.steps < 1:
            raise WrongUsage(f"steps is {self.steps}; expected at least 1")
        check_known("target", self.target, TARGETS)

    def counts(self, pixels: int) -> list[int]:
        """How many pixels are changed at each point of the curve: from none to all."""
        step = -(-pixels // self.steps)
        return [*range(0, pixels, step), pixels]

    @abstractmethod
    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images of which so many of all pixels are changed."""

    def __call__(self, masking: Masking) -> Tensor:
        heights = self.heights(masking)
        counts = self.counts(masking.pixels)
        shares = torch.tensor(counts, dtype=heights.dtype, device=heights.device) / masking.pixels
        return torch.trapezoid(heights, shares).float()

    def heights(self, masking: Masking) -> Tensor:
        """The class's probability at each point of the curve, (B, T) float64."""
        counts = self.counts(masking.pixels)
        logits = masking.logits([self.kind(count, masking.pixels) for count in counts])
        classes = masking.query.targets
        if self.target == "predicted":
            classes = masking.logits([ORIGINAL])[:, 0].argmax(1)
        return Belief.of(logits, classes).share

    def trace(self, masking: Masking) -> Tensor:
        """The heights (B, DRAWN) float32 at some of the points, from the first to the last."""
        heights = self.heights(masking)
        return heights[:, plotted_points(heights.shape[1])].float()

    def levels(self, pixels: int) -> list[float]:
        """The share of the pixels that is changed at each of these points."""
        counts = self.counts(pixels)
        return [counts[point] / pixels for point in plotted_points(len(counts))]


def plotted_points(points: int) -> list[int]:
    """Which of so many points of a curve are kept for a picture of it: all, or DRAWN of them, evenly spread."""
    return sorted({round(place * (points - 1) / (PLOTTED - 1)) for place in range(PLOTTED)})


RISE = "Petsiuk, Das, Saenko: RISE, BMVC 2018"
STEPS = "as many pixels a step, ceil(N / steps), the last step the rest; the trapezoid rule"


@register_masking(
    "deletion",
    unit="probability",
    bounds=(0.0, 1.0),
    higher_is_better=False,
    sign=RANKED,
    ties=SHUFFLED,
    undefined="never",
    source=RISE,
    further={
        "threshold": STEPS,
        "quirks": f"{OUTSIDE}; RISE's zeros are the normaliser's mean colour, its class is the predicted one, and ties "
        "go by place",
    },
)
class Deletion(Curve):
    """Area under the class's probability while pixels of decreasing M turn into the baseline, over their share."""

    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images in which the pixels of the largest values are replaced."""
        return remove_ranks(self.baseline, 0, count)


@register_masking(
    "insertion",
    unit="probability",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign=RANKED,
    ties=SHUFFLED,
    undefined="never",
    source=RISE,
    further={
        "threshold": STEPS,
        "quirks": "where colour tells the classes apart, a blurred image shows its class already: see baseline=mean",
    },
)
@dataclass(frozen=True)
class Insertion(Curve):
    """Area under the class's probability while pixels of decreasing M appear in the baseline, over their share."""

    baseline: str = "blur"  # or black, or mean (each image's own colour)

    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images in which all but the pixels of the largest values are replaced."""
        return remove_ranks(self.baseline, count, pixels)


@dataclass(frozen=True)
class Perturbation(ABC):
    """Whether the network still gives the label, on average over nine steps of pixels being taken away."""

    baseline: str = "black"  # or mean (each image's own colour), or blur

    def __post_init__(self) -> None:
        check_baseline(self.baseline)

    @abstractmethod
    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images that lack so many of all pixels."""

    def __call__(self, masking: Masking) -> Tensor:
        counts = [masking.pixels * tenth // 10 for tenth in range(1, 10)]
        guesses = masking.logits([self.kind(count, masking.pixels) for count in counts]).argmax(2)
        return (guesses == masking.case.truth.labels[:, None]).float().mean(1)


PERTURBED: dict[str, Any] = {
    "unit": "accuracy",
    "bounds": (0.0, 1.0),
    "sign": RANKED,
    "ties": SHUFFLED,
    "undefined": "never",
    "source": "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021",
    "further": {
        "class": "the label, whatever the method was asked about",
        "threshold": "10, 20, ..., 90 % of the pixels, rounded down; the mean of the nine",
        "quirks": f"{OUTSIDE}; the paper speaks of an area under the curve; later code takes the mean, as here",
    },
}


@register_masking("perturbation_positive", higher_is_better=False, **PERTURBED)
class PositivePerturbation(Perturbation):
    """Top-1 accuracy with the label, mean over the removal of the 10, 20, ..., 90 % largest pixels of M."""

    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images in which the pixels of the largest values are replaced."""
        return remove_ranks(self.baseline, 0, count)


@register_masking("perturbation_negative", higher_is_better=True, **PERTURBED)
class NegativePerturbation(Perturbation):
    """Top-1 accuracy with the label, mean over the removal of the 10, 20, ..., 90 % smallest pixels of M."""

    def kind(self, count: int, pixels: int) -> ImageChange:
        """The images in which the pixels of the smallest values are replaced."""
        return remove_ranks(self.baseline, pixels - count, pixels)
