"""Pictures: the formats that Pillow reads without another program, bounded by pixels, upright, decoded."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import Refusal
from .regular import FileKind, check_regular, shorten

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # content decides, whatever the name is; no other is tried
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
PIXELS = 64 * 2**20
DECODING = threading.Lock()
PICTURE = FileKind("a picture", 2**30, "save it anew as PNG or JPEG", "name a picture's file")


def open_picture(path: Path, kind: FileKind = PICTURE) -> Image.Image:
    """The first frame of a picture in its own mode, decoded, with the rotation that a camera noted applied."""
    check_regular(path, kind)
    try:
        with warnings.catch_warnings():  # what is wrong is said in the refusal alone
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                _check_pixels(opened, path)
                with _libtiff_silenced() if opened.format == "TIFF" else nullcontext():
                    return ImageOps.exif_transpose(opened)
    except Refusal:
        raise
    except Exception as error:  # decoders fail in many ways
        raise Refusal(f"{path}: cannot be read as a picture ({shorten(_reason(error))}); {kind.remedy}") from None


def declared_size(path: Path, kind: FileKind = PICTURE) -> tuple[int, int]:
    """The width and height in pixels that a picture's head declares, before any rotation; nothing is decoded."""
    check_regular(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                _check_pixels(opened, path)
                return opened.size
    except Refusal:
        raise
    except Exception as error:  # decoders fail in many ways
        raise Refusal(f"{path}: cannot be read as a picture ({shorten(_reason(error))}); {kind.remedy}") from None


def parse_png(content: bytes, place: Path) -> np.ndarray:
    """The pixels (H, W) or (H, W, 3) uint8 of a PNG whose bytes came out of a file; raises Refusal for any other."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
            warnings.simplefilter("ignore")
            _check_pixels(opened, place)
            if opened.mode not in ("L", "RGB"):
                raise ValueError(f"mode {opened.mode} came, expected L or RGB")
            return np.asarray(opened)
    except Refusal:
        raise
    except Exception as error:  # decoders fail in many ways
        raise Refusal(f"{place}: holds no picture, or a damaged one ({shorten(error)}); make the file again") from None


def parse_jpeg(content: bytes, size: tuple[int, int], name: str) -> np.ndarray:
    """The pixels (H, W, 3) uint8 of a JPEG of a known width and height out of a file; raises Refusal for any other."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            warnings.simplefilter("ignore")
            if opened.mode != "RGB" or opened.size != size:
                raise ValueError(f"{opened.mode} of {opened.size} came, expected RGB of {size}")
            return np.asarray(opened)
    except Exception as error:  # decoders fail in many ways
        raise Refusal(f"{name}: damaged ({shorten(error)}); make the file again") from None


@contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """Keep libtiff, which writes to standard error by itself, silent while one picture is decoded."""
    with DECODING:  # one at a time: another thread would keep the silence
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


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
