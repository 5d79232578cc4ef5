"""How commands print and write what they found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import Refusal


def show_list(entries: list[dict[str, Any]], as_json: bool) -> None:
    """A table with a column for every key, or a JSON list."""
    from .tables import show

    if as_json:
        echo_json(entries)
    else:
        columns = list(dict.fromkeys(key for entry in entries for key in entry))
        show(columns, [[_words(entry.get(column)) for column in columns] for entry in entries])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner!r}" for key, inner in value.items())
    return "" if value is None else str(value)


def echo_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2))


def write_json(document: Any, path: Path) -> None:
    """Write a JSON document; the file appears when it is whole."""
    from ..atomic import moved_into

    try:
        with moved_into(path) as unfinished:
            unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None


def refuse_if_nothing_was_scored(document: dict[str, Any]) -> None:
    """Raise a Refusal with the first reason where no method came through."""
    if not document["results"]:
        raise Refusal((document["failed"] or document["skipped"])[0]["reason"])
