"""F-Fidelity: few of the important pixels go, at random, and the model has learnt to see images that lack as many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..seeds import generator, seed_of
from .faithfulness import RANKED, SHUFFLED, register_masking
from .fine_tuned_answers import TUNED, TUNING_COST, ask_tuned
from .idsds import replace_bytes
from .masking import ImageChange, Masking, check_baseline
from .removal import OrderedRemoval, no_difference


@dataclass(frozen=True)
class PixelRemoval:
    """Random pixels become the baseline, of each image another share, evenly from none to a largest one."""

    share: float
    baseline: str

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        """Images (B, 3, H, W) uint8 without some pixels."""
        rows, (height, width) = len(images), images.shape[2:]
        most = int(self.share * height * width)
        counts = torch.randint(most + 1, (rows, 1), generator=source)
        places = torch.rand(rows, height * width, generator=source).argsort(1).argsort(1)
        return replace_bytes(images, (places < counts).view(rows, height, width), self.baseline)


@dataclass(frozen=True)
class SampleGone(ImageChange):
    """So many pixels, drawn from those of some ranks, replaced by the baseline; each number draws others."""

    start: int
    stop: int
    count: int
    number: int
    baseline: str

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images (n, 3, H, W) in [0, 1] without the pixels, which the rows' seeds fix."""
        return masking.replace(rows, self.baseline, self.choose(masking, rows).float())

    def choose(self, masking: Masking, rows: Tensor) -> Tensor:
        """Which pixels go, (n, H, W) bool."""
        ranks = masking.ranks.index_select(0, rows)
        seeds = [seed_of("ffidelity", self.number, seed) for seed in masking.query.seeds[rows].tolist()]
        draws = torch.stack([torch.rand(ranks.shape[1:], generator=generator(seed)) for seed in seeds])
        eligible = (ranks >= self.start) & (ranks < self.stop)
        values = draws.to(ranks.device).where(eligible, 2.0).flatten(1)  # draws are below 1
        chosen = torch.zeros_like(values, dtype=torch.bool)
        chosen.scatter_(1, values.argsort(dim=1, stable=True)[:, : self.count], True)
        return chosen.view_as(ranks)


@dataclass(frozen=True)
class FineTunedFidelity(OrderedRemoval):
    """Mean over shares of the pixels of o_least - o_most, the class's probabilities without some of the smallest and
    of the largest M: random ones, never more than beta of all pixels.

    A copy of the network gives them that is fine-tuned on images without up to beta of their pixels.
    """

    alpha: float = 0.5  # the part of the share that goes, at most
    beta: float = 0.1  # the part of the image that goes, at most
    samples: int = 4  # draws for each share
    baseline: str = "mean"  # what pixels become: each image's own colour; or black, or blur

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) <= 1:
                raise WrongUsage(f"{name} is {getattr(self, name)}; expected more than 0, and at most 1")
        if self.samples < 1:
            raise WrongUsage(f"samples is {self.samples}; expected at least 1")

    def kinds(self, ranks: tuple[int, int], pixels: int) -> list[ImageChange]:
        """The images without draws from the pixels of some ranks."""
        count = int(min(self.alpha * (ranks[1] - ranks[0]), self.beta * pixels))
        return [SampleGone(*ranks, count, number, self.baseline) for number in range(self.samples)]

    def __call__(self, masking: Masking) -> Tensor:
        return self.compare(ask_tuned(masking, PixelRemoval(self.beta, self.baseline)))


register_masking(
    "ffidelity",
    unit="probability",
    bounds=(-1.0, 1.0),
    higher_is_better=True,
    sign=RANKED,
    ties=SHUFFLED,
    undefined="never",
    source="Zheng et al.: F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI, ICLR 2025",
    needs=("model", "training"),
    chance=no_difference,
    further={
        "order": "most: FFid+, the fall without pixels of the largest M; least: the rise without pixels of the "
        "smallest, which is -FFid-; both: their sum. Higher is better in each",
        "network": f"{TUNED}, from no pixel to a share beta of them",
        "threshold": "10, 20, ..., 90 % of the pixels, rounded down, of which min(alpha, beta N / their number) goes; "
        "the mean of the nine, each drawn four times",
        "cost": f"72 passes forwards a row; {TUNING_COST}",
        "quirks": "the authors take the accuracy (output=accuracy), draw 50 times, let each pixel go with that "
        "probability, so that a few more may go than were learnt, and remove just beta when fine-tuning; single pixels "
        "that are gone say little to a network that sees their neighbours, so that scores are small",
    },
)(FineTunedFidelity)
