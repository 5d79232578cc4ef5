"""The maps of hand-set networks as one picture: what the network sees, what it can use, and what the maps say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ...explaining.panel import colour
from .judge import ExaminedByHand, locate_used
from .networks import handset
from .scenes import HandScene, render_scene

SHOWN = 4  # rows of each network
SIDE, GAP, LINE = 126, 6, 18  # pixels: of a tile, between tiles, and of a line of words
TRIPLE, STRIP = 3 * (SIDE + 1) + GAP, LINE + SIDE + GAP  # pixels: the width of a row's tiles, a network's height
PAPER, INK = (255, 255, 255), (20, 20, 20)
UNUSED = 0.25  # how much is left of pixels that a network cannot use


def draw_sheet(examined: Sequence[ExaminedByHand]) -> Image.Image:
    """For each network a line of words, then row by row the image, its used pixels, and the map's positive values."""
    drawn = [(verdict, maps) for verdict, maps in examined if maps is not None]
    size = (GAP + SHOWN * TRIPLE, max(1, len(drawn)) * STRIP + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for place, (verdict, maps) in enumerate(drawn):
        words = f"{verdict.network}: {verdict.status}{': ' if verdict.reason else ''}{verdict.reason}"
        ImageDraw.Draw(sheet).text((GAP, place * STRIP + 3), words, fill=INK)
        for number, tile in enumerate(_tiles(verdict.network, maps)):
            row, column = divmod(number, 3)
            corner = (GAP + row * TRIPLE + column * (SIDE + 1), place * STRIP + LINE)
            sheet.paste(Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.NEAREST), corner)
    return sheet


def _tiles(name: str, maps: Tensor) -> list[np.ndarray]:
    """Image, used pixels and map (S, S, 3) uint8 of each row that is shown."""
    network = handset(name)
    scene = render_scene(network.scene, "test", len(maps))
    used = locate_used(network, scene).used.numpy()
    return [tile for row in range(min(SHOWN, len(maps))) for tile in _tiles_of(scene, used, maps, row)]


def _tiles_of(scene: HandScene, used: np.ndarray, maps: Tensor, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = (scene.images[row].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    faint = (image * np.where(used[row], 1.0, UNUSED)[:, :, None]).astype(np.uint8)
    return image, faint, colour(maps[row].clamp(min=0).numpy())
