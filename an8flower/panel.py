"""One explanation as a picture: the input, the saliency map, the overlay, and the truth where it is known."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE, GAP = 280, 12  # pixels: of one picture, and between two
PAPER = (255, 255, 255)
OUTLINE = (255, 255, 255)
# Dark to bright with even steps of lightness, so that brightness can be read as relevance, in grey print as well.
RAMP = np.array(
    [(0, 0, 4), (51, 10, 95), (120, 28, 109), (187, 55, 84), (237, 105, 37), (252, 181, 25), (252, 255, 164)]
)


def colours(saliency: np.ndarray) -> np.ndarray:
    """A map (H, W) as (H, W, 3) uint8: its smallest value dark, its largest bright; a constant map is dark."""
    low, high = saliency.min(), saliency.max()
    scaled = (saliency - low) / (high - low) if high > low else np.zeros_like(saliency)
    stops = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(scaled, stops, RAMP[:, i]) for i in range(3)], axis=-1).astype(np.uint8)


def panel(image: np.ndarray, saliency: np.ndarray, mask: np.ndarray | None = None) -> Image.Image:
    """Side by side: image (H, W, 3) uint8, map (H, W), overlay, and the image with the outline of its mask (H, W)."""
    coloured = colours(saliency)
    pictures = [image, coloured, (image * 0.45 + coloured * 0.55).astype(np.uint8)]
    tiles = [_enlarged(picture) for picture in pictures]
    if mask is not None:
        tiles.append(_outlined(_enlarged(image), _enlarged(((mask > 0) * 255).astype(np.uint8))))
    return _in_a_row(tiles)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Darken what is no evidence, and draw the border of what is."""
    inside = mask >= 128
    border = np.zeros_like(inside)
    border[1:] |= inside[1:] != inside[:-1]
    border[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    shown = np.where(inside[:, :, None], picture, picture * 0.35).astype(np.uint8)
    shown[border] = OUTLINE
    return shown


def _in_a_row(tiles: list[np.ndarray]) -> Image.Image:
    height = max(tile.shape[0] for tile in tiles)
    width = sum(tile.shape[1] + GAP for tile in tiles) + GAP
    sheet = Image.new("RGB", (width, height + 2 * GAP), PAPER)
    left = GAP
    for tile in tiles:
        sheet.paste(Image.fromarray(tile), (left, GAP))
        left += tile.shape[1] + GAP
    return sheet
