"""Small pictures with a rectangle on them, for galleries of many: they lose what the eye does not miss."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from ..results.prototype_places import Box

QUALITY = 82  # of 100; the same for both kinds of file
LOSSLESS = 32  # px: pictures up to this side are kept to the bit, as nothing is saved by losing any


class BoxedPicture(NamedTuple):
    """A picture for the page with a rectangle to be drawn on it, and words for those who do not see it."""

    address: str  # a `data:` address
    style: str  # where the rectangle lies, in CSS
    words: str

    @property
    def size(self) -> int:
        """How many bytes the picture takes on the page."""
        return len(self.address)


def box_picture(pixels: np.ndarray, box: Box, words: str, *, within: Box | None = None, most: int = 96) -> BoxedPicture:
    """A small picture with a rectangle.

    Args:
        pixels: (H, W, 3) uint8, all of an image or, with `within`, that part of it.
        box: where the rectangle lies in the image.
        words: what there is to see.
        within: which part of the image the pixels are; it holds the box.
        most: the longest side of the picture, in pixels; larger ones are made smaller.
    """
    top, left = (within.top, within.left) if within else (0, 0)
    height, width = pixels.shape[:2]
    moved = Box(box.top - top, box.left - left, box.bottom - top, box.right - left)
    return BoxedPicture(encode_small(pixels, most), place_box(moved, height, width), words)


def place_box(box: Box, height: int, width: int) -> str:
    """The place of a rectangle in a picture of that size as a CSS style, in per cent.

    >>> place_box(Box(0, 4, 2, 6), 8, 8)
    'left:50%;top:0%;width:25%;height:25%'
    """
    shares = {
        "left": box.left / width,
        "top": box.top / height,
        "width": (box.right - box.left) / width,
        "height": (box.bottom - box.top) / height,
    }
    return ";".join(f"{name}:{100 * share:.4g}%" for name, share in shares.items())


def encode_small(pixels: np.ndarray, most: int) -> str:
    """An image (H, W, 3) uint8 as a `data:` address, its longest side at most so many pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    tiny = max(image.size) <= LOSSLESS
    if features.check("webp"):
        return _encode(image, "WEBP", quality=QUALITY, method=4, lossless=tiny)
    return _encode(image, "PNG") if tiny else _encode(image, "JPEG", quality=QUALITY)


def _encode(image: Image.Image, kind: str, **options: int | bool) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
