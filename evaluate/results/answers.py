"""The results of cells that are files of their own: JSON documents, and arrays. Each file says of which cell it is.

The file is named after its cell. The same name and a checksum lie in the file as its seal, so that the result of
another cell under that name, or one that was edited, counts as missing, and is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import read_arrays, write_arrays
from .files import link_or_copy, read_json, write_json

SEAL = "seal"  # the key under which the name of the cell and the checksum lie


def write_document(place: Path, document: Mapping[str, Any]) -> None:
    """Write the result of the cell after which the file is named, sealed; raises as `write_json` does."""
    write_json(place, {**document, SEAL: _seal(place, _digest_document(document))})


def read_document(place: Path) -> dict[str, Any] | None:
    """The result of the cell after which a file is named; None if it is missing, damaged, or another one."""
    document = read_json(place)
    if document is None or document.pop(SEAL, None) != _seal(place, _digest_document(document)):
        return None
    return document


def write_sealed_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of the cell after which the file is named, sealed."""
    write_arrays(place, {**arrays, SEAL: np.array(_seal(place, _digest_arrays(arrays)))})


def read_sealed_arrays(place: Path) -> dict[str, np.ndarray] | None:
    """The arrays of the cell after which a file is named; None if they are missing, damaged, or others."""
    arrays = read_arrays(place)
    if arrays is None or SEAL not in arrays or not take_seal(place, arrays):
        return None
    return arrays


def take_seal(place: Path, arrays: dict[str, np.ndarray]) -> bool:
    """Remove the seal from the arrays of a file; whether it is that of its cell. Early versions wrote none."""
    seal = arrays.pop(SEAL, None)
    return seal is None or seal.tolist() == _seal(place, _digest_arrays(arrays))


def is_answer(place: Path) -> bool:
    """Whether a file holds the result of the cell after which it is named."""
    return (read_document(place) if place.suffix == ".json" else read_sealed_arrays(place)) is not None


def find_or_take(place: Path, neighbours: Iterable[Path]) -> bool:
    """Whether the result of a cell is there; if another run has it, it is taken from there first."""
    if is_answer(place):
        return True
    for run in neighbours:
        other = run / place.parent.name / place.name
        if other.exists() and is_answer(other):
            link_or_copy(other, place)
            return True
    return False


def _seal(place: Path, digest: str) -> list[str]:
    return [place.stem, digest]


def _digest_document(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        array = np.asarray(values)
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return whole.hexdigest()
