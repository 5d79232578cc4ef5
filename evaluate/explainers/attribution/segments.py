"""An image cut into segments, which methods show or hide as wholes: superpixels, or plain squares."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

# Quickshift finds as many segments as it likes; with fewer than these a map would say next to nothing.
FEWEST = 8


def quickshift(image: np.ndarray, count: int) -> np.ndarray:
    """Superpixels that follow colours, as many as quickshift finds; the settings are those of LIME's authors."""
    from skimage.segmentation import quickshift  # here, because it takes a second to load, and few methods want it

    return quickshift(image, kernel_size=4, max_dist=200, ratio=0.2)


def slic(image: np.ndarray, count: int) -> np.ndarray:
    """Compact superpixels that follow colours, about `count` of them."""
    from skimage.segmentation import slic  # here, for the same reason

    return slic(image, n_segments=count, start_label=0)


def grid(image: np.ndarray, count: int) -> np.ndarray:
    """Squares, about `count` of them: the nearest square number, and never more than there are pixels."""
    height, width = image.shape[:2]
    side = round(count**0.5)
    rows, columns = min(side, height), min(side, width)
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    return down[:, None] * columns + across


SEGMENTATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "quickshift": quickshift,
    "slic": slic,
    "grid": grid,
}


def check_segments(kind: str, count: int) -> None:
    """Raise WrongUsage where there is no such segmentation, or the count of segments is too small."""
    check_known("segments", kind, SEGMENTATIONS)
    if count < 4:
        raise WrongUsage(f"count is {count}; expected at least 4 segments")


def cut_into_segments(images: Tensor, kind: str, count: int) -> Tensor:
    """Cut each image into segments, and number every pixel by its segment.

    Where quickshift finds fewer than `FEWEST` segments, as it does in small images with few colours, slic takes its
    place; where that finds no more, the grid does. An image that was cut so before is looked up: methods, metrics that
    ask a method again, and further models come back to the same images.

    Args:
        images: (B, 3, H, W) in [0, 1].
        kind: one of `SEGMENTATIONS`.
        count: about how many segments; quickshift does not look at it.

    Returns:
        (B, H, W) int64 on the images' device: from 0 to the number of the image's own segments - 1, without gaps.
    """
    arrays = images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
    return torch.from_numpy(np.stack([recall(array, kind, count) for array in arrays])).to(images.device)


MEMORY = 64 * 2**20  # bytes: of the last 2,675 images of 112 px
_memory: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()


def recall(image: np.ndarray, kind: str, count: int) -> np.ndarray:
    """Number the pixels (H, W) int64 of an image (H, W, 3) as `label_pixels` does, once for the last images."""
    digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    key = (digest, image.shape, image.dtype.str, kind, count, *SEGMENTATIONS.values())
    if key not in _memory:
        labels = label_pixels(image.astype(np.float64), kind, count)
        small = labels.astype(np.uint16) if labels.max() <= np.iinfo(np.uint16).max else labels
        while _memory and (len(_memory) + 1) * small.nbytes > MEMORY:
            _memory.popitem(last=False)
        _memory[key] = small
    _memory.move_to_end(key)
    return _memory[key].astype(np.int64)


def label_pixels(image: np.ndarray, kind: str, count: int) -> np.ndarray:
    """Number the pixels (H, W) of an image (H, W, 3) by the first segmentation, from `kind` on, that finds enough."""
    kinds = list(SEGMENTATIONS)
    for name in kinds[kinds.index(kind) :]:
        numbers, labels = np.unique(SEGMENTATIONS[name](image, count), return_inverse=True)
        if name == "grid" or len(numbers) >= min(FEWEST, count):
            break
    return labels.reshape(image.shape[:2])


def mean_colours(image: Tensor, labels: Tensor) -> Tensor:
    """An image (3, H, W) with each pixel in its segment's mean colour; `labels` as of `cut_into_segments`, (H, W)."""
    # In numpy, since sums by index come in any order on a GPU, and then no two runs are the same.
    flat = labels.flatten().cpu().numpy()
    sums = np.stack([np.bincount(flat, channel) for channel in image.flatten(1).cpu().double().numpy()])
    means = (sums / np.bincount(flat))[:, flat]
    return torch.from_numpy(means).to(image).view_as(image)
