"""Pixels that are gone, filled in from their neighbours: each becomes the weighted mean of the pixels around it.

A gone pixel's eight neighbours weigh 1/6 (beside it) and 1/12 (across a corner); those outside the image do not count.
All gone pixels of an image make one sparse linear system, which is solved directly, on the processor.

Source: Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for Attribution
Methods, ICML 2022, section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

BESIDE, ACROSS = 1 / 6, 1 / 12
NEIGHBOURS = {  # (down, right): weight
    (down, right): BESIDE if 0 in (down, right) else ACROSS
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    if (down, right) != (0, 0)
}


def impute(images: Tensor, gone: Tensor) -> Tensor:
    """Images (n, C, H, W) float32 whose gone pixels, (n, H, W) bool, are the weighted means of their neighbours.

    Of an image of which nothing remains, nothing is known: it becomes its own mean colour.
    """
    pairs = zip(images.double().cpu().numpy(), gone.cpu().numpy(), strict=True)
    filled = np.stack([impute_image(image, holes) for image, holes in pairs])
    return torch.from_numpy(filled).to(images.device, images.dtype)


def impute_image(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """One image (C, H, W) float64 with its gone pixels, (H, W) bool, filled in."""
    filled = image.copy()
    if gone.all():
        filled[:] = image.mean((1, 2), keepdims=True)
    elif gone.any():
        from scipy.sparse.linalg import splu  # here, as it takes a while to load

        matrix, right = make_system(image, gone)
        # The matrix is symmetric and its diagonal dominates: no row has to be exchanged for another.
        solver = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        filled[:, gone] = solver.solve(right).T
    return filled


def make_system(image: np.ndarray, gone: np.ndarray) -> tuple[csc_matrix, np.ndarray]:
    """The matrix (G, G) and the right-hand side (G, C) of the equations of an image's G gone pixels, row by row."""
    count = int(gone.sum())
    numbers = np.full(np.add(gone.shape, 2), -1)  # of the gone pixels, with a rim that is outside the image
    numbers[1:-1, 1:-1][gone] = np.arange(count)
    inside = np.pad(np.ones(gone.shape), 1)
    remaining = np.pad(np.where(gone, 0.0, image), ((0, 0), (1, 1), (1, 1)))
    down, right = np.nonzero(numbers >= 0)
    diagonal, known = np.zeros(count), np.zeros((count, len(image)))
    entries = []
    for (below, beside), weight in NEIGHBOURS.items():
        place = (down + below, right + beside)
        diagonal += weight * inside[place]
        known += weight * remaining[:, place[0], place[1]].T
        rows = np.nonzero(numbers[place] >= 0)[0]
        entries.append((rows, numbers[place][rows], np.full(len(rows), -weight)))
    rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    every = np.arange(count)
    places = (np.concatenate([rows, every]), np.concatenate([columns, every]))
    from scipy.sparse import coo_matrix, csc_matrix  # here, as it takes a while to load

    return csc_matrix(coo_matrix((np.concatenate([values, diagonal]), places), (count, count))), known
