"""Maps of canvases, sorted by score and averaged from the worst to the best: how bad the bad ones are is seen.

Source: AggAtt, Rao, Böhle, Schiele, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...explaining.panel import colour
from .judge import ExaminedCanvases, score_cells
from .networks import CELLS, join_cells, take_cell

EDGES = (0, 2, 5, 50, 95, 98, 100)  # per cent of the maps, the best first
BINS = [f"{low} to {high}" for low, high in pairwise(EDGES)]
SMALL = 80  # pixels: the side of a picture on a page
TILE, GAP, LINE = 168, 8, 18  # pixels: the side of a picture, the space between two, a line of words
PAPER, INK, FRAME = (255, 255, 255), (20, 20, 20), (120, 200, 255)


def aggregate(maps: Tensor, cells: Tensor) -> list[Tensor]:
    """The mean maps (2 S, 2 S) of the bins of `EDGES`, the best first; each has a map at least.

    Each map's positive part is divided by its largest value, and its cells are put in an order in which the one that is
    asked about comes first. Maps without positive attribution come last.
    """
    scores = np.nan_to_num(score_cells(maps, cells), nan=-1.0)
    order = np.argsort(-scores, kind="stable")
    upright = torch.stack([put_first(canvas, int(cell)) for canvas, cell in zip(maps.clamp(min=0), cells, strict=True)])
    scaled = upright / torch.where(upright.amax((1, 2)) > 0, upright.amax((1, 2)), 1.0)[:, None, None]
    return [scaled[order[rows]].mean(0) for rows in bins_of(len(maps))]


def bins_of(count: int) -> list[np.ndarray]:
    """The places of the maps in each bin; a bin that would be empty has the map nearest to it.

    >>> [places.tolist() for places in bins_of(4)]
    [[0], [0], [0, 1], [2, 3], [3], [3]]
    """
    ends = [round(count * edge / 100) for edge in EDGES]
    bounds = [(min(start, count - 1), end) for start, end in pairwise(ends)]
    return [np.arange(start, max(end, start + 1)) for start, end in bounds]


def put_first(canvas: Tensor, cell: int) -> Tensor:
    """A canvas (2 S, 2 S) with the cell that is asked about at the upper left, and the others behind it in order."""
    return join_cells([take_cell(canvas, (cell + step) % CELLS) for step in range(CELLS)])


def draw_canvases(examined: Sequence[ExaminedCanvases]) -> Image.Image:
    """A line of aggregated maps for each setting, the best at the left; the frame is the cell that is asked about."""
    drawn = [(verdict, maps, cells) for verdict, maps, cells in examined if maps is not None and cells is not None]
    step, strip = TILE + GAP, LINE + TILE + GAP
    sheet = Image.new("RGB", (GAP + step * (len(EDGES) - 1), max(1, len(drawn)) * strip + GAP), PAPER)
    brush = ImageDraw.Draw(sheet)
    for place, (verdict, maps, cells) in enumerate(drawn):
        score = "-" if verdict.score is None else f"{verdict.score.mean:.2f}"
        words = f"{verdict.setting}: {score} in the cell, chance {1 / CELLS}; the best {', '.join(BINS)} % of the maps"
        brush.text((GAP, place * strip + 3), words, fill=INK)
        for column, mean in enumerate(aggregate(maps, cells)):
            sheet.paste(draw_mean(mean, TILE), (GAP + column * step, place * strip + LINE))
    return sheet


def draw_tiles(maps: Tensor, cells: Tensor) -> np.ndarray:
    """Aggregated maps as pictures (bins, T, T, 3) uint8 of `SMALL` pixels, the best first."""
    return np.stack([np.asarray(draw_mean(mean, SMALL)) for mean in aggregate(maps, cells)])


def draw_mean(mean: Tensor, side: int) -> Image.Image:
    """A mean map (2 S, 2 S) as a picture; the frame is the cell that is asked about, at the upper left."""
    tile = Image.fromarray(colour(mean.numpy())).resize((side, side), Image.Resampling.BILINEAR)
    ImageDraw.Draw(tile).rectangle((0, 0, side // 2, side // 2), outline=FRAME)
    return tile
