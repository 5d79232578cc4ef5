"""From an attribution for every colour channel to one map: the named ways that papers use."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.names import check_known


def abs_sum99(attribution: Tensor) -> Tensor:
    """The sum of magnitudes, clipped at each image's 99th percentile and scaled to [0, 1]; zeros if it is constant."""
    total = attribution.abs().sum(1)
    low = total.amin((1, 2), keepdim=True)
    high = total.flatten(1).quantile(0.99, dim=1)[:, None, None]
    return torch.where(high > low, (total.clamp(max=high) - low) / (high - low), 0.0)


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {  # (B, 3, H, W) -> (B, H, W)
    "abs_max": lambda attribution: attribution.abs().amax(1),
    "abs_sum": lambda attribution: attribution.abs().sum(1),
    "abs_sum99": abs_sum99,
    "sum": lambda attribution: attribution.sum(1),
    "pos_l2": lambda attribution: attribution.clamp(min=0).norm(dim=1),
    "l2": lambda attribution: attribution.norm(dim=1),
    "l2_sq": lambda attribution: attribution.square().sum(1),
}


def check_pooling(name: str) -> None:
    """Raise WrongUsage with the nearest name if there is no such pooling."""
    check_known("pooling", name, POOLINGS)


def upsample(maps: Tensor, images: Tensor) -> Tensor:
    """Maps (B, h, w) at the images' resolution, bilinear between the centres of the cells."""
    return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def normalise_range(maps: Tensor) -> Tensor:
    """Maps (..., H, W), each scaled to [0, 1] from its minimum to its maximum; zeros if a map is constant."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    # Ones instead of a guard on the quotient: the gradient of 0 / 0 would be NaN even where it is not chosen.
    return (maps - low) / torch.where(high > low, high - low, 1.0)
