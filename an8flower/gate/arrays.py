"""Arrays in .npz and .npy files: nothing is unpickled, and nothing unpacked that is larger than it declares to be."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import Refusal
from .regular import FileKind, check_regular, megabytes, shorten

DAMAGE = (
    *(OSError, ValueError, LookupError, EOFError, TypeError, SyntaxError, NotImplementedError),
    *(RuntimeError, OverflowError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What zipfile and numpy raise where a file is damaged."""

MEMBERS = 64  # arrays of a file
UNPACKED = 2**30  # bytes of all of them
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, kind: FileKind, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file, or those with some names; raises Refusal if one is missing, damaged or too large."""
    check_regular(path, kind)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_sizes([info.file_size for info in members.values()])
            return {name: _read_member(archive, members[name]) for name in (members if names is None else names)}
    except DAMAGE as error:
        raise Refusal(f"{path}: no arrays, or damaged ({shorten(error)}); {kind.remedy}") from None


def read_npy(path: Path, kind: FileKind) -> np.ndarray:
    """The array of a file; raises Refusal if it is damaged or holds objects. The size of the file bounds it."""
    check_regular(path, kind)
    try:
        with path.open("rb") as file:
            return _read_array(file, path.name)
    except DAMAGE as error:
        raise Refusal(f"{path}: no array, or damaged ({shorten(error)}); {kind.remedy}") from None


def parse_npy(content: bytes, place: Path) -> np.ndarray:
    """The array in bytes that came out of a file; raises Refusal if they are damaged, or hold objects."""
    try:
        return _read_array(io.BytesIO(content), "an array")
    except DAMAGE as error:
        raise Refusal(f"{place}: no array, or damaged ({shorten(error)}); make the file again") from None


def _check_sizes(sizes: list[int]) -> None:
    if len(sizes) > MEMBERS or sum(sizes) > UNPACKED:
        raise ValueError(f"{len(sizes)} arrays would take {megabytes(sum(sizes))}")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        return _read_array(member, info.filename)


def _read_array(file: IO[bytes], name: str) -> np.ndarray:
    """One array, of just the bytes that its head declares."""
    shape, by_column, dtype = HEADERS[npy.read_magic(file)](file)
    content = file.read()
    if dtype.hasobject or len(content) != dtype.itemsize * prod(shape):
        raise ValueError(f"{name} declares {dtype} {shape}, and has {len(content):,} bytes")
    return np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if by_column else "C")
