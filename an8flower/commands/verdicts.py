"""The verdicts of an audit in a few lines of the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

INDENT = " " * 28


def show_verdicts(summary: Mapping[str, Any]) -> None:
    """Print for each architecture which methods are to be trusted, and which not, best first."""
    from ..evaluate.results.verdict_words import by_word, where_text

    for study in summary["studies"]:
        for verdict in study["verdicts"]:
            click.echo(f"{where_text(verdict, study)}:")
            for word, methods in by_word(verdict).items():
                if methods:
                    start = f"{word:<{len(INDENT)}}"
                    click.echo(click.wrap_text(", ".join(methods), initial_indent=start, subsequent_indent=INDENT))
