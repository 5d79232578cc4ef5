"""How commands print results and write them to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import Refusal


def show_list(entries: list[dict[str, Any]], as_json: bool) -> None:
    """Print entries as a table with a column for every key, or as a JSON list."""
    from .fitting import show

    if as_json:
        echo_json(entries)
    else:
        columns = list(dict.fromkeys(key for entry in entries for key in entry))
        show(columns, [[_words(entry.get(column)) for column in columns] for entry in entries])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner!r}" for key, inner in value.items())
    return "" if value is None else str(value)


def warn(sentence: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"Warning: {sentence}", err=True)


def echo_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(document, indent=2))


def write_json(document: Any, path: Path) -> None:
    """Write a JSON document to a file that the user named; a Refusal if that is impossible."""
    from ..evaluate.results import files

    try:
        files.write_json(path, document)
    except OSError as error:
        raise Refusal(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
