"""Occlusion: what the logit loses where a window hides a part of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..data.images import REPLACEMENTS, check_replacement
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, predict_perturbed
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from .ranges import Choices, Pixels, Ranges

AGGREGATES = ("mean", "sum")


@explainers.register(
    "occlusion", family="perturbation", source="Zeiler and Fergus, ECCV 2014", needs="logits", sign="signed"
)
@dataclass(frozen=True)
class Occlusion:
    """A pixel's value is what the logit loses, over the windows that hide the pixel: their mean, or their sum.

    Windows start at multiples of the stride, down and across, and the last ones are cut off by the border, so that
    each pixel is hidden by one at least. Windows that leave the image as it is, or that hide the same as another one,
    cost nothing.
    """

    window: int | None = None  # its side in pixels; an eighth of the image's where None
    stride: int | None = None  # half the window where None
    baseline: str = "black"  # what hides: black, white, mean (colour of the image) or blur
    aggregate: str = "mean"  # or sum, which favours pixels that more windows hide: those off the border
    precision: str = "float32"

    quick: ClassVar[dict[str, Any]] = {"window": 4}  # what tests of everything but the quality may replace
    ranges: ClassVar[Ranges] = {
        "window": Pixels(1 / 16, 1 / 4),
        "baseline": Choices(tuple(REPLACEMENTS)),
        "aggregate": Choices(tuple(AGGREGATES)),
    }

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and value < 1:
                raise WrongUsage(f"occlusion: {name} is {value}; expected at least 1 pixel, or none for the default")
        check_replacement("baseline", self.baseline)
        check_known("aggregate", self.aggregate, AGGREGATES)
        check_precision(self.precision)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        images = query.images
        down, across = (windows(side, *self.geometry(side)).to(images.device) for side in images.shape[2:])
        hidden = REPLACEMENTS[self.baseline](images)
        lost = losses(streamline(classifier, self.precision), query, hidden, down, across)
        total = down.mT.float() @ lost @ across.float()
        covered = down.sum(0)[:, None] * across.sum(0)
        return total / covered if self.aggregate == "mean" else total

    def geometry(self, side: int) -> tuple[int, int]:
        """Window and stride for an image's side; raises WrongUsage where pixels would be left out."""
        window = max(1, round(side / 8)) if self.window is None else self.window
        stride = max(1, window // 2) if self.stride is None else self.stride
        if window > side:
            raise WrongUsage(f"occlusion: window is {window}, the image {side} pixels; use a window of at most {side}")
        if stride > window:
            raise WrongUsage(f"occlusion: stride {stride} leaves pixels between windows of {window}; use at most that")
        return window, stride


def windows(side: int, window: int, stride: int) -> Tensor:
    """Which pixels each window hides along one axis: (number of windows, side) bool.

    >>> windows(5, 2, 2).int().tolist()
    [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    """
    starts = torch.arange(math.ceil((side - window) / stride) + 1)[:, None] * stride
    pixels = torch.arange(side)
    return (starts <= pixels) & (pixels < starts + window)


def losses(network: Network, query: Query, hidden: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """How much of its row's logit each window takes away: (B, windows down, windows across)."""
    images, targets, _ = query
    changed = torch.stack([changed_boxes(differs, down, across) for differs in (images != hidden).any(1)])
    rows = torch.arange(len(images), device=images.device).repeat_interleave(changed.shape[1])
    boxes, inverse = torch.cat([rows[:, None], changed.flatten(0, 1)], 1).unique(dim=0, return_inverse=True)

    def perturb(rows: Tensor, numbers: Tensor) -> Tensor:
        return torch.where(pixels_inside(boxes[numbers, 1:], images)[:, None], hidden[rows], images[rows])

    scores = predict_perturbed(network, targets, boxes[:, 0], torch.arange(len(boxes), device=images.device), perturb)
    clean, occluded = scores[inverse].unflatten(0, changed.shape[:2]).tensor_split([1], 1)
    return (clean - occluded).unflatten(1, (len(down), len(across)))


def pixels_inside(boxes: Tensor, images: Tensor) -> Tensor:
    """Which pixels lie inside the boxes (P, 4): (P, H, W) bool."""
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    height, width = (torch.arange(side, device=boxes.device) for side in images.shape[2:])
    down, across = (top <= height) & (height <= bottom), (left <= width) & (width <= right)
    return down[:, :, None] & across[:, None]


def changed_boxes(differs: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The smallest box around the pixels that each window changes: two windows change the same if it is the same.

    Args:
        differs: (H, W) bool, whether hiding the pixel changes it.
        down: (windows, H) bool.
        across: (windows, W) bool.

    Returns:
        (1 + windows down * windows across, 4) int64: first and last row, first and last column; empty boxes are all
        zeros but for a last row of -1, and the first box is empty: it leaves the image as it is.
    """
    rows = (across.float() @ differs.mT.float() > 0) & down[:, None]  # (windows down, windows across, H)
    columns = ((down.float() @ differs.float() > 0)[:, None] & across).flatten(0, 1)
    boxes = torch.cat([first_and_last(rows.flatten(0, 1)), first_and_last(columns)], 1)
    empty = torch.tensor([[0, -1, 0, 0]], device=differs.device)
    return torch.cat([empty, torch.where(rows.flatten(0, 1).any(1, keepdim=True), boxes, empty)])


def first_and_last(mask: Tensor) -> Tensor:
    """The first and the last place (P, 2) that is set in each row of a mask (P, N)."""
    mask = mask.byte()
    return torch.stack([mask.argmax(1), mask.shape[1] - 1 - mask.flip(1).argmax(1)], 1)
