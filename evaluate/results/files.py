"""The files of a run that are no long rows: JSON documents and arrays, whole under their final name or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from an8flower import atomic
from an8flower.atomic import moved_into

from .arrays import read_arrays

COSTS = "costs.json"  # what each cell has taken, in seconds


def write_json(place: Path, document: Mapping[str, Any]) -> None:
    """File a document."""
    with moved_into(place) as unfinished:
        unfinished.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(place: Path) -> dict[str, Any] | None:
    """A document; None where there is none, or a damaged one."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def readable(place: Path) -> bool:
    """Whether a file is there and whole."""
    return (read_json(place) if place.suffix == ".json" else read_arrays(place)) is not None


def there(place: Path, neighbours: Iterable[Path]) -> bool:
    """Whether a file is there, or in another run, from where it is then taken: its name says all that it depends on."""
    if readable(place):
        return True
    for run in neighbours:
        other = run / place.parent.name / place.name
        if other.exists() and readable(other):
            take(other, place)
            return True
    return False


def take(other: Path, place: Path) -> None:
    """The same file under another name: a link where the file system has them, else a copy."""
    with moved_into(place) as unfinished:
        try:
            os.link(other, unfinished)
        except OSError:
            shutil.copyfile(other, unfinished)


def neighbours(folder: Path) -> list[Path]:
    """The other runs beside a run."""
    if not folder.parent.is_dir():
        return []
    return sorted(each for each in folder.parent.iterdir() if each.is_dir() and each.resolve() != folder.resolve())


def clear(folder: Path, kinds: Iterable[str]) -> None:
    """Remove all that a run has computed, so that it is computed anew; `kinds` are the folders that hold it."""
    for kind in kinds:
        shutil.rmtree(folder / kind, ignore_errors=True)
    (folder / COSTS).unlink(missing_ok=True)


def sweep(folder: Path, kinds: Iterable[str]) -> None:
    """Remove what processes of this machine left unfinished in folders of a run when they were killed."""
    for kind in kinds:
        atomic.sweep(folder / kind)
