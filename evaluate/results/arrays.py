"""Named arrays on disk, as compressed .npz files. Nothing that is read is unpickled. No torch in here."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from an8flower.atomic import moved_into

# What damaged files raise; NotImplementedError is zipfile's, where the byte that names the compression is another.
DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def write_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """File named arrays, whole or not at all."""
    with moved_into(place) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stubs take the arrays for its options


def read_arrays(place: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or those of some names; None where there is no such file, or a damaged one."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as found:  # leaves a broken file open itself
            return {name: found[name] for name in (found.files if names is None else names)}
    except DAMAGED:
        return None
