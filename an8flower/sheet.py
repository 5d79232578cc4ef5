"""Contact sheets: pictures of a data set, each above the same picture with its evidence marked."""

from __future__ import annotations

import numpy as np
from PIL import Image

PAPER = 255
GAP, MARGIN = 4, 14  # pixels within a pair, and around it
PRESENCE, ABSENCE = (
    (214, 0, 96),
    (0, 112, 214),
)  # of evidence that is visible, and of the place where a part would be in another class
TINT = 0.45  # share of its colour in evidence by absence, where the picture itself shows nothing
FADED = 0.25  # share of the picture that is left where there is no evidence


def contact_sheet(images: np.ndarray, masks: np.ndarray, columns: int = 8) -> Image.Image:
    """A sheet of pictures (n, S, S, 3) uint8 over their masks (n, S, S): 0 none, else evidence.

    Evidence keeps its colours and is outlined, by presence in crimson, by absence or gap in blue; the rest fades.
    """
    rows, size = len(images), images.shape[1]
    columns = max(1, min(columns, rows))
    across, down = size + MARGIN, 2 * size + GAP + MARGIN
    lines = -(-rows // columns)
    sheet = np.full((lines * down + MARGIN, columns * across + MARGIN, 3), PAPER, np.uint8)
    for row, pair in enumerate(map(_stack_pair, images, masks)):
        top, left = MARGIN + row // columns * down, MARGIN + row % columns * across
        sheet[top : top + len(pair), left : left + size] = pair
    return Image.fromarray(sheet)


def mark_evidence(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of a picture (S, S, 3) with its evidence outlined and all else faded, uint8."""
    grey = image.mean(axis=2, keepdims=True)
    shown = np.where(mask[..., None] > 0, image, FADED * grey + (1 - FADED) * PAPER)
    unseen = mask > 1
    shown[unseen] = (1 - TINT) * shown[unseen] + TINT * np.array(ABSENCE)
    for region, colour in ((mask == 1, PRESENCE), (unseen, ABSENCE)):
        shown[_outline(region)] = colour
    return np.round(shown).astype(np.uint8)


def _stack_pair(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    gap = np.full((GAP, *image.shape[1:]), PAPER, np.uint8)
    return np.concatenate([image, gap, mark_evidence(image, mask)])


def _outline(region: np.ndarray) -> np.ndarray:
    """The pixels just outside a region, so that thin evidence stays visible within its line."""
    padded = np.pad(region, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return near & ~region
