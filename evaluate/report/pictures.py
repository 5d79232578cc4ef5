"""Pictures as `data:` addresses: lossless, small, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import io

import matplotlib as mpl
import numpy as np
from PIL import Image, features

LEVELS = 100  # the thresholds of the IoU: 0, 0.01, ..., 0.99, strictly above
COLOURS = "inferno"


def levels(values: np.ndarray) -> np.ndarray:
    """How many of the thresholds a map's pixels are above: (H, W) -> (H, W) uint8 in [0, 100].

    The map is range-normalised first, so that level > k says exactly what normalised > k / 100 does. Values that are
    not finite, and all values of a constant map, are above none.
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


def encode_grey(values: np.ndarray) -> str:
    """Bytes (H, W) uint8 as a grey picture that gives them back."""
    return _png(Image.fromarray(values))


def encode_colour(pixels: np.ndarray) -> str:
    """An image (H, W, 3) uint8 as a lossless picture."""
    image = Image.fromarray(pixels)
    return _encode(image, "WEBP", lossless=True, quality=80, method=4) if features.check("webp") else _png(image)


def encode_heat(values: np.ndarray) -> str:
    """A map (H, W) as a picture in colours, from its minimum to its maximum."""
    image = Image.fromarray(levels(values)).convert("P")
    image.putpalette(palette())
    return _png(image)


def palette() -> list[int]:
    """The colours of all levels: red, green and blue of each, one after the other, 0 to 255."""
    table = mpl.colormaps[COLOURS](np.linspace(0, 1, LEVELS + 1))[:, :3]
    numbers: list[int] = np.rint(255 * table).astype(int).ravel().tolist()
    return numbers


def _png(image: Image.Image) -> str:
    return _encode(image, "PNG", compress_level=9)


def _encode(image: Image.Image, kind: str, **options: int | bool) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
