"""Pictures as data: lossless, small, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image, features

LEVELS = 100  # thresholds 0, 0.01, ..., 0.99, strictly above: those of the IoU
COLOURS = "inferno"


def levels(values: np.ndarray) -> np.ndarray:
    """How many of the thresholds a map's pixels are above: (H, W) -> (H, W) uint8 in [0, 100].

    The map is range-normalised first, so that level > k says exactly what normalised > k / 100 does. Values that are
    no numbers, and constant maps, are above none.
    """
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.zeros(numbers.shape, np.uint8)
    low, high = numbers[finite].min(), numbers[finite].max()
    if low == high:
        return np.zeros(numbers.shape, np.uint8)
    normal = np.where(finite, (numbers - low) / (high - low), 0.0)
    return np.searchsorted(np.arange(LEVELS) / LEVELS, normal, side="left").astype(np.uint8)


def grey(values: np.ndarray) -> str:
    """Bytes (H, W) uint8 as a picture that gives them back."""
    return _png(Image.fromarray(values))


def colour(pixels: np.ndarray) -> str:
    """An image (H, W, 3) uint8, without loss."""
    image = Image.fromarray(pixels)
    return _encoded(image, "WEBP", lossless=True, quality=80, method=4) if features.check("webp") else _png(image)


def heat(values: np.ndarray) -> str:
    """A map (H, W) in colours, from its minimum to its maximum."""
    image = Image.fromarray(levels(values)).convert("P")
    image.putpalette(palette())
    return _png(image)


def palette() -> list[int]:
    """Red, green and blue of each level, one after the other."""
    table = mpl.colormaps[COLOURS](np.linspace(0, 1, LEVELS + 1))[:, :3]
    numbers: list[int] = np.rint(255 * table).astype(int).ravel().tolist()
    return numbers


def _png(image: Image.Image) -> str:
    return _encoded(image, "PNG", compress_level=9)


def _encoded(image: Image.Image, kind: str, **options: int | bool) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
