"""Patches of rows, in the form in which they are saved."""

from __future__ import annotations

from typing import NamedTuple

from an8flower.factors import PARTS

from ...results.prototype_results import PrototypePatch
from .locating import box_of, square_around
from .parts import PartMaps

CONTEXT = 2  # the side of the window around a patch, in units of the patch's


class PlacedPatch(NamedTuple):
    """Where a prototype is found in a row, and how strongly."""

    row: int  # of the split
    cell: int  # of the similarity map, in the order of reading
    value: float


def make_patch(placed: PlacedPatch, label: int, maps: PartMaps, place: int) -> PrototypePatch:
    """The patch at a cell of a row.

    Args:
        label: the class of the row.
        place: of the row among the part maps.
    """
    size, cell = maps.parts.shape[1], placed.cell
    box, part = box_of(cell, maps.grid, size), int(maps.cell_parts[place, cell])
    return PrototypePatch(
        row=placed.row,
        label=label,
        cell=divmod(cell, maps.grid[1]),
        box=box,
        window=square_around(box, window_side(maps.grid, size), size),
        value=placed.value,
        part=PARTS[part],
        share=float(maps.shares[place, cell, part]),
    )


def window_side(grid: tuple[int, int], size: int) -> int:
    """The side of the window around a patch, in pixels."""
    return min(size, CONTEXT * -(-size // min(grid)))
