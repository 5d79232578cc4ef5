"""Images as tensors: read from a store, blurred, and replaced by images without information."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from an8flower.names import check_known


def as_images(pictures: np.ndarray, device: torch.device) -> Tensor:
    """Pictures (B, H, W, 3) uint8 as images (B, 3, H, W) float32 in [0, 1], as models take them."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).contiguous().float() / 255


def convolution_matrix(kernel: Tensor, side: int, continued: bool = True) -> Tensor:
    """The matrix (side, side) float64 that convolves a line of pixels with a kernel (2 r + 1,) symmetric in its middle.

    A matrix, because lines are short, and a convolution of torch rounds by the size of the batch.

    Args:
        continued: beyond the border the outermost pixel goes on; otherwise there is zero.
    """
    radius = len(kernel) // 2
    places = torch.arange(side)[:, None] + torch.arange(-radius, radius + 1)
    inside = (places >= 0) & (places < side)
    portions = kernel.double() * (inside | continued)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, places.clamp(0, side - 1), portions)


def blur_matrix(side: int, sigma: float, continued: bool = True) -> Tensor:
    """The matrix (side, side) float32 that blurs a line of pixels; the identity if sigma is 0.

    `matrix @ image @ matrix.T` is the blurred image, on any device and exact in any batch.

    Args:
        sigma: the Gaussian's standard deviation in pixels; it ends after four of them, and sums to one.
        continued: beyond the border the outermost pixel goes on; otherwise there is zero.
    """
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-9)).square().double())
    return convolution_matrix(weights / weights.sum(), side, continued).float()


def blur(images: Tensor, sigma: float, continued: bool = True) -> Tensor:
    """Images (..., H, W) after a Gaussian blur; `sigma` and `continued` as in `blur_matrix`."""
    down, across = (blur_matrix(side, sigma, continued).to(images.device) for side in images.shape[-2:])
    return down @ images @ across.T


def pyramid(images: Tensor, sigma: float, levels: int = 8) -> Tensor:
    """Images (B, C, H, W) less and less blurred: (B, levels, C, H, W).

    The first level is blurred by `sigma` pixels, the last one is the image itself, with even spaces between.

    Source: Fong, Patrick and Vedaldi, ICCV 2019, section 3.
    """
    shares = torch.linspace(1, 0, levels).tolist()
    return to_channels_last(torch.stack([blur(images, share * sigma) for share in shares], dim=1))


def to_channels_last(levels: Tensor) -> Tensor:
    """Images (B, L, C, H, W) with a pixel's channels side by side in memory, as `interpolate_levels` wants them."""
    return levels.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def interpolate_levels(levels: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
    """Images (N, C, H, W) that are taken, pixel by pixel, from the level that a mask says.

    Args:
        levels: (B, L, C, H, W), at least two levels; it gets no gradient, the masks do.
        rows: (N,) int64, whose levels each mask is for.
        masks: (N, H, W) in [0, 1]: 0 the first level, 1 the last one, linear between neighbouring levels.
    """
    count, (height, width) = levels.shape[1], masks.shape[1:]
    heights = masks * (count - 1)
    # The level below: never the last one, so that the slope at 1 is that from the left.
    below = heights.detach().floor().clamp(max=count - 2)
    pixels = torch.arange(height * width, device=masks.device).view(height, width)
    places = (rows[:, None, None] * count + below.long()) * (height * width) + pixels
    table = levels.detach().permute(0, 1, 3, 4, 2).reshape(-1, levels.shape[2])
    lower, upper = table[places], table[places + height * width]
    return torch.lerp(lower, upper, (heights - below)[..., None]).permute(0, 3, 1, 2)


# Images (B, 3, H, W) in [0, 1] -> images of the same shape and range.
REPLACEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "black": torch.zeros_like,
    "white": torch.ones_like,
    "mean": lambda images: images.mean((2, 3), keepdim=True).expand_as(images),  # each image's own colour
    # 10 px at 224 px, as in Fong and Vedaldi, ICCV 2017
    "blur": lambda images: blur(images, 10 / 224 * images.shape[-1]),
}


def check_replacement(parameter: str, name: str) -> None:
    """Raise WrongUsage with the nearest name if there is no such replacement."""
    check_known(parameter, name, REPLACEMENTS)
