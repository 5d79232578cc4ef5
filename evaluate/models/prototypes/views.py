"""Two views of the same image, and the maps of one laid onto those of the other, so that positions correspond.

The second view is moved by a few pixels and both are a little brighter or darker, with more or less contrast. Hue and
saturation stay what they are, since the colour of a part may be what tells the class; nothing is turned or scaled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..training import SHIFT, gather_pixels

JITTER = 0.1  # by how much brightness and contrast are changed at most, as a share


class Shifted(NamedTuple):
    """Images moved by whole pixels."""

    images: Tensor  # (B, 3, H, W), edges repeated
    down: Tensor  # (B,) int64: pixel y of the moved image is pixel y + down of the image
    right: Tensor  # (B,) int64


def shift(source: torch.Generator, images: Tensor) -> Shifted:
    """Move each image (B, 3, H, W) by up to four pixels each way, by draws from a generator on the CPU."""
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2, len(images)), generator=source)
    rows, columns = (
        (torch.arange(side) + moves[:, None]).clamp(0, side - 1).to(images.device)
        for side, moves in zip(images.shape[-2:], (down, right), strict=True)
    )
    return Shifted(gather_pixels(images, rows, columns), down.to(images.device), right.to(images.device))


def shift_back(maps: Tensor, moved: Shifted) -> tuple[Tensor, Tensor]:
    """The maps (B, K, h, w) of moved images as they would lie on the images themselves, bilinear between positions.

    Returns:
        The maps (B, K, h, w), and which positions lie within the moved image, (B, h, w) bool.
    """
    places = [
        ((torch.arange(cells, device=maps.device) + 0.5) / cells - moves[:, None] / side) * 2 - 1
        for cells, side, moves in zip(maps.shape[-2:], moved.images.shape[-2:], (moved.down, moved.right), strict=True)
    ]
    rows, columns = (place.to(maps.dtype) for place in places)
    shape = (len(maps), *maps.shape[-2:])
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], -1)
    laid = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return laid, (grid.abs() <= 1).all(-1)


def jitter(source: torch.Generator, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) uint8 as float32 in [0, 1], each with another brightness, then another contrast.

    Brightness and contrast are changed by up to 10 % each; what leaves [0, 1] is cut off.
    """
    factors = 1 + JITTER * (2 * torch.rand((2, len(images), 1, 1, 1), generator=source) - 1)
    brightness, contrast = factors.to(images.device)
    plain = images.float().div_(255)
    mean = plain.mean((1, 2, 3), keepdim=True) * brightness
    return plain.mul_(brightness * contrast).add_(mean * (1 - contrast)).clamp_(0, 1)
