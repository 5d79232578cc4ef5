"""Tables that fit a terminal: what is too wide goes on in further tables, and no name is ever cut."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED = 200  # characters, where standard output is no terminal and COLUMNS says nothing else
SPACE = 3  # characters between two columns
SENTENCE = 24  # characters that a column of words wants at least, so that it can be read
GOES_ON = "the same rows, further columns"

Rows = Sequence[Sequence[str]]


def console() -> Console:
    """A console on standard output, as wide as the terminal; if there is none, as COLUMNS says, or 200 characters."""
    output = Console()
    width = os.environ.get("COLUMNS", "")
    return output if output.is_terminal or (width.isdigit() and int(width)) else Console(width=PIPED)


def show(columns: Sequence[str], rows: Rows, title: str | None = None) -> None:
    """Print a table; columns of numbers are aligned to the right.

    Columns that the terminal has no room for follow in further tables, each with the first column again. A cell that is
    wider than the terminal goes on in the next line.
    """
    output = console()
    for number, part in enumerate(fitting(columns, rows, output.width)):
        if heading := GOES_ON if number else title:
            output.print(heading, style="bold", markup=False, highlight=False, soft_wrap=output.width >= PIPED)
        output.print(make_table([columns[i] for i in part], [[row[i] for i in part] for row in rows], output.width))


def show_mapping(mapping: Mapping[str, Any]) -> None:
    """Print names and values, a line each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in mapping.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(escape(key), escape(words))
    console().print(table)


def fitting(columns: Sequence[str], rows: Rows, width: int) -> Iterator[list[int]]:
    """The places of the columns of each table, as few tables as fit a width; the first column is in all of them."""
    room = width - 2 - least_width(columns, rows, 0)
    part, taken = [0], 0
    for place in range(1, len(columns)):
        wanted = least_width(columns, rows, place)
        if taken and taken + wanted > room:
            yield part
            part, taken = [0], 0
        part, taken = [*part, place], taken + wanted
    yield part


def least_width(columns: Sequence[str], rows: Rows, place: int) -> int:
    """The characters that a column wants at least: all that it has, unless it is of sentences, which can be wrapped."""
    widest = max(len(text) for text in (columns[place], *(row[place] for row in rows)))
    return SPACE + (widest if is_whole(rows, place) else min(widest, SENTENCE))


def make_table(columns: Sequence[str], rows: Rows, width: int) -> Table:
    """The table of these columns, in a terminal of a width."""
    table = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        whole = is_whole(rows, place) and least_width(columns, rows, place) + 2 <= width
        # Folded, if it is wider than the terminal: rich would else put an ellipsis in the place of a name's end.
        justify: Literal["right", "left"] = "right" if is_numeric(rows, place) else "left"
        table.add_column(escape(column), justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def is_whole(rows: Rows, place: int) -> bool:
    """Whether a column is never wrapped as long as it fits: the first one, and those of numbers."""
    return place == 0 or is_numeric(rows, place)


def is_numeric(rows: Rows, place: int) -> bool:
    """Whether all cells of a column begin as numbers do."""
    return bool(rows) and all(row[place][:1].isdigit() or row[place][:1] in "+-." for row in rows)
