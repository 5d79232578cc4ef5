"""What lies where in part maps: the share of each part in each cell, the part of a cell, the centre of each part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from an8flower.errors import NotApplicable
from an8flower.factors import PARTS

from ...results.prototype_results import Box
from .locating import cell_edges

BACKGROUND = PARTS.index("background")
NOWHERE = -1  # the part of a prototype that is not found


@dataclass(frozen=True)
class PartMaps:
    """The part maps of some rows, read by the cells of a grid."""

    parts: np.ndarray  # (n, S, S) uint8: the id of the part that is visible at a pixel's centre
    grid: tuple[int, int]

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of each cell's pixels that show each part: (n, cells, P) float64, sums to 1 over parts."""
        size = self.parts.shape[1]
        if max(self.grid) > size:
            raise NotApplicable(
                f"similarity maps of {self.grid} cells came for images of {size} px; a cell has no pixel"
            )
        down, across = (cell_edges(size, cells) for cells in self.grid)
        shown = self.parts[..., None] == np.arange(len(PARTS), dtype=np.uint8)
        rows = np.add.reduceat(shown, down[:-1], axis=1, dtype=np.int64)
        counts = np.add.reduceat(rows, across[:-1], axis=2)
        pixels = np.outer(np.diff(down), np.diff(across))
        shares: np.ndarray = counts / pixels[None, :, :, None]
        return shares.reshape(len(shares), -1, len(PARTS))

    @cached_property
    def cell_parts(self) -> np.ndarray:
        """The part that most pixels of each cell show, (n, cells) int64; of several the one with the lowest id."""
        return self.shares.argmax(2)

    @cached_property
    def frequencies(self) -> np.ndarray:
        """The share of each row's cells that show each part, by `cell_parts`: (n, P) float64."""
        return (self.cell_parts[:, :, None] == np.arange(len(PARTS))).mean(1)

    @cached_property
    def keypoints(self) -> np.ndarray:
        """The pixel of each part that is nearest to the part's centre, (n, P, 2) int64; -1 where it is not visible."""
        return np.stack([row_keypoints(parts) for parts in self.parts])

    def parts_under(self, cells: np.ndarray, is_found: np.ndarray) -> np.ndarray:
        """The part of cells (n, K) in their rows, (n, K) int64; NOWHERE where a prototype is not found."""
        return np.where(is_found, np.take_along_axis(self.cell_parts, cells, axis=1), NOWHERE)


def row_keypoints(parts: np.ndarray) -> np.ndarray:
    """The keypoint of each part of one part map (S, S): (P, 2) int64, row and column; -1 where it is not visible.

    It is the visible pixel nearest to the mean place of the part's visible pixels, so that it lies on the part.
    """
    points = np.full((len(PARTS), 2), -1, np.int64)
    for part in np.unique(parts).tolist():
        places = np.argwhere(parts == part)
        points[part] = places[((places - places.mean(0)) ** 2).sum(1).round(6).argmin()]
    return points


def lie_in(points: np.ndarray, box: Box) -> np.ndarray:
    """Whether points (..., 2) lie in a box: (...) bool; those that are -1 do not."""
    row, column = points[..., 0], points[..., 1]
    inside: np.ndarray = (row >= box.top) & (row < box.bottom) & (column >= box.left) & (column < box.right)
    return inside
