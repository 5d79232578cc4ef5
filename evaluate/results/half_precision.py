"""Maps in half the memory of float32, for pictures."""

from __future__ import annotations

import numpy as np

LARGEST, SMALLEST = 15, -4  # powers of two between which a map's largest value needs no scale


def halved(maps: np.ndarray) -> np.ndarray:
    """Maps (K, H, W) float32 in float16: each divided by a power of two where it would overflow, or be lost.

    The order of the pixels stays, but for those that are closer than half a thousandth of the largest.
    """
    peaks = np.abs(maps).max((1, 2), keepdims=True)
    exponents = np.frexp(np.where(peaks > 0, peaks, 1))[1]
    scales = np.where((exponents > LARGEST) | (exponents < SMALLEST), -exponents, 0)
    return np.ldexp(maps, scales).astype(np.float16)
