"""Pictures: the formats that Pillow reads without another program, bounded by pixels, upright, decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import Refusal
from .regular import FileKind, check_regular, shorten

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # content decides, whatever the name is; no other is tried
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
PIXELS = 64 * 2**20
PICTURE = FileKind("a picture", 2**30, "save it anew as PNG or JPEG", "name a picture's file")


def open_picture(path: Path, kind: FileKind = PICTURE) -> Image.Image:
    """The first frame of a picture in its own mode, decoded, with the rotation that a camera noted applied."""
    check_regular(path, kind)
    try:
        with warnings.catch_warnings():  # Pillow warns of large pictures; the bound below refuses them
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                _check_pixels(opened, path)
                return ImageOps.exif_transpose(opened)
    except Refusal:
        raise
    except Exception as error:  # decoders fail in many ways
        raise Refusal(f"{path}: cannot be read as a picture ({shorten(_reason(error))}); {kind.remedy}") from None


def _check_pixels(picture: Image.Image, path: Path) -> None:
    """Refuse a picture by the size that its head declares, before a pixel is decoded."""
    width, height = picture.size
    if width * height > PIXELS:
        raise Refusal(
            f"{path}: {width} x {height} pixels came, which would take {width * height * 8 / 1e9:.1f} GB to read; "
            f"expected at most {PIXELS:,}; scale it down first"
        )


def _reason(error: Exception) -> object:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return error
