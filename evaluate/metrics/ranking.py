"""What the localisation metrics share: the pixels of a map in the order of their values, beside the mask.

One sort per map answers them all. Of a map's H * W pixels N count, all that are not void; a mask pixel is one of these
with evidence, by presence, by absence or by gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ..case import Truth
from ..maps import normalise_range
from .sorted_pixels import count_pairs, sort_pixels

THRESHOLDS = torch.arange(100) / 100
"""0, 0.01, ..., 0.99 of a range-normalised map, (T,) float32."""


@dataclass(frozen=True)
class Ranking:
    """A batch of maps beside its masks; what has to be computed is computed when it is first asked for, and kept."""

    maps: Tensor  # (B, H, W) float32, finite; void pixels have the least value of all that count
    masks: Tensor  # (B, H, W) bool; void pixels are none of the mask
    void: Tensor | None = None  # (B, H, W) bool: the pixels that do not count; None if all do
    whole: Ranking | None = None  # the same maps and masks with every pixel counted; None if it is this ranking

    @classmethod
    def of(cls, maps: Tensor, truth: Truth) -> Ranking:
        """The ranking of maps (B, H, W) beside the masks of the truth, without the pixels that are void."""
        return cls.counting(maps, truth.masks > 0, truth.void)

    @classmethod
    def counting(cls, maps: Tensor, masks: Tensor, void: Tensor | None) -> Ranking:
        """The ranking of maps (B, H, W) beside masks (B, H, W) bool, void pixels (B, H, W) bool left out."""
        if void is None or not void.any():
            return cls(maps, masks)
        least = maps.masked_fill(void, torch.inf).flatten(1).amin(1)[:, None, None]
        least = least.where(least.isfinite(), 0)  # nothing counts
        return cls(torch.where(void, least, maps), masks & ~void, void, cls(maps, masks))

    @property
    def strict(self) -> Ranking:
        """The ranking in which void pixels count as the mask has them."""
        return self.whole or self

    @cached_property
    def pixels(self) -> Tensor:
        """The number N of pixels that count in each map, (B,) int64."""
        if self.void is None:
            return torch.full((len(self.maps),), self.maps[0].numel(), device=self.maps.device)
        return (~self.void).flatten(1).sum(1)

    @cached_property
    def highest(self) -> Tensor:
        """The largest value of each map, (B, 1) float32."""
        return self.values.gather(1, (self.pixels - 1).clamp(min=0)[:, None])

    @cached_property
    def size(self) -> Tensor:
        """Mask pixels per row, (B,) int64."""
        return self.masks.flatten(1).sum(1)

    @cached_property
    def peaks(self) -> Tensor:
        """The pixels that share the largest value, (B, H, W) bool."""
        return self._count(self.maps == self.maps.flatten(1).amax(1)[:, None, None])

    @cached_property
    def constant(self) -> Tensor:
        """Whether all pixels that count have one value, (B,) bool: such a map says nothing."""
        flat = self.maps.flatten(1)
        return flat.amax(1) == flat.amin(1)

    @property
    def positive(self) -> Tensor:
        """The maps without their negative values, (B, H, W) float32; void pixels are 0."""
        return self._count(self.maps.clamp(min=0))

    def _count(self, values: Tensor) -> Tensor:
        """Values (B, H, W) with 0 in the pixels that do not count."""
        return values if self.void is None else values.masked_fill(self.void, 0)

    @cached_property
    def shifted(self) -> Tensor:
        """The maps less their minima, (B, H, W) float32: none of them negative."""
        return self.maps - self.maps.flatten(1).amin(1)[:, None, None]

    @cached_property
    def mass(self) -> tuple[Tensor, Tensor]:
        """Sums of the shifted maps: over the mask, (B,) float64, and over all pixels, (B,) float64."""
        shifted = self.shifted.flatten(1)
        inside = (shifted * self.masks.flatten(1)).sum(1, dtype=torch.float64)
        return inside, shifted.sum(1, dtype=torch.float64)

    @cached_property
    def above_mean(self) -> Tensor:
        """The pixels strictly above the mean of their map, (B, H, W) bool: none of a constant map."""
        # float64: a constant map has its own mean
        means = self._count(self.maps).flatten(1).sum(1, dtype=torch.float64) / self.pixels
        return self.maps > means[:, None, None]

    @cached_property
    def confusion(self) -> tuple[Tensor, Tensor]:
        """Mask pixels among the pixels above the mean, (B,) int64, and how many are above the mean, (B,) int64."""
        above = self.above_mean.flatten(1)
        return (above & self.masks.flatten(1)).sum(1), above.sum(1)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """Values in ascending order, (B, H * W) float32, and which of them are mask pixels, (B, H * W) bool.

        Void pixels come last, as infinities.
        """
        values = self.maps.flatten(1)
        if self.void is not None:
            values = values.masked_fill(self.void.flatten(1), torch.inf)
        masks = self.masks.flatten(1)
        if values.device.type != "cpu":
            return _sort_on_device(values, masks)
        ordered, hits = sort_pixels(values.numpy(), masks.numpy())
        return torch.from_numpy(ordered), torch.from_numpy(hits)

    @property
    def values(self) -> Tensor:
        """The values in ascending order, (B, H * W) float32; behind the N that count there are infinities."""
        return self._sorted[0]

    @property
    def hits(self) -> Tensor:
        """Whether each of `values` is a mask pixel, (B, H * W) bool."""
        return self._sorted[1]

    @cached_property
    def below(self) -> Tensor:
        """At i: mask pixels among the i smallest values, (B, H * W + 1) int32."""
        return F.pad(self.hits.cumsum(1, dtype=torch.int32), (1, 0))

    def first(self, cuts: Tensor, *, beyond: bool) -> Tensor:
        """Position in `values` of the first one at or `beyond` each cut: (B, T) float32 -> (B, T) int64."""
        return torch.searchsorted(self.values, cuts.contiguous(), right=beyond)

    @cached_property
    def iou(self) -> Tensor:
        """IoU of the mask and the pixels above each of THRESHOLDS in the range-normalised map, (B, T) float64."""
        ranged = normalise_range(self.values.minimum(self.highest)[:, None])[:, 0]  # in order as well
        if self.void is not None:
            ranged = ranged.where(self.values.isfinite(), torch.inf)
        cuts = THRESHOLDS.to(ranged.device).expand(len(ranged), -1)
        return self.iou_from(torch.searchsorted(ranged, cuts.contiguous(), right=True))

    def iou_from(self, first: Tensor) -> Tensor:
        """IoU of the mask and the pixels at and after positions in `values`: (B, T) int64 -> (B, T) float64."""
        size = self.size[:, None]
        both = size - self.below.gather(1, first)
        return both.double() / (self.pixels[:, None] - first + size - both)

    @cached_property
    def smaller(self) -> Tensor:
        """How many pixels are smaller than each of `values`: the position of its first equal, (B, H * W) int64."""
        starts = F.pad(self.values[:, 1:] != self.values[:, :-1], (1, 0), value=True)
        positions = torch.arange(1, starts.shape[1] + 1, dtype=torch.int32, device=starts.device)
        return (starts * positions).cummax(1).indices

    @cached_property
    def lead(self) -> Tensor:
        """Pairs of a mask pixel and one outside where the former is larger, less those where it is less, (B,) int64."""
        if self.hits.device.type == "cpu":
            pairs = count_pairs(self.values.numpy(), self.hits.numpy())
            not_lost, tied = torch.from_numpy(pairs).unbind(1)
        else:  # a GPU would have to be waited for, to count where the mask pixels are
            outside = torch.arange(self.hits.shape[1], device=self.hits.device) - self.below[:, :-1]
            less = self.smaller - self.below.gather(1, self.smaller)
            not_lost, tied = ((pixels * self.hits).sum(1) for pixels in (outside, outside - less))
        return 2 * not_lost - tied - self.size * (self.pixels - self.size)

    @cached_property
    def top(self) -> Tensor:
        """Mask pixels among the |G| largest values, (B,) float64; tied pixels at the cut count by their share."""
        size, pixels = self.size[:, None], self.pixels[:, None]
        cut = self.values.gather(1, (pixels - size).clamp(max=self.values.shape[1] - 1))
        first, last = self.first(cut, beyond=False), self.first(cut, beyond=True)
        tied = self.below.gather(1, last) - self.below.gather(1, first)
        room = size - (pixels - last)
        return (size - self.below.gather(1, last) + room * tied.double() / (last - first)).squeeze(1)


def _sort_on_device(values: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows of values (B, N) float32, and say which are mask pixels, (B, N) bool: the last ones among equals.

    A float32 leaves 29 bits of a float64 unused; rounding to float32 gives the value back exactly.
    """
    keys = (values + 0.0).double()  # without -0
    keys.view(torch.int64).bitwise_or_(masks != (values < 0))  # below 0 a bit more makes a number less
    keys = keys.sort(1).values
    ordered = keys.float()
    return ordered, keys.view(torch.int64).bitwise_and_(1).bool() != (ordered < 0)


