"""A figure of the page: a plot, what it shows, who is who in it, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from .numbers import DASH, brief
from .plots import Look

Cell = str | float | int | None


class Entry(NamedTuple):
    """A line of a legend."""

    place: int
    name: str
    look: Look


@dataclass(frozen=True)
class Table:
    """Named columns; cells are text, numbers, or None where a number is undefined."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def shown(self) -> list[list[str]]:
        """Its cells as they are written on the page."""
        return [[_written(cell) for cell in row] for row in self.rows]

    def data(self) -> dict[str, Any]:
        """As the script gets it, in full; six figures of each number."""
        return {"columns": list(self.columns), "rows": [[_six(cell) for cell in row] for row in self.rows]}


@dataclass(frozen=True)
class Drawing:
    """A plot with title, a sentence on how to read it, its legend and its numbers."""

    key: str  # unique on the page
    title: str
    says: str
    svg: Markup
    table: Table  # all numbers, for the download
    legend: Sequence[Entry] = ()
    shown: Table | None = None  # those for reading, where all would be too many
    markers: bool = False  # the legend shows markers instead of lines

    @property
    def banded(self) -> bool:
        """Whether lines have intervals around them."""
        return 'class="band"' in self.svg

    @property
    def readable(self) -> Table:
        """The numbers to be read on the page."""
        return self.shown or self.table


def _written(cell: Cell) -> str:
    if cell is None:
        return DASH
    return brief(cell) if isinstance(cell, float) else str(cell)


def _six(cell: Cell) -> Cell:
    if isinstance(cell, float):
        return float(f"{cell:.6g}") if math.isfinite(cell) else None
    return cell
