"""A figure of the page: a plot, how to read it, its legend, and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from .numbers import DASH, brief
from .plots import Look

CellValue = str | float | int | None


class LegendEntry(NamedTuple):
    """One entry of the legend of a plot."""

    place: int  # the number of the method on the page
    name: str
    look: Look


@dataclass(frozen=True)
class NumberTable:
    """Named columns; cells are text, numbers, or None where a number is undefined."""

    columns: Sequence[str]
    rows: Sequence[Sequence[CellValue]]

    def to_text(self) -> list[list[str]]:
        """The cells of the table as they are written on the page."""
        return [[_format_cell(cell) for cell in row] for row in self.rows]

    def to_document(self) -> dict[str, Any]:
        """The whole table for the page's script, numbers with six significant figures."""
        return {"columns": list(self.columns), "rows": [[_round_cell(cell) for cell in row] for row in self.rows]}


@dataclass(frozen=True)
class Drawing:
    """A plot with title, a sentence on how to read it, its legend and its numbers."""

    key: str  # unique on the page
    title: str
    caption: str  # how to read the plot
    svg: Markup
    table: NumberTable  # all numbers, for the download
    legend: Sequence[LegendEntry] = ()
    shown: NumberTable | None = None  # numbers for reading, if all would be too many
    markers: bool = False  # the legend shows markers instead of lines

    @property
    def has_bands(self) -> bool:
        """Whether lines of the plot have intervals around them."""
        return 'class="band"' in self.svg

    @property
    def page_table(self) -> NumberTable:
        """The numbers that stand below the plot on the page."""
        return self.shown or self.table


def _format_cell(cell: CellValue) -> str:
    if cell is None:
        return DASH
    return brief(cell) if isinstance(cell, float) else str(cell)


def _round_cell(cell: CellValue) -> CellValue:
    if isinstance(cell, float):
        return float(f"{cell:.6g}") if math.isfinite(cell) else None
    return cell
