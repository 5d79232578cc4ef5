"""How the terminal shows what has changed since an earlier audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

MOST = 20  # cells; the page and the summary have them all
INDENT = " " * 11


def show_changes(against: Mapping[str, Any] | None) -> None:
    """Print how many cells are better, worse and so on, and which; nothing if nothing was compared."""
    if against is None:
        return
    from ..evaluate.results.change_words import count_changes, list_changes, lone_cells, numbers_of, subject_of

    click.echo(f"against {against['run']}: {count_changes(against)}")
    changes = list_changes(against)
    for change in changes[:MOST]:
        click.echo(f"{change['outcome']:<9}  {subject_of(change)}")
        click.echo(click.wrap_text(numbers_of(change), initial_indent=INDENT, subsequent_indent=INDENT))
    if len(changes) > MOST:
        click.echo(f"{INDENT}and {len(changes) - MOST} more, on the page")
    for sentence in [*lone_cells(against), *against["notes"]]:
        click.echo(click.wrap_text(sentence, initial_indent=INDENT, subsequent_indent=INDENT))
