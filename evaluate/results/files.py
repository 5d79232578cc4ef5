"""JSON documents and arrays in the folder of a run: each file is whole under its final name, or not there."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from an8flower import atomic
from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate import documents
from an8flower.gate.regular import FileKind

DOCUMENT = FileKind("a document of a run", 2**27, "run the same command again")
PLAN = "plan.json"
RESULT = re.compile(
    r"-[0-9a-f]{8}([0-9a-f]{8})?\.(parquet|json|npz|h5|safetensors)$|-seed[0-9]+(-[0-9]+epochs)?\.safetensors$"
)
COSTS = "costs.json"  # how many seconds each cell took


def write_json(place: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document; the file appears when it is whole.

    Raises:
        OSError: it cannot be written there.
        ValueError: it holds NaN, which JSON does not have; see `without_nan`.
    """
    with moved_into(place) as unfinished:
        unfinished.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def without_nan(value: Any) -> Any:
    """The same document with None for NaN, since JSON has no NaN, and plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    if isinstance(value, np.generic):
        return without_nan(value.item())
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(place: Path) -> dict[str, Any] | None:
    """The JSON document of a file; None if the file is missing or damaged."""
    try:
        document = documents.read_json(place, DOCUMENT)
    except Refusal:
        return None
    return document if isinstance(document, dict) else None


def link_or_copy(other: Path, place: Path) -> None:
    """Put a file at another place too: as a link if the file system has links, else as a copy."""
    with moved_into(place) as unfinished:
        try:
            os.link(other, unfinished)
        except OSError:
            shutil.copyfile(other, unfinished)


def neighbours(folder: Path) -> list[Path]:
    """The folders of other runs that lie beside the folder of a run."""
    if not folder.parent.is_dir():
        return []
    others = (other for other in folder.parent.iterdir() if other.is_dir())
    return sorted(other for other in others if other.resolve() != folder.resolve())


def clear(folder: Path, kinds: Iterable[str]) -> None:
    """Remove the files that a run has computed, so that they are computed anew; whatever else lies there stays.

    Args:
        kinds: the names of the folders that hold the results of a run.

    Raises:
        Refusal: there are such files, and the folder has no plan.json of a run, so that they may be somebody's own.
    """
    kinds = list(kinds)
    results = [place for kind in kinds for place in (folder / kind).glob("*") if is_result(place)]
    if not is_run(folder):
        if results:
            raise Refusal(
                f"{folder}: --fresh would delete {len(results)} files there ({results[0].name}, ...), and there is no "
                "plan.json of a run; move them away, or choose another folder with -o"
            )
        return
    for place in [*results, folder / COSTS]:
        place.unlink(missing_ok=True)
    for kind in kinds:
        with suppress(OSError):  # it is not empty, or not there
            (folder / kind).rmdir()


def is_result(place: Path) -> bool:
    """Whether a file has a name that only a run gives: it ends in a digest, or is that of a trained model."""
    return RESULT.search(place.name) is not None and place.is_file()


def is_run(folder: Path) -> bool:
    """Whether an audit, or `score`, has filed its plan in a folder."""
    versions = (read_json(folder / PLAN) or {}).get("versions")
    return isinstance(versions, dict) and "an8flower" in versions


def refuse_audit(folder: Path) -> None:
    """Raise a Refusal if a folder is that of an audit, whose plan and summary would be replaced."""
    if is_run(folder) and "plan" in (read_json(folder / PLAN) or {}):
        raise Refusal(f"{folder}: an audit's results are there, which scores would replace; choose another folder")


def sweep(folder: Path, kinds: Iterable[str]) -> None:
    """Remove the unfinished files that killed processes of this machine left in a run's folders."""
    for kind in kinds:
        atomic.sweep(folder / kind)
