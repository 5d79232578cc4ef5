"""Pictures of any kind as upright RGB, and the square that a model sees of one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .errors import Refusal
from .gate.pictures import open_picture

Box = tuple[float, float, float, float]  # left, upper, right, lower, in pixels
BACKDROP = (255, 255, 255)  # what transparent pixels lie on, as in most viewers
DEEP = 65535  # white in 16 bits


class Framed(NamedTuple):
    """A picture, and what a model sees of it."""

    picture: Image.Image  # the whole, RGB
    box: Box  # the part that is seen: the square at its centre, as large as fits
    seen: np.ndarray  # (S, S, 3) uint8: that square at the model's size


def read_picture(path: Path) -> Image.Image:
    """A picture from a file, upright, as 8-bit RGB: PNG, JPEG, WebP, TIFF, BMP, or the first frame of a GIF.

    Rotation that a camera noted is applied, transparency laid on white, and 16 bits are scaled to 8.

    Raises:
        Refusal: no such file, not a picture of these formats, too large, damaged, or of numbers without a white.
    """
    picture = open_picture(path)
    try:
        return as_rgb(picture)
    except ValueError as error:
        raise Refusal(f"{path}: cannot be read as a picture ({error}); save it anew as PNG or JPEG") from None


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB; raises ValueError where nothing says which number is white."""
    if picture.mode == "F":
        raise ValueError("it holds floating-point numbers")
    if picture.mode.startswith("I"):
        picture = _in_eight_bits(picture)
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, BACKDROP), clear).convert("RGB")
    return picture.convert("RGB")


def frame(picture: Image.Image, size: int) -> Framed:
    """The centre of a picture at a model's size: its shorter side whole, its aspect ratio kept."""
    box = frame_box(picture.size)
    return Framed(picture, box, np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box)))


def frame_box(size: tuple[int, int]) -> Box:
    """The square at the centre of a picture of some width and height, as large as fits."""
    side = min(size)
    left, upper = ((length - side) / 2 for length in size)
    return left, upper, left + side, upper + side


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > DEEP:
        raise ValueError(f"its numbers reach from {values.min()} to {values.max()}, more than 16 bits")
    return Image.fromarray(((values.astype(np.int32) * 255 + DEEP // 2) // DEEP).astype(np.uint8))
