"""How alike two explanations of the same image look: rank correlations, SSIM, and histograms of gradients.

Maps come in float32 and are compared in double precision, image by image. A map that is constant is like nothing:
every similarity to it is NaN.

Ranks, SSIM and histograms of gradients are compiled loops over whole batches, and what several comparisons of a map
share is kept.

Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from .compiled_similarity import gaussian_means, rank_rows, structural_similarities, sum_gradients

SIMILARITIES = ("spearman_abs", "spearman", "ssim", "hog")
BINS = 100  # of the histogram whose entropy is taken
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window: 11 x 11 taps
ORIENTATIONS, CELLS_PER_BLOCK, CELL = 9, 3, 16
EPSILON = 1e-5  # of the norms of HOG's blocks


class ComparedMaps:
    """A batch of maps, and all that comparisons derive from them, each computed once."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps.detach().cpu().numpy()  # (N, H, W) float32
        if min(self.maps.shape[1:]) <= 2 * RADIUS:
            raise ValueError(f"maps of {self.maps.shape[1:]} came; SSIM wants more than {2 * RADIUS} pixels a side")

    def __len__(self) -> int:
        return len(self.maps)

    def pick(self, order: np.ndarray) -> ComparedMaps:
        """Pick maps by index, with all that is computed already."""
        chosen = ComparedMaps(torch.from_numpy(self.maps[order]))
        for name in ("ranks", "ranks_abs", "scaled", "blurred", "blocks"):
            if name in self.__dict__:
                chosen.__dict__[name] = self.__dict__[name][order]
        return chosen

    @cached_property
    def constant(self) -> np.ndarray:
        """Whether all pixels of a map are equal, (N,) bool."""
        return self.maps.max((1, 2)) == self.maps.min((1, 2))

    @cached_property
    def ranks(self) -> np.ndarray:
        """The ranks of the values, with mean 0 and norm 1, (N, H * W)."""
        return standardise(rank_rows(self.maps.reshape(len(self), -1)))

    @cached_property
    def ranks_abs(self) -> np.ndarray:
        """The ranks of the absolute values, with mean 0 and norm 1, (N, H * W)."""
        if self.maps.min() >= 0:
            return self.ranks
        return standardise(rank_rows(np.abs(self.maps).reshape(len(self), -1)))

    @cached_property
    def scaled(self) -> np.ndarray:
        """The maps scaled to run from 0 to 1, (N, H, W); zeros for a constant map."""
        wide = self.maps.astype(np.float64)
        low, high = wide.min((1, 2), keepdims=True), wide.max((1, 2), keepdims=True)
        return (wide - low) / np.where(high > low, high - low, 1)

    @cached_property
    def blurred(self) -> np.ndarray:
        """SSIM's local means of the scaled values and of their squares, (N, 2, h, w)."""
        return np.stack([gaussian_means(values, window()) for values in (self.scaled, self.scaled**2)], 1)

    @cached_property
    def blocks(self) -> np.ndarray:
        """The ranks of the descriptor of oriented gradients, with mean 0 and norm 1, (N, D)."""
        return standardise(rank_rows(oriented_gradients(self.scaled)))


def similarities(
    ours: ComparedMaps, theirs: ComparedMaps, names: Sequence[str] = SIMILARITIES
) -> dict[str, np.ndarray]:
    """Similarities, by name, of each map to its counterpart: (N,) float64 in [-1, 1]; NaN where one is constant."""
    undefined = ours.constant | theirs.constant
    return {name: np.where(undefined, np.nan, MEASURES[name](ours, theirs)) for name in names}


def standardise(values: np.ndarray) -> np.ndarray:
    """Shift and scale rows (N, P) to mean 0 and norm 1; NaN for constant rows."""
    centred = values - values.mean(1, keepdims=True)
    norms = np.sqrt(np.einsum("np,np->n", centred, centred))[:, None]
    return centred / np.where(norms > 0, norms, np.nan)


def correlation(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Pearson's correlation (N,) of standardised rows."""
    return np.clip(np.einsum("np,np->n", ours, theirs), -1, 1)


def structural_similarity(ours: ComparedMaps, theirs: ComparedMaps) -> np.ndarray:
    """SSIM (N,) with a Gaussian window and sample covariances, as scikit-image's with `gaussian_weights=True`.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
    """
    return structural_similarities(ours.scaled, theirs.scaled, ours.blurred, theirs.blurred, window())


@cache
def window() -> np.ndarray:
    """The weights of SSIM's Gaussian window along a line, (2 * RADIUS + 1,) float64."""
    taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return taps / taps.sum()


def oriented_gradients(images: np.ndarray) -> np.ndarray:
    """The descriptors (N, D) of (N, H, W), as scikit-image's `hog` with `pixels_per_cell=(16, 16)`.

    Cells are smaller where the image has not three of them a side.

    Source: Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
    """
    cell = min(CELL, min(images.shape[1:]) // CELLS_PER_BLOCK)
    cells = sum_gradients(images, cell, ORIENTATIONS) / cell**2
    views = np.lib.stride_tricks.sliding_window_view(cells, (CELLS_PER_BLOCK, CELLS_PER_BLOCK), axis=(1, 2))
    blocks = views.transpose(0, 1, 2, 4, 5, 3).reshape(*views.shape[:3], -1)
    clipped = np.minimum(blocks / block_norm(blocks), 0.2)
    return (clipped / block_norm(clipped)).reshape(len(images), -1)


def block_norm(blocks: np.ndarray) -> np.ndarray:
    """The norm of each block, never zero."""
    return np.sqrt((blocks**2).sum(-1, keepdims=True) + EPSILON**2)


MEASURES: dict[str, Callable[[ComparedMaps, ComparedMaps], np.ndarray]] = {
    "spearman_abs": lambda ours, theirs: correlation(ours.ranks_abs, theirs.ranks_abs),
    "spearman": lambda ours, theirs: correlation(ours.ranks, theirs.ranks),
    "ssim": structural_similarity,
    "hog": lambda ours, theirs: correlation(ours.blocks, theirs.blocks),
}


def entropies(maps: ComparedMaps) -> np.ndarray:
    """The entropy (N,) in nats of each map's histogram of 100 bins from its least to its largest value."""
    from scipy.stats import entropy as shannon  # here, as it takes a while to load

    return np.asarray(shannon(histograms(maps.scaled.reshape(len(maps), -1)), axis=1))


def histograms(values: np.ndarray) -> np.ndarray:
    """How many values of each row (N, P) in [0, 1] lie in each of as many bins, (N, BINS), as by `numpy.histogram`."""
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    bins -= values < edges[bins]  # the product may have been rounded across an edge
    bins += (values >= edges[bins + 1]) & (bins < BINS - 1)
    return np.bincount((bins + BINS * np.arange(len(bins))[:, None]).ravel(), minlength=BINS * len(bins)).reshape(
        -1, BINS
    )
