"""Named arrays on disk, as compressed .npz files. Nothing that is read is unpickled. No torch in here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.arrays import read_npz
from an8flower.gate.regular import FileKind

ARRAYS = FileKind("arrays of a run", 2**30, "delete it and run the same command again")


def write_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to a file, whole or not at all."""
    with moved_into(place) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take the arrays for its options


def read_arrays(place: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or only those with some names; None if the file is missing or damaged."""
    try:
        return read_npz(place, ARRAYS, names)
    except Refusal:
        return None
