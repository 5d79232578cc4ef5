"""Remove and debias: pixels that are taken away are filled in from their neighbours, so that no hole shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..data.images import blur
from ..seeds import generator, seed_of
from .faithfulness import RANKED, SHUFFLED, register_masking
from .imputation import impute
from .masking import ImageChange, Masking
from .removal import OrderedRemoval, no_difference

BLURRED = "road_blurred"


@dataclass(frozen=True)
class Imputed(ImageChange):
    """The pixels of some ranks filled in from their neighbours, and a little noise on them."""

    start: int
    stop: int
    noise: float

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images (n, 3, H, W) without the pixels of these ranks; the row's seed fixes the noise."""
        ranks = masking.ranks.index_select(0, rows)
        gone = (ranks >= self.start) & (ranks < self.stop)
        filled = impute(masking.query.images.index_select(0, rows), gone)
        if not self.noise:
            return filled
        spread = self.noise * noise_of(masking.query.seeds[rows].tolist(), filled)
        return torch.where(gone[:, None], (filled + spread).clamp(0, 1), filled)


def noise_of(seeds: list[int], images: Tensor) -> Tensor:
    """Standard normal noise for each seed, one number for each channel of each pixel: (n, 3, H, W)."""
    sources = [generator(seed_of("road", seed)) for seed in seeds]
    return torch.stack([torch.randn(images.shape[1:], generator=source) for source in sources]).to(images.device)


@dataclass(frozen=True)
class Road(OrderedRemoval):
    """Mean over shares of the pixels of o_least - o_most, the class's probabilities without the smallest and largest M.

    What is taken away is filled in from its neighbours, with some noise.
    """

    noise: float = 0.01  # standard deviation, the range of a pixel being 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.noise >= 0:
            raise WrongUsage(f"noise is {self.noise}; expected at least 0")

    def kinds(self, ranks: tuple[int, int], pixels: int) -> list[ImageChange]:
        """The image whose pixels of these ranks are filled in; unchanged if there are none."""
        return [Imputed(*ranks, self.noise)]

    def __call__(self, masking: Masking) -> Tensor:
        return self.compare(masking)


@dataclass(frozen=True)
class BlurredRoad(Road):
    """What road gives to a blurred copy of M, which knows less.

    The blur is a Gaussian; a constant map stays as it is.
    """

    sigma: float = 0.05  # of the blur, as a share of the width

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise WrongUsage(f"sigma is {self.sigma}; expected more than 0")

    def __call__(self, masking: Masking) -> Tensor:
        return self.compare(Masking.of(blur_maps(masking.maps, self.sigma), masking.case))


def blur_maps(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, H, W) after a Gaussian blur, sigma as a share of the width; rounding puts no order on constant maps."""
    low, high = (extreme[:, None, None] for extreme in maps.flatten(1).aminmax(dim=1))
    return torch.where(low < high, blur(maps, sigma * maps.shape[-1]), maps)


CARD: dict[str, Any] = {
    "unit": "probability",
    "bounds": (-1.0, 1.0),
    "higher_is_better": True,
    "sign": RANKED,
    "ties": SHUFFLED,
    "undefined": "never",
    "source": "Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for "
    "Attribution Methods, ICML 2022",
    "chance": no_difference,
}
FURTHER = {
    "order": "most: the fall from the image to the images without the largest M; least: the rise to those without the "
    "smallest M; both: their sum. Higher is better in each",
    "imputation": "each pixel that is gone is the mean of its eight neighbours, gone or not, with the weights 1/6 "
    "(beside) and 1/12 (across a corner); those outside the image do not count; plus noise, cut off at 0 and 1",
    "threshold": "10, 20, ..., 90 % of the pixels, rounded down; the mean of the nine",
    "cost": "18 passes forwards a row with nine shares, and as many sparse systems, solved on the processor",
}
register_masking(
    "road",
    beside=BLURRED,
    further={
        **FURTHER,
        "quirks": f"known to prefer blurred maps (arXiv 2304.13836): {BLURRED} is always scored beside it; the paper "
        "takes the accuracy (output=accuracy) at 10, 20, 30, 40, 50, 70 and 90 %, with noise on normalised images; "
        "pytorch-grad-cam's ROADCombined is half of this",
    },
    **CARD,
)(Road)
register_masking(
    BLURRED,
    further={
        **FURTHER,
        "quirks": "a control for road, not a rank of methods: where it is as high as road, road cannot tell a map from "
        "a coarser one",
    },
    **CARD,
)(BlurredRoad)
