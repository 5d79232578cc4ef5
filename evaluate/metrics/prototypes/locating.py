"""Where prototypes are found in images: the strongest cell of each prototype in each row, and boxes around cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal
from an8flower.store import FlowerSplit

from ...data.images import as_images
from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from ...models.prototypes.network import PrototypeNetwork
from ...results.prototype_results import Box

DECIMALS = 4  # to which similarities are rounded, so that rounding errors of a batch's size decide no order
WEIGHTLESS = 1e-3  # weights of at most this size count as zero, as in PIP-Net
_UPSAMPLED_AT_ONCE = 32  # prototypes whose maps are brought to the size of the images at a time


@dataclass(frozen=True)
class Locations:
    """Where each of K prototypes is found most strongly in each of n rows."""

    values: np.ndarray  # (n, K) float64, >= 0, rounded to DECIMALS: how strongly; 0 where it is not found
    cells: np.ndarray  # (n, K) int64: where, a cell's number in the order of reading; the first of equal ones
    peaks: np.ndarray | None  # (n, K, 2) int64: row and column of the maximum of the upsampled map; None if not wanted
    logits: np.ndarray  # (n, C) float64; (n, 0) if not wanted
    grid: tuple[int, int]  # cells of a map, from top to bottom and from left to right

    @property
    def is_found(self) -> np.ndarray:
        """Whether each prototype is found in each row, (n, K) bool."""
        return self.values > 0


def network_of(classifier: Classifier) -> PrototypeNetwork:
    """The part-prototype network of a classifier; raises NotApplicable if it is another network."""
    if not isinstance(classifier.network, PrototypeNetwork):
        raise NotApplicable(f"{classifier.arch} has no prototypes; train with --pool protopnet or --pool pipnet")
    return classifier.network


def weighted_prototypes(network: PrototypeNetwork) -> np.ndarray:
    """The numbers of the prototypes that have a weight for some class, (K,) int64; raises NotApplicable if none has."""
    numbers = (network.weights.detach().abs().amax(0) > WEIGHTLESS).nonzero()[:, 0].cpu().numpy()
    if not len(numbers):
        raise NotApplicable(
            "no prototype has a weight for any class, so that there is nothing to judge; train it longer"
        )
    return numbers


def locate_prototypes(
    classifier: Classifier,
    images: Iterator[Tensor],
    numbers: np.ndarray,
    *,
    with_logits: bool = False,
    with_peaks: bool = False,
) -> Locations:
    """Find prototypes in images.

    Args:
        images: batches (B, 3, S, S) in [0, 1], at least one; what is found does not depend on their sizes.
        numbers: (K,) int64, which of the network's prototypes.
        with_logits: also compute the logits.
        with_peaks: also find the maximum of each map after bicubic upsampling to the size of the image.

    Raises:
        NotApplicable: the network has no prototypes.
        Refusal: similarities are not finite, or below 0.
    """
    network, chosen = network_of(classifier), torch.from_numpy(numbers).to(classifier.device)
    parts: list[list[np.ndarray]] = []
    grid = (0, 0)
    with evaluating(classifier), torch.no_grad():
        for batch in images:
            normalised = classifier.normalise(batch)
            maps = similarity_maps(network, normalised)[:, chosen]
            values, cells = maps.flatten(2).max(2)
            peaks = find_peaks(maps, batch.shape[2]) if with_peaks else cells[:, :0]
            logits = network(normalised) if with_logits else values[:, :0]
            grid = (maps.shape[2], maps.shape[3])
            parts.append([part.cpu().numpy() for part in (values, cells, logits, peaks)])
    values_of, cells_of, logits_of, peaks_of = (np.concatenate(part) for part in zip(*parts, strict=True))
    wide, logits_wide = (numbers.astype(np.float64) for numbers in (values_of, logits_of))
    return Locations(wide.round(DECIMALS), cells_of, peaks_of if with_peaks else None, logits_wide, grid)


def similarity_maps(network: PrototypeNetwork, normalised: Tensor) -> Tensor:
    """The similarity maps (B, K, h, w) of normalised images, rounded to DECIMALS; raises Refusal if they are none."""
    maps = network.locate(normalised)
    if not maps.isfinite().all() or (maps < 0).any():
        raise Refusal("the network gives similarities that are infinite, NaN or below 0; train it anew")
    wide = maps.float() if maps.device.type == "mps" else maps.double()
    return wide.round(decimals=DECIMALS)


def find_peaks(maps: Tensor, size: int) -> Tensor:
    """Row and column of the maximum of maps (B, K, h, w) after bicubic upsampling to size x size: (B, K, 2) int64."""
    peaks = []
    for portion in maps.split(_UPSAMPLED_AT_ONCE, dim=1):
        upsampled = F.interpolate(portion, size=(size, size), mode="bicubic", align_corners=False)
        places = upsampled.round(decimals=DECIMALS).flatten(2).argmax(2)
        peaks.append(torch.stack([places // size, places % size], dim=2))
    return torch.cat(peaks, dim=1)


def read_images(split: FlowerSplit, rows: np.ndarray, batch: int, device: torch.device) -> Iterator[Tensor]:
    """Rows (n,) of a split as images (B, 3, S, S) float32 in [0, 1], `batch` at a time."""
    for start in range(0, len(rows), batch):
        yield as_images(split.take(rows[start : start + batch]).images, device)


def cell_edges(size: int, cells: int) -> np.ndarray:
    """Where the cells of a map begin and end along a side of the image: (cells + 1,) int64; they divide it up.

    >>> cell_edges(42, 4)
    array([ 0, 11, 21, 32, 42])
    """
    return np.floor(np.arange(cells + 1) * size / cells + 0.5).astype(np.int64)


def box_of(cell: int, grid: tuple[int, int], size: int) -> Box:
    """The pixels of an image that are a cell's share of it.

    That is where the cell lies if the map is laid over the image. The network sees more: its receptive field there is
    larger, and often the whole image.
    """
    row, column = divmod(int(cell), grid[1])
    down, across = cell_edges(size, grid[0]), cell_edges(size, grid[1])
    return Box(int(down[row]), int(across[column]), int(down[row + 1]), int(across[column + 1]))


def square_around(box: Box, side: int, size: int) -> Box:
    """A square of a side around the middle of a box, moved to lie within an image of a size.

    >>> square_around(Box(0, 4, 2, 6), 4, 8)
    Box(top=0, left=3, bottom=4, right=7)
    """
    side = min(side, size)
    top, left = ((low + high - side) // 2 for low, high in ((box.top, box.bottom), (box.left, box.right)))
    top, left = (min(max(start, 0), size - side) for start in (top, left))
    return Box(top, left, top + side, left + side)


def strongest_rows(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the rows (n,) with the largest values, the largest first, at most `count`, none of value 0.

    Of equal values the first row comes first.

    >>> strongest_rows(np.array([0.0, 2.0, 3.0, 2.0]), 3)
    array([2, 1, 3])
    """
    order = np.argsort(-values, kind="stable")[:count]
    return order[values[order] > 0]
