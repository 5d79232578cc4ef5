"""Images without information: what stands for pixels that are taken away, or where a path to an image begins."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from an8flower.names import check_known

from .blurring import blurred

# Images (B, 3, H, W) in [0, 1] -> images of the same shape and range.
REPLACEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "black": torch.zeros_like,
    "white": torch.ones_like,
    "mean": lambda images: images.mean((2, 3), keepdim=True).expand_as(images),  # each image's own colour
    # 10 px at 224 px, as in Fong and Vedaldi, ICCV 2017
    "blur": lambda images: blurred(images, 10 / 224 * images.shape[-1]),
}


def check_replacement(parameter: str, name: str) -> None:
    """Raise WrongUsage with the nearest name where there is no such replacement."""
    check_known(parameter, name, REPLACEMENTS)
