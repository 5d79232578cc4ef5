"""The in-domain single deletion score: patches are removed one by one, and the model has learnt to see such images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from .faithfulness import register_masking
from .fine_tuned_answers import TUNED, TUNING_COST, ask_tuned
from .intervention import spearman
from .masking import BASELINES, ORIGINAL, ImageChange, Masking, check_baseline
from .robustness import select_class


def number_patches(grid: int, like: Tensor) -> Tensor:
    """The number of the patch that each pixel of images (..., H, W) lies in, (H, W) int64 from 0, on their device.

    The grid is as even as pixels allow.
    """
    down, across = (torch.arange(length, device=like.device) * grid // length for length in like.shape[-2:])
    return down[:, None] * grid + across


@dataclass(frozen=True)
class PatchRemoval:
    """One random patch of a grid becomes the baseline, in every other image."""

    grid: int
    baseline: str

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        """Images (B, 3, H, W) uint8, in half of which a patch is gone."""
        chosen = torch.randint(self.grid**2, (len(images),), generator=source)
        spared = torch.rand(len(images), generator=source) < 0.5
        lost = chosen.where(~spared, -1).to(images.device)
        return replace_bytes(images, number_patches(self.grid, images) == lost[:, None, None], self.baseline)


def replace_bytes(images: Tensor, gone: Tensor, baseline: str) -> Tensor:
    """Images (B, 3, H, W) uint8 whose pixels (B, H, W) bool become the baseline."""
    instead = (BASELINES[baseline](images.float() / 255) * 255).round().to(images.dtype)
    return torch.where(gone.to(images.device)[:, None], instead, images)


@dataclass(frozen=True)
class PatchGone(ImageChange):
    """The images without one patch of a grid, which becomes the baseline."""

    number: int
    grid: int
    baseline: str

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images (n, 3, H, W) in [0, 1] without the patch."""
        patches = number_patches(self.grid, masking.maps)
        gone = (patches == self.number).float().expand(len(rows), -1, -1)
        return masking.replace(rows, self.baseline, gone)


def average_patches(maps: Tensor, grid: int) -> Tensor:
    """The mean of maps (B, H, W) over each patch, (B, P) float64; in patches of one size it ranks as the sum does."""
    patches = number_patches(grid, maps).flatten()
    sums = torch.zeros(len(maps), grid**2, dtype=torch.float64, device=maps.device)
    return sums.index_add_(1, patches, maps.flatten(1).double()) / patches.bincount(minlength=grid**2)


@dataclass(frozen=True)
class SingleDeletion:
    """Spearman correlation over the patches of a grid of the sum of M and the fall of the class's logit without it.

    The logits are those of a copy of the network that is fine-tuned on images without random patches.
    """

    grid: int = 4  # patches along a side
    baseline: str = "mean"  # what a patch becomes: each image's own colour; or black, or blur
    tuned: bool = True  # false: the network as it is answers, which is the single deletion score

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        if self.grid < 2:
            raise WrongUsage(f"grid is {self.grid}; expected at least 2")

    def __call__(self, masking: Masking) -> Tensor:
        drops = self.drops(masking)
        return spearman(average_patches(masking.maps, self.grid), drops).float()

    def drops(self, masking: Masking) -> Tensor:
        """The fall of the class's logit without each patch, (B, P) float64."""
        side = min(masking.maps.shape[1:])
        if self.grid > side:
            raise WrongUsage(f"grid is {self.grid}; expected at most {side}, the side of the images")
        answers = ask_tuned(masking, PatchRemoval(self.grid, self.baseline)) if self.tuned else masking
        kinds = [PatchGone(number, self.grid, self.baseline) for number in range(self.grid**2)]
        logits = select_class(answers.logits([ORIGINAL, *kinds]).double(), masking.query.targets)
        return logits[:, :1] - logits[:, 1:]


def no_rank_correlation(masks: Tensor) -> Tensor:
    """exact: 0, as each patch of noise is as likely at each rank, or above its mean as below"""
    return torch.zeros(len(masks), device=masks.device)


register_masking(
    "idsds",
    unit="correlation",
    bounds=(-1.0, 1.0),
    higher_is_better=True,
    sign="as it is: negative values count against a patch",
    ties="patches of equal sums share the mean of their ranks",
    undefined="the map has the same sum in every patch, or the logit falls by the same",
    source="Hesse, Schaub-Meyer, Roth: Benchmarking the Attribution Quality of Vision Models, NeurIPS 2024",
    needs=("model", "training"),
    chance=no_rank_correlation,
    further={
        "network": f"{TUNED}; half of the images lose a patch, as in the authors' code",
        "patches": "4 x 4, as even as pixels allow; of patches of several sizes the mean is taken instead of the sum",
        "cost": f"17 passes forwards a row; {TUNING_COST}",
        "quirks": "the authors explain the fine-tuned network: to do so, name its file as the model, with tuned=false; "
        "their patches become the normaliser's mean colour, by zeros, here each image's own, which tells something of "
        "it (baseline=black does not); a patch holds evidence and background alike, so that a map need not be finer "
        "than the grid",
    },
)(SingleDeletion)
