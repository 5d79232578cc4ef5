"""Which rows of a split are scored: spread evenly over the classes, fixed by a seed."""

from __future__ import annotations

import numpy as np

from an8flower.errors import WrongUsage


def select_rows(labels: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Sorted indices of `count` rows (all if None), as many of each class as of any other, give or take one.

    A larger count keeps the rows of a smaller one. Raises WrongUsage if there are not that many rows.
    """
    if count is None or count == len(labels):
        return np.arange(len(labels))
    if not 0 < count < len(labels):
        raise WrongUsage(f"--rows {count}: expected 1 to {len(labels)}, the rows of the split")
    return np.sort(_round_robin(labels, seed)[:count])


def _round_robin(labels: np.ndarray, seed: int) -> np.ndarray:
    """All rows, shuffled, then dealt: the first of every class, the second of every class, and so on."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        turn[members] = np.arange(len(members))
    return shuffled[np.argsort(turn[shuffled], kind="stable")]
