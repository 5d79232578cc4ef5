"""Infidelity and maximum sensitivity: what a map says of perturbed images, and how it bears perturbed images itself.

M is a map, f the class's output of the network, x an image in pixel space. The docstring of each class is the
definition on its card.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Case
from ..registry import register_metric
from ..seeds import generator, seed_of
from .faithfulness import COMMON, WEIGHED, register_masking
from .masking import ORIGINAL, ImageChange, Masking, check_baseline, explain_images
from .metric import Metric, sentence

YEH = "Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019"


def check_at_least_one(metric: str, samples: int) -> None:
    """Raise WrongUsage if a metric is asked for less than one sample."""
    if samples < 1:
        raise WrongUsage(f"{metric}: samples is {samples}; expected at least 1")


class Perturbed(ImageChange):
    """Images that differ a little from the original, each number in another way."""

    @abstractmethod
    def amounts(self, masking: Masking, rows: Tensor) -> Tensor:
        """How much of each pixel is taken away, (n, H, W)."""


@dataclass(frozen=True)
class Squared(Perturbed):
    """The pixels of a square replaced by the baseline; every square of at most 10 / 28 of the image is as likely."""

    number: int
    baseline: str

    def amounts(self, masking: Masking, rows: Tensor) -> Tensor:
        """How much of each pixel is taken away, (n, H, W): 1 in the square, 0 outside."""
        seeds = [seed_of("square", self.number, seed) for seed in masking.query.seeds[rows].tolist()]
        side, top, left = square(seeds, *masking.maps.shape[1:]).to(rows.device)[:, :, None].unbind(1)
        down, across = (torch.arange(length, device=rows.device) for length in masking.maps.shape[1:])
        inside = ((down >= top) & (down < top + side))[:, :, None] & ((across >= left) & (across < left + side))[
            :, None
        ]
        return inside.float()

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images with the square replaced by the baseline."""
        return masking.replace(rows, self.baseline, self.amounts(masking, rows))


def square(seeds: list[int], height: int, width: int) -> Tensor:
    """The side, top and left (n, 3) of a square for each seed, all squares of the sides allowed being as likely."""
    sides = torch.arange(1, max(1, round(10 / 28 * min(height, width))) + 1)
    places = ((height - sides + 1) * (width - sides + 1)).double()
    chances = [torch.rand(3, generator=generator(seed), dtype=torch.float64) for seed in seeds]
    size, top, left = torch.stack(chances, 1)
    side = sides[torch.searchsorted(places.cumsum(0) / places.sum(), size, right=True)]
    return torch.stack([side, (top * (height - side + 1)).long(), (left * (width - side + 1)).long()], 1)


@dataclass(frozen=True)
class Noisy(Perturbed):
    """Gaussian noise on every pixel, alike in its three channels; what leaves [0, 1] is cut off."""

    number: int
    spread: float

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images with noise, which the rows' seeds fix and which is drawn anew at each call."""
        seeds = [seed_of("noise", self.number, seed) for seed in masking.query.seeds[rows].tolist()]
        noise = normal(seeds, masking.maps)[:, None]
        return (masking.query.images.index_select(0, rows) + self.spread * noise).clamp(0, 1)

    def amounts(self, masking: Masking, rows: Tensor) -> Tensor:
        """How much of each pixel is taken away, (n, H, W): the mean over the channels."""
        return (masking.query.images.index_select(0, rows) - self.images(masking, rows)).mean(1)


def normal(seeds: list[int], like: Tensor) -> Tensor:
    """Standard normal noise (n, H, W) for each seed, of the size and on the device of maps."""
    drawn = [torch.randn(like.shape[1:], generator=generator(seed)) for seed in seeds]
    return torch.stack(drawn).to(like.device)


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """The logits (B, K) of one class (B,) a row, out of logits (B, K, C)."""
    return logits.gather(2, classes[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]


PERTURBATIONS = ("square", "noise")
# (logits (B, K, C) float64, classes (B,)) -> (B, K)
OUTPUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit": select_class,
    "probability": lambda logits, classes: select_class(logits.softmax(2), classes),
}


