"""Named arrays on disk, as compressed .npz files. Nothing that is read is unpickled. No torch in here."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from an8flower.atomic import moved_into

# The errors that damaged files raise; zipfile raises NotImplementedError if the byte that names the compression is odd.
DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def write_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to a file, whole or not at all."""
    with moved_into(place) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take the arrays for its options


def read_arrays(place: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or only those with some names; None if the file is missing or damaged."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # it leaves a broken file open
            return {name: archive[name] for name in (archive.files if names is None else names)}
    except DAMAGED:
        return None
