"""One explanation as a picture: the input, the saliency map, the overlay, and the truth if it is known."""

from __future__ import annotations

import numpy as np
from PIL import Image

from an8flower.picture import Framed

SIDE, GAP = 280, 12  # pixels: of a square of a panel, and between two pictures
LARGE = 1024  # pixels: the longer side of an overlay, at most
PAPER = (255, 255, 255)
OUTLINE = (255, 255, 255)
UNSEEN = 0.35  # how much is left of what the model does not see
FAINT, STRONG = 0.15, 0.85  # how far the colour of the smallest, and of the largest value covers the picture
# Dark to bright with even steps of lightness, so that brightness can be read as relevance, in grey print as well.
RAMP = np.array(
    [(0, 0, 4), (51, 10, 95), (120, 28, 109), (187, 55, 84), (237, 105, 37), (252, 181, 25), (252, 255, 164)]
)


def colour(saliency: np.ndarray) -> np.ndarray:
    """A map (H, W) as (H, W, 3) uint8: its smallest value dark, its largest bright; a constant map is dark."""
    stops = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(_scale(saliency), stops, RAMP[:, i]) for i in range(3)], axis=-1).astype(np.uint8)


def overlay(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """The colours of a map (H, W) over an image (H, W, 3) uint8 in grey: the more relevant, the less of the image."""
    grey = np.repeat(np.asarray(Image.fromarray(image).convert("L"))[:, :, None], 3, axis=2)
    share = FAINT + (STRONG - FAINT) * _scale(saliency)[:, :, None]
    return (grey * (1 - share) + colour(saliency) * share).astype(np.uint8)


def draw_panel(image: np.ndarray, saliency: np.ndarray, mask: np.ndarray | None = None) -> Image.Image:
    """Side by side: image (H, W, 3) uint8, map (H, W), overlay, and the image with the outline of its mask (H, W)."""
    large, fine = _enlarge(image), _enlarge_map(saliency, _enlarge(image).shape[:2])
    tiles = [large, colour(fine), overlay(large, fine)]
    if mask is not None:
        tiles.append(_outline(large, _enlarge(((mask > 0) * 255).astype(np.uint8))))
    return _set_in_a_row(tiles)


def draw_picture_panel(framed: Framed, saliency: np.ndarray) -> Image.Image:
    """Side by side: the whole picture, the map (S, S) over the square that the model sees, and the overlay."""
    width, height = framed.picture.size
    longest = round(min(SIDE / min(width, height), LARGE / max(width, height)) * max(width, height))
    shown = framed.picture.resize(_fit_size((width, height), longest), Image.Resampling.LANCZOS)
    blank = framed._replace(picture=Image.new("RGB", (width, height), PAPER))
    painted = (_paint(blank, saliency, longest, plain=True), _paint(framed, saliency, longest))
    return _set_in_a_row([np.array(shown), *painted])


def draw_picture_overlay(framed: Framed, saliency: np.ndarray) -> Image.Image:
    """The whole picture with the map (S, S) over the square that the model sees; the rest is pale."""
    return Image.fromarray(_paint(framed, saliency, min(LARGE, max(framed.picture.size))))


def _paint(framed: Framed, saliency: np.ndarray, longest: int, plain: bool = False) -> np.ndarray:
    """A picture at some size, with the map over its square, or the map's `plain` colours instead of it."""
    picture = framed.picture.resize(_fit_size(framed.picture.size, longest), Image.Resampling.LANCZOS)
    scale = picture.width / framed.picture.width
    left, upper = (round(edge * scale) for edge in framed.box[:2])
    side = min(picture.size)
    left, upper = min(left, picture.width - side), min(upper, picture.height - side)
    canvas = np.array(picture)
    within = canvas[upper : upper + side, left : left + side].copy()
    fine = _enlarge_map(saliency, (side, side))
    canvas = (canvas * UNSEEN + np.array(PAPER) * (1 - UNSEEN)).astype(np.uint8)
    canvas[upper : upper + side, left : left + side] = colour(fine) if plain else overlay(within, fine)
    return canvas


def _scale(saliency: np.ndarray) -> np.ndarray:
    """A map with its smallest value at 0 and its largest at 1; a constant map is 0."""
    low, high = saliency.min(), saliency.max()
    return (saliency - low) / (high - low) if high > low else np.zeros_like(saliency)


def _fit_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height at another length of the longer side; no side is less than a pixel."""
    width, height = (max(1, round(length * longest / max(size))) for length in size)
    return width, height


def _enlarge(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.array(Image.fromarray(picture).resize(_fit_size((width, height), SIDE), Image.Resampling.BICUBIC))


def _enlarge_map(saliency: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map (H, W) at another shape, within the range of its values."""
    picture = Image.fromarray(saliency.astype(np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BICUBIC)).clip(saliency.min(), saliency.max())


def _outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Darken the pixels that are no evidence, and draw a border around those that are."""
    inside = mask >= 128
    border = np.zeros_like(inside)
    border[1:] |= inside[1:] != inside[:-1]
    border[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    shown = np.where(inside[:, :, None], picture, picture * 0.35).astype(np.uint8)
    shown[border] = OUTLINE
    return shown


def _set_in_a_row(tiles: list[np.ndarray]) -> Image.Image:
    height = max(tile.shape[0] for tile in tiles)
    width = sum(tile.shape[1] + GAP for tile in tiles) + GAP
    sheet = Image.new("RGB", (width, height + 2 * GAP), PAPER)
    left = GAP
    for tile in tiles:
        sheet.paste(Image.fromarray(tile), (left, GAP))
        left += tile.shape[1] + GAP
    return sheet