@register_masking(
    "infidelity",
    unit="squared output",
    bounds=(0.0, torch.inf),
    higher_is_better=False,
    sign="as it is: negative values speak against the class",
    ties=WEIGHED,
    undefined="never",
    source=YEH,
    further={
        "channels": "a map stands for all channels of its pixel: I is 1 in a removed square and 0 outside, as in the "
        "authors' code, and for noise it is the mean of x - y over the channels",
        "scale": "beta = mean(<I, M> D) / mean(<I, M>^2), D = f(x) - f(y), as in the authors' code and with Captum's "
        "normalize=True; 1 with scaled=false, and where <I, M> is 0 throughout",
        "quirks": "beta may be negative, so that a map and its negative score alike; with scaled=false, maps in other "
        "units than f score what their units say; the authors' squares become black, which a network may take for a "
        "class of its own; under noise nothing but a signed gradient is faithful",
    },
)
@dataclass(frozen=True)
class Infidelity:
    """Mean over perturbed images y of (beta <I, M> - (f(x) - f(y)))^2, where I tells the pixels that are perturbed.

    f is the class's output, and beta the scale of M that fits best.
    """

    samples: int = 50
    perturbation: str = "square"  # removed; or noise
    baseline: str = "mean"  # what a square becomes: each image's own colour; or black, or blur
    spread: float = 0.02  # standard deviation of the noise, the range of a pixel being 1
    output: str = "logit"  # or probability
    scaled: bool = True

    def __post_init__(self) -> None:
        check_at_least_one("infidelity", self.samples)
        check_baseline(self.baseline)
        check_known("perturbation", self.perturbation, PERTURBATIONS)
        if not self.spread > 0:
            raise WrongUsage(f"infidelity: spread is {self.spread}; expected more than 0")
        check_known("output", self.output, OUTPUTS)

    def perturbations(self) -> list[Perturbed]:
        """The perturbations of an image, as many as there are samples."""
        if self.perturbation == "noise":
            return [Noisy(number, self.spread) for number in range(self.samples)]
        return [Squared(number, self.baseline) for number in range(self.samples)]

    def __call__(self, masking: Masking) -> Tensor:
        kinds = self.perturbations()
        outputs = OUTPUTS[self.output](masking.logits([ORIGINAL, *kinds]).double(), masking.query.targets)
        drops = outputs[:, :1] - outputs[:, 1:]
        products = torch.stack([inner_products(masking, kind) for kind in kinds], 1)
        if self.scaled:
            power = products.square().sum(1, keepdim=True)
            products = products * ((products * drops).sum(1, keepdim=True) / power.where(power > 0, 1.0))
        return (products - drops).square().mean(1).float()


def inner_products(masking: Masking, kind: Perturbed) -> Tensor:
    """The inner products (B,) float64 of the maps with what a perturbation takes away."""
    every = torch.arange(len(masking.maps), device=masking.maps.device)
    return (kind.amounts(masking, every).double() * masking.maps.double()).sum((1, 2))


@dataclass(frozen=True)
class MaxSensitivity:
    """Largest |M(y) - M(x)| / |M(x)| over images y = x + noise, each value within `radius`; norms are Euclidean."""

    samples: int = 10
    radius: float = 0.02  # of the noise, uniform in each channel of each pixel; what leaves [0, 1] is cut off

    def __post_init__(self) -> None:
        check_at_least_one("max_sensitivity", self.samples)
        if not self.radius > 0:
            raise WrongUsage(f"max_sensitivity: radius is {self.radius}; expected more than 0")

    def __call__(self, maps: Tensor, case: Case) -> Tensor:
        """The score (B,) of maps (B, H, W)."""
        first = maps.double().flatten(1)
        length = first.norm(dim=1)
        length = length.where(length > 0, torch.nan)
        away = [self.explain_noisy(case, number).double().flatten(1) - first for number in range(self.samples)]
        return torch.stack([difference.norm(dim=1) / length for difference in away]).amax(0).float()

    def explain_noisy(self, case: Case, number: int) -> Tensor:
        """The maps (B, H, W) of images with one of the noises."""
        images, seeds = case.query.images, case.query.seeds.tolist()
        return explain_images(case, (images + self.radius * uniform(number, seeds, images)).clamp(0, 1))


def uniform(number: int, seeds: list[int], like: Tensor) -> Tensor:
    """Noise (n, 3, H, W), uniform in [-1, 1), for each seed, of the size and on the device of images."""
    sources = [generator(seed_of("max_sensitivity", number, seed)) for seed in seeds]
    return 2 * torch.stack([torch.rand(like.shape[1:], generator=source) for source in sources]).to(like.device) - 1


register_metric(
    Metric(
        name="max_sensitivity",
        family="faithfulness",
        score=MaxSensitivity(),
        unit="share of the map's length",
        bounds=(0.0, torch.inf),
        higher_is_better=False,
        sign="as it is: a value and its negative are far apart",
        ties=WEIGHED,
        undefined="the map is zero everywhere",
        source=YEH,
        version=1,
        definition=sentence(MaxSensitivity),
        needs=("method",),
        further={
            **COMMON,
            "quirks": "a method that draws is given the same seeds; a map that never changes is best; Captum divides "
            "by 1 where the map is zero, and lets images leave [0, 1]",
        },
    )
)
