"""One row's arrays as bytes and values that other tools read, without loss: PNG, npy, numbers and texts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..gate.arrays import parse_npy
from ..gate.pictures import parse_png
from .contents import StoredArray

LEVEL = 6  # of PNG's deflate


def encode(array: StoredArray, values: np.ndarray) -> bytes:
    """The bytes of one row of an array: a PNG if it is a picture of 8 bits, else npy."""
    content = io.BytesIO()
    if array.is_picture:
        Image.fromarray(values).save(content, "PNG", compress_level=LEVEL)
    else:
        np.save(content, np.ascontiguousarray(values), allow_pickle=False)
    return content.getvalue()


def suffix_of(array: StoredArray) -> str:
    """The ending of a file that `encode` fills."""
    return "png" if array.is_picture else "npy"


def decode(array: StoredArray, contents: Iterable[bytes], place: Path) -> np.ndarray:
    """The rows (n, ...) of an array from the bytes of each; raises Refusal if some are damaged."""
    read = parse_png if array.is_picture else parse_npy
    rows = [read(content, place) for content in contents]
    same = [row for row in rows if row.shape == array.shape and row.dtype == array.dtype]
    return np.stack(same) if same and len(same) == len(rows) else np.empty((len(same), 0), array.dtype)


def to_columns(array: StoredArray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """A table (n,) as columns of numbers and texts; several values of one are NAME.0, NAME.1 and so on."""
    columns: dict[str, np.ndarray] = {}
    for name in array.dtype.names or ():
        values = rows[name]
        values = np.char.decode(values, "ascii") if values.dtype.kind == "S" else values
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}.{i}": values[:, i] for i in range(values.shape[1])}
    return columns


def from_columns(array: StoredArray, columns: dict[str, Any], count: int) -> np.ndarray:
    """The table (n,) that `to_columns` took apart; raises LookupError or ValueError where columns are missing."""
    rows = np.zeros(count, array.dtype)
    for name in array.dtype.names or ():
        whole = rows[name]
        if whole.ndim == 1:
            whole[:] = _to_stored(columns[name], whole.dtype)
        else:
            for i in range(whole.shape[1]):
                whole[:, i] = _to_stored(columns[f"{name}.{i}"], whole.dtype)
    return rows


def column_names(array: StoredArray) -> list[tuple[str, np.dtype]]:
    """The names of the columns of a table, each with the type of its values."""
    dtype = array.dtype
    names: list[tuple[str, np.dtype]] = []
    for name in dtype.names or ():
        several = dtype[name].shape
        kind = dtype[name].base
        names += [(f"{name}.{i}", kind) for i in range(several[0])] if several else [(name, kind)]
    return names


def _to_stored(values: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.kind != "S":
        return np.asarray(values, dtype)
    texts = np.array([str(text).encode("ascii") for text in values])
    if len(texts) and texts.dtype.itemsize > dtype.itemsize:
        raise ValueError(f"a text of {texts.dtype.itemsize} letters")
    return texts
