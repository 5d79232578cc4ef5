"""Marks that are planted on photographs: painted ones in a colour for each class, or a picture of the user's.

All marks of a data set have one form and differ in colour alone, so that one can stand in another's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .errors import Refusal, WrongUsage
from .factors import COLOURS
from .gate.pictures import open_picture
from .store import COVERED, TOUCHED

PAINTED_SIDE = 128  # pixels of the longer side of a painted mark, before it is scaled down
LARGEST_MARK = 1024  # pixels of the longer side of a user's mark as it is kept
SAMPLES = 4  # of a pixel of a painted mark, in either direction
OPAQUE = 255
ROUNDING = 1e-9  # of a share
MARK_COLOURS = ("red", "blue", "yellow", "green", "magenta", "turquoise", "orange", "violet", "white", "pink", "brown")


class ScaledMark(NamedTuple):
    """A mark at the size at which it lies on a picture."""

    pixels: np.ndarray  # (h, w, 4) uint8: sRGB and opacity
    coverage: np.ndarray  # (h, w) uint8: how much of the pixel the mark covers, as in `StoredRows`


@dataclass(frozen=True)
class Marks:
    """The marks of a data set: pictures (h, w, 4) uint8 of one form, sRGB and opacity."""

    pictures: tuple[np.ndarray, ...]
    _scaled: dict[tuple[int, int], ScaledMark] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def shape(self, side: int) -> tuple[int, int]:
        """The height and the width in pixels of a mark whose longer side is `side`."""
        longest = max(self.pictures[0].shape[:2])
        height, width = (max(1, round(side * length / longest)) for length in self.pictures[0].shape[:2])
        return height, width

    def scale(self, number: int, side: int) -> ScaledMark:
        """A mark whose longer side is `side` pixels; scaled once."""
        key = (number, side)
        if key not in self._scaled:
            self._scaled[key] = _scale(self.pictures[number], self.shape(side))
        return self._scaled[key]


def _scale(picture: np.ndarray, shape: tuple[int, int]) -> ScaledMark:
    """Scale a mark by areas, and measure how much of each pixel it covers.

    A pixel of the original counts as covered if it has half of the largest opacity of the mark. Only what is covered
    whole is `COVERED`, and only what the mark leaves as it was is 0.
    """
    down, across = (_shares_of(old, new) for old, new in zip(picture.shape[:2], shape, strict=True))

    def average(values: np.ndarray) -> np.ndarray:
        means: np.ndarray = down @ values @ across.T
        return means

    opacity = picture[..., 3].astype(float)
    opaque = average(opacity)
    sums = np.dstack([average(opacity * picture[..., channel]) for channel in range(3)])
    rgb = sums / np.where(opaque > 0, opaque, 1)[..., None]
    share = average((2 * opacity >= opacity.max()).astype(float))
    inner = np.clip(np.round(COVERED * share), np.where(opaque > 0, TOUCHED, 0), COVERED - 1)
    coverage = np.where(share > 1 - ROUNDING, COVERED, inner)
    pixels = np.clip(np.round(np.dstack([rgb, np.where(opaque > 0, np.maximum(opaque, 1), 0)])), 0, OPAQUE)
    return ScaledMark(pixels.astype(np.uint8), coverage.astype(np.uint8))


def _shares_of(old: int, new: int) -> np.ndarray:
    """How much of each of `new` equal stretches of a line lies in each of `old` ones: (new, old), rows sum to 1."""
    edges, ends = np.arange(old + 1) * new, np.arange(new + 1) * old
    overlap = np.minimum(edges[1:], ends[1:, None]) - np.maximum(edges[:-1], ends[:-1, None])
    return np.maximum(overlap, 0) / old


def lay(image: np.ndarray, mark: ScaledMark, top: int, left: int) -> None:
    """Lay a mark onto a picture (S, S, 3) uint8, in place."""
    height, width = mark.coverage.shape
    below = image[top : top + height, left : left + width]
    opacity = mark.pixels[..., 3:].astype(np.uint16)
    mixed = mark.pixels[..., :3] * opacity + below * (OPAQUE - opacity) + OPAQUE // 2
    below[:] = mixed // OPAQUE


# --- painted marks ----------------------------------------------------------------------------------------------------


def paint_marks(kind: str, classes: int) -> Marks:
    """A mark of some kind in a colour for each class; raises WrongUsage if there are more classes than colours."""
    if classes > len(MARK_COLOURS):
        raise WrongUsage(
            f"--mark {kind}: there are colours for {len(MARK_COLOURS)} classes, {classes} came; give a PNG, which "
            "speaks for one class"
        )
    within, share, grey = PAINTED[kind]()
    form = _Form(*map(_average_down, (within, within * share, within * grey)))
    pictures = [_colour_in(form, _rgb(colour)) for colour in MARK_COLOURS[:classes]]
    return Marks(tuple(map(_crop, pictures)))


class _Form(NamedTuple):
    """A mark without its colour, painted at four samples a side of a pixel."""

    opacity: np.ndarray  # (h, w) in [0, 1]
    share: np.ndarray  # (h, w) in [0, 1] of the mark's own colour
    grey: np.ndarray  # (h, w) that is added to it, up to 255 together with the colour


def _plane(height: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x in [-1, 1] and y in [-height, height], y downwards, at the samples' centres."""
    across, down = (SAMPLES * round(PAINTED_SIDE * length) for length in (1, height))
    y, x = np.mgrid[0:down, 0:across]
    return (x + 0.5) / across * 2 - 1, ((y + 0.5) / down * 2 - 1) * height


