"""RISE: what the class's probability is where the image is seen through random masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..case import Query
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, Readout, every_pair, predict_perturbed, probability
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from ..seeds import generator, seed_of
from .ranges import Between, Ranges


@explainers.register("rise", family="perturbation", source="Petsiuk et al., BMVC 2018", needs="logits", sign="positive")
@dataclass(frozen=True)
class Rise:
    """A pixel's value is the mean probability over the masks that show the pixel.

    One set of masks, drawn from the parameters alone, serves every image and class, as the authors have it. Since all
    values have the offset of the mean probability, read the map by its differences.
    """

    masks: int = 4000
    cells: int = 7  # a side of the random grids
    probability: float = 0.5  # that a cell of the grid is shown
    precision: str = "float32"

    quick: ClassVar[dict[str, Any]] = {"masks": 60}  # what tests of everything but the quality may replace
    ranges: ClassVar[Ranges] = {
        "masks": Between(500, 4000, log=True),
        "cells": Between(4, 12),
        "probability": Between(0.1, 0.9),
    }

    def __post_init__(self) -> None:
        if self.masks < 1:
            raise WrongUsage(f"rise: masks is {self.masks}; expected at least 1")
        if self.cells < 2:
            raise WrongUsage(f"rise: cells is {self.cells}; expected at least 2 a side")
        if not 0 < self.probability < 1:
            raise WrongUsage(f"rise: probability is {self.probability}; expected more than 0 and less than 1")
        check_precision(self.precision)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        masks = self.draw_masks(*query.images.shape[2:]).to(query.images.device)
        total = evidence(streamline(classifier, self.precision), query, masks, probability)
        return total / (self.masks * self.probability)

    def draw_masks(self, height: int, width: int) -> Masks:
        """Draw the masks for images of a size, each once; raises WrongUsage where there are more cells than pixels."""
        if self.cells > min(height, width):
            raise WrongUsage(f"rise: cells is {self.cells}; expected at most {min(height, width)}, the image's pixels")
        source = generator(seed_of("rise", self.masks, self.cells, str(self.probability)))
        grids = torch.rand(self.masks, self.cells**2, generator=source) < self.probability
        cell = [math.ceil(side / self.cells) for side in (height, width)]
        shifts = torch.stack([torch.randint(size, (self.masks,), generator=source) for size in cell], 1)
        unique, times = torch.cat([grids.long(), shifts], 1).unique(dim=0, return_counts=True)
        grids, shifts = unique[:, :-2].unflatten(1, (self.cells, self.cells)).float(), unique[:, -2:]
        return Masks(grids, shifts, times, enlargement(self.cells, height), enlargement(self.cells, width))


class Masks(NamedTuple):
    """Random masks, stored as small grids that are enlarged and shifted when they are needed."""

    grids: Tensor  # (P, cells, cells) float32, 0 or 1
    shifts: Tensor  # (P, 2) int64: how many pixels are cut off at the top and the left
    times: Tensor  # (P,) int64: how often each was drawn
    down: Tensor  # (possible shifts, H, cells) float32, from a grid's column to the mask's
    across: Tensor  # (possible shifts, W, cells) float32

    def to(self, device: torch.device) -> Masks:
        """Move the masks to a device."""
        return Masks(*(tensor.to(device) for tensor in self))

    def enlarge(self, numbers: Tensor) -> Tensor:
        """Enlarge the masks of these numbers: (n, H, W), float32 in [0, 1]."""
        top, left = self.shifts[numbers].unbind(1)
        return self.down[top] @ self.grids[numbers] @ self.across[left].mT


def enlargement(cells: int, side: int) -> Tensor:
    """The matrices of bilinear interpolation along one axis, for every shift: (shifts, side, cells).

    The grid is enlarged to one cell more than the image needs, so that it can be shifted by less than a cell. Beyond
    the centres of the outermost cells it is mirrored at these centres, as in the authors' code.
    """
    cell = math.ceil(side / cells)
    size = (cells + 1) * cell
    places = ((torch.arange(size) + 0.5) * cells / size - 0.5).abs()
    places = cells - 1 - (cells - 1 - places).abs()
    weights = (1 - (places[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    return weights.unfold(0, side, 1)[:cell].mT.contiguous()


def evidence(network: Network, query: Query, masks: Masks, read: Readout) -> Tensor:
    """The masks, weighted by what the network says of the images seen through them, and summed: (B, H, W)."""
    images, targets, _ = query
    rows, numbers = every_pair(len(images), len(masks.times), images.device)

    def perturb(rows: Tensor, numbers: Tensor) -> Tensor:
        return images[rows] * masks.enlarge(numbers)[:, None]

    scores = (
        predict_perturbed(network, targets, rows, numbers, perturb, read).unflatten(0, (len(images), -1)) * masks.times
    )
    portions = torch.arange(len(masks.times), device=images.device).split(network.in_flight)
    return sum(
        (torch.einsum("bn,nhw->bhw", scores[:, portion], masks.enlarge(portion)) for portion in portions),
        torch.zeros_like(images[:, 0]),
    )
