"""Images seen through the masks of Score-CAM: their pixels, or what a network's first convolution gives for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..case import Query
from ..maps import normalise_range
from ..models.linear_stem import StemCut

ROOM = 4  # features of the first convolution that may be kept, as a multiple of the images in flight


def mask_images(query: Query, masks: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
    """Multiply images (n, 3, H, W) of some rows, in pixel space, by some of their masks (B, K, h, w)."""
    images = query.images[rows]
    wide = enlarge(masks[rows, numbers], images)
    # Once more: between the centres of the cells the extremes are not reached.
    return images * normalise_range(wide).to(images.dtype)


def enlarge(masks: Tensor, images: Tensor) -> Tensor:
    """Masks (n, h, w) at the images' resolution, (n, 1, H, W), bilinear between the centres of the cells."""
    return F.interpolate(masks[:, None], images.shape[2:], mode="bilinear", align_corners=False)


def can_share_stem(network: StemCut, masks: Tensor) -> bool:
    """Whether mixing the features of one image a cell of the masks (B, K, h, w) costs less than a convolution a mask.

    So far on a CPU alone, and in single precision or finer.
    """
    if network.convolution is None or masks.device.type != "cpu":
        return False
    weights = next(network.convolution.parameters())
    terms = masks[0, 0].numel() + 1
    return weights.dtype.itemsize >= 4 and 2 * terms <= weights[0].numel() and terms <= ROOM * network.in_flight


@dataclass
class SharedStem:
    """The features that a stem gives for masked images, without running it for every mask.

    An enlarged mask is a sum over its cells, and the stem is affine: its features are the same sum of those of the
    image seen through each cell alone. Equal to the stem's own but for rounding. The features lie where those of the
    call before lay, since new memory costs more than what is written there; who takes them may write into them.
    """

    network: StemCut
    query: Query
    masks: Tensor  # (B, K, h, w)
    _latest: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, rows: Tensor, numbers: Tensor) -> Tensor:
        """The features (n, C, H', W') of as many rows as may be in flight seen through their masks, channels last."""
        features = self.memory[: len(rows)]
        runs, counts = rows.unique_consecutive(return_counts=True)
        parts = (tensor.split(counts.tolist()) for tensor in (self.factors(rows, numbers), features))
        for row, factors, part in zip(runs.tolist(), *parts, strict=True):
            torch.mm(factors, self.responses(row).flatten(1), out=part)
        return features.unflatten(1, self.shape).permute(0, 3, 1, 2)

    @cached_property
    def memory(self) -> Tensor:
        """Where the features of the images in flight lie."""
        return self.black.new_empty(self.network.in_flight, self.black.numel())

    def factors(self, rows: Tensor, numbers: Tensor) -> Tensor:
        """What each cell, and the features of a black image, count for in each mask: (n, h * w + 1)."""
        values = self.masks[rows, numbers]
        low, high = enlarge(values, self.query.images).aminmax(dim=-1)
        low, high = low.amin((1, 2)), high.amax((1, 2))
        span = torch.where(high > low, high - low, 1.0)
        return F.pad((values.flatten(1) - low[:, None]) / span[:, None], (0, 1), value=1.0)

    @cached_property
    def cells(self) -> Tensor:
        """The masks, at the images' resolution, that are 1 at the centre of one cell: (h * w, 1, H, W)."""
        height, width = self.masks.shape[2:]
        count = height * width
        return enlarge(torch.eye(count).view(count, height, width).to(self.masks), self.query.images)

    @cached_property
    def black(self) -> Tensor:
        """The features (1, H', W', C) of a black image."""
        return self.network.stem(torch.zeros_like(self.query.images[:1])).permute(0, 2, 3, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and number of the features of an image."""
        return tuple(self.black.shape[1:])

    def responses(self, row: int) -> Tensor:
        """The features (h * w + 1, H', W', C) of a row seen through each cell, without a black image's; then these."""
        if row not in self._latest:
            self._latest.clear()  # rows come in order, so that no other one is wanted again
            parts = (self.query.images[row] * cells for cells in self.cells.split(self.network.in_flight))
            features = torch.cat([self.network.stem(part).permute(0, 2, 3, 1) for part in parts])
            self._latest[row] = torch.cat([features - self.black, self.black])
        return self._latest[row]