def nan_where_empty(values: Tensor, size: Tensor) -> Tensor:
    """Values (B,) or (B, T) in float32, with NaN in the rows whose mask, of `size` pixels (B,), is empty."""
    return values.float().where((size > 0).view(-1, *[1] * (values.ndim - 1)), torch.nan)


def nan_where_silent(values: Tensor, ranking: Ranking) -> Tensor:
    """Values (B,) or (B, T) in float32, with NaN in the rows whose mask is empty or whose map is constant."""
    return nan_where_empty(values, ranking.size.where(~ranking.constant, 0))


def share(weights: Tensor, regions: Tensor) -> Tensor:
    """Part of non-negative weights (B, H, W) that lies in regions (B, H, W): (B,) float64; NaN without weight."""
    weights, regions = weights.flatten(1), regions.flatten(1)
    return (weights * regions).sum(1, dtype=torch.float64) / weights.sum(1, dtype=torch.float64)


def dilate(masks: Tensor, radius: float) -> Tensor:
    """Pixels at a Euclidean distance strictly below `radius` from a pixel of the masks: (B, H, W) bool -> bool."""
    (height, width), reach = masks.shape[1:], max(math.ceil(radius) - 1, 0)
    padded = F.pad(masks, (reach,) * 4)
    half, wide, near = 0, padded[..., reach : reach + width], masks
    for away in range(reach, -1, -1):  # rows of the disc, from its rim to its middle, where it is widest
        while (half + 1) ** 2 + away**2 < radius**2:
            half += 1
            wide = wide | padded[..., reach - half :][..., :width] | padded[..., reach + half :][..., :width]
        near = near | wide[:, reach - away :][:, :height] | wide[:, reach + away :][:, :height]
    return near


def tolerance(masks: Tensor) -> float:
    """The pointing game's 15 pixels at an image of 500, scaled to the longer side of the masks (B, H, W)."""
    return 15 * max(masks.shape[1:]) / 500