def _paint_tag() -> _Form:
    """A label with a white rim and a hole."""
    x, y = _plane(0.66)
    within = _is_rounded(x, y, 0.98, 0.64) & (np.hypot(x + 0.66, y) > 0.12)
    share = _is_rounded(x, y, 0.86, 0.52).astype(float)
    return _Form(within, share, 245 * (1 - share))


def _is_rounded(x: np.ndarray, y: np.ndarray, width: float, height: float, radius: float = 0.2) -> np.ndarray:
    """Whether points lie in a rectangle with round corners."""
    beyond = np.hypot(np.maximum(np.abs(x) - width + radius, 0), np.maximum(np.abs(y) - height + radius, 0))
    return beyond <= radius


def _paint_ball() -> _Form:
    """A ball that is lit from above on the left."""
    x, y = _plane()
    light = np.clip(-0.45 * x - 0.6 * y + 0.66 * np.sqrt(np.clip(1 - x * x - y * y, 0, 1)), 0, 1)
    shine = 0.8 * np.exp(-((x + 0.35) ** 2 + (y + 0.4) ** 2) / 0.03)
    return _Form(np.hypot(x, y) <= 0.98, (0.45 + 0.55 * light) * (1 - shine), 255 * shine)


def _paint_flower() -> _Form:
    """A head of six petals around a dark disc."""
    x, y = _plane()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    disc = radius <= 0.28
    within = radius <= 0.56 + 0.42 * np.abs(np.cos(3 * angle)) ** 0.7
    return _Form(within, np.where(disc, 0.0, 0.78 + 0.22 * radius), np.where(disc, 60.0, 0.0))


PAINTED: Mapping[str, Callable[[], _Form]] = {"tag": _paint_tag, "ball": _paint_ball, "flower": _paint_flower}
"""The kinds of marks that are painted here, by their names."""


def _colour_in(form: _Form, colour: np.ndarray) -> np.ndarray:
    """A form, averaged down to pixels, in a colour (3,): (h, w, 4) uint8."""
    bright = form.share[..., None] * colour + form.grey[..., None]
    rgb = bright / np.maximum(form.opacity, 1e-9)[..., None]
    return np.round(np.dstack([rgb, OPAQUE * form.opacity])).astype(np.uint8)


def _average_down(values: np.ndarray) -> np.ndarray:
    """The means over the samples of each pixel."""
    height, width = (length // SAMPLES for length in values.shape)
    means: np.ndarray = values.reshape(height, SAMPLES, width, SAMPLES).mean((1, 3))
    return means


def _rgb(name: str) -> np.ndarray:
    digits = COLOURS[name][1:]
    return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)], float)


# --- a user's mark ----------------------------------------------------------------------------------------------------


def read_mark(path: Path) -> Marks:
    """A picture with opacity as the one mark of a data set; its transparent border is cut off.

    Raises Refusal for a file that is no picture, for a picture without opacity, and for one that is all transparent.
    """
    picture = open_picture(path)
    if not picture.has_transparency_data:
        raise Refusal(f"{path}: every pixel is opaque, so the mark would be a rectangle; save it as PNG with opacity")
    picture = picture.convert("RGBA")
    picture.thumbnail((LARGEST_MARK, LARGEST_MARK), Image.Resampling.BOX)
    pixels = np.asarray(picture)
    if not pixels[..., 3].any():
        raise Refusal(f"{path}: the mark is fully transparent; save one that can be seen")
    return Marks((_crop(pixels),))


def _crop(pixels: np.ndarray) -> np.ndarray:
    """A mark (h, w, 4) without its transparent border."""
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis)) for axis in (1, 0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
