"""HDF5 files: their tree is walked without following anything, before a byte of data is read.

A file holds data sets of known names, types and ranks, in groups of known names or at its root. Links are hard ones,
each to an object of its own. Data lie in the file itself, in chunks that are deflated or plain; only a merged file may
refer to others, by the names that it states. What is declared is held against what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5l, h5o, h5t, h5z

from ..errors import Refusal
from .documents import parse_json
from .regular import FileKind, check_regular, megabytes, shorten

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises where a file is damaged."""

MEMORY = 3 * 2**30  # bytes that reading may take
HELD_ROWS = 512  # rows that are read at once
CHUNK = 2**27  # bytes of a chunk: 32 pictures of 1024 px have 96 MiB
DEFLATE = 1040  # bytes that deflate can make of one, at most, rounded up
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE}
MOST_TEXTS = 100_000
HEAP = b"GCOL\x01\0\0\0"  # how HDF5 begins a heap of texts
SEARCHED = 2**26  # bytes of a file that is searched for heaps
TEXT = 2**24  # bytes of an attribute
OWN_LAYOUTS = {h5d.CHUNKED, h5d.CONTIGUOUS, h5d.COMPACT}
ATTRIBUTES = {  # the kinds of attributes: HDF5's class, and dimensions
    "text": (h5t.STRING, 0),
    "texts": (h5t.STRING, 1),
    "integer": (h5t.INTEGER, 0),
    "integers": (h5t.INTEGER, 1),
    "truth": (h5t.ENUM, 0),
}


class Schema(NamedTuple):
    """What an HDF5 file of some kind may hold."""

    datasets: Mapping[str, tuple[str, int]]  # names, with numpy's type (V: a table; a|b: either) and dimensions
    groups: Collection[str] = ()  # in which the data sets lie; at the root where empty
    attributes: Mapping[str, str] = {}  # of the root: names with one of ATTRIBUTES


def open_hdf5(path: Path, kind: FileKind, schema: Schema) -> h5py.File:
    """Open an HDF5 file for reading whose tree is that of a schema; raises Refusal for any other."""
    size = check_regular(path, kind)
    with refuse_damage(path, kind.remedy):
        _check_heaps(path, size)
        file = h5py.File(path, "r")
        try:
            _check_attributes(file, schema.attributes)
            virtual = _stated_shards(file)
            for group in _check_links(file, schema.groups, h5o.TYPE_GROUP) if schema.groups else [file]:
                for data in _check_links(group, schema.datasets, h5o.TYPE_DATASET):
                    _check_dataset(data, *schema.datasets[_last_name(data)], virtual)
        except BaseException:
            file.close()
            raise
    return file


@contextmanager
def refuse_damage(path: Path, remedy: str) -> Iterator[None]:
    """Turn what h5py raises about damage into a Refusal."""
    try:
        yield
    except DAMAGE as error:
        damaged = "truncated or damaged" if _has_signature(path) else "not an HDF5 file"
        raise Refusal(f"{path}: {damaged} ({shorten(error) or type(error).__name__}); {remedy}") from None


def _has_signature(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _last_name(data: h5py.Dataset) -> str:
    return str(data.name).rpartition("/")[2]


def _check_links(group: h5py.Group, names: Collection[str], kind: int) -> list[h5py.Group | h5py.Dataset]:
    """The members of a group, once it is known that each is an object of one kind, of its own, in this file."""
    addresses = set()
    for name in group:
        if name not in names:
            raise ValueError(f'it holds "{shorten(name)}", which this program does not write')
        if group.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
            raise ValueError(f"{name} is a link elsewhere")
        about = h5o.get_info(group.id, name.encode())
        if about.type != kind:
            raise ValueError(f"{name} is of another kind than expected")
        addresses.add(about.addr)
    if len(addresses) != len(group):
        raise ValueError("one object has several names")
    return [group[name] for name in group]


def _check_attributes(owner: h5py.HLObject, kinds: Mapping[str, str]) -> None:
    for name, kind in kinds.items():
        if name in owner.attrs and not _is_of_kind(owner.attrs.get_id(name), *ATTRIBUTES[kind]):
            raise ValueError(f"its attribute {name} is no {kind}")


def _is_of_kind(attribute: h5py.h5a.AttrID, kind: int, dimensions: int) -> bool:
    shape, stored = attribute.shape, attribute.get_type()
    if shape == (0,) and dimensions == 1:
        return True  # h5py writes an empty list as numbers
    small = prod(shape) <= MOST_TEXTS and prod(shape) * stored.get_size() <= TEXT
    return stored.get_class() == kind and len(shape) == dimensions and small


def _stated_shards(file: h5py.File) -> Collection[str]:
    """The files to which a merged file refers: they lie beside it, or in folders beside it."""
    text = str(file.attrs.get("shards", "{}"))
    try:
        names = parse_json(text)
    except ValueError:
        names = None
    if not isinstance(names, dict) or not all(isinstance(mark, str) for mark in names.values()):
        raise ValueError("its attribute shards is no JSON object of texts")
    for name in names:
        if not is_beside(name):
            raise ValueError(f"its shard {shorten(json.dumps(name))} does not lie beside it")
    return names.keys()


def is_beside(name: str) -> bool:
    """Whether a path is a plain relative one that leads no folder up.

    >>> is_beside("shards/a.h5"), is_beside("../a.h5"), is_beside("/etc/passwd"), is_beside(".")
    (True, False, False, False)
    """
    place = PurePosixPath(name)
    return bool(place.parts) and not place.is_absolute() and ".." not in place.parts and "\\" not in name


def _check_dataset(data: h5py.Dataset, dtype: str, dimensions: int, shards: Collection[str]) -> None:
    """Raise ValueError unless a data set is of the expected type and lies in this file, or in stated shards."""
    _check_attributes(data, {"sha256": "text"})
    creation = data.id.get_create_plist()
    if creation.get_layout() == h5d.VIRTUAL:  # before its shape is asked for: that may open the other files
        _check_sources(data, creation, shards)
    elif creation.get_layout() not in OWN_LAYOUTS or creation.get_external_count():
        raise ValueError(f"{data.name} does not lie in this file")
    if not _is_of_type(data, dtype) or data.ndim != dimensions:
        raise ValueError(f"{data.name} is {shorten(data.dtype)} of {data.ndim} dimensions, expected {dtype}")
    if any(creation.get_filter(i)[0] not in FILTERS for i in range(creation.get_nfilters())):
        raise ValueError(f"{data.name} has a filter that this program does not write")
    _check_size(data, creation)


def _check_sources(data: h5py.Dataset, creation: h5py.h5p.PropDCID, shards: Collection[str]) -> None:
    for i in range(creation.get_virtual_count()):
        source, name = creation.get_virtual_filename(i), creation.get_virtual_dsetname(i)
        if source not in shards or name != data.name:
            raise ValueError(f"{data.name} refers to {shorten(source)}, which is none of its shards")


def _is_of_type(data: h5py.Dataset, dtype: str) -> bool:
    if data.id.get_type().committed():
        return False
    if dtype == "V":
        return data.dtype.names is not None and not data.dtype.hasobject
    return any(data.dtype == np.dtype(name) for name in dtype.split("|"))


def _check_size(data: h5py.Dataset, creation: h5py.h5p.PropDCID) -> None:
    """Hold what a data set declares against what is stored of it, and against the memory that reading takes."""
    row = data.dtype.itemsize * prod(data.shape[1:])
    whole = row * len(data)
    read_at_once = whole if data.ndim == 1 and data.dtype.names is None else row * min(len(data), HELD_ROWS)
    chunk = data.dtype.itemsize * prod(data.chunks or ())
    if max(read_at_once, row) > MEMORY or chunk > CHUNK:
        raise ValueError(f"reading {data.name} would take {megabytes(max(read_at_once, row, chunk))}")
    if creation.get_layout() == h5d.VIRTUAL:
        return
    if whole > data.id.get_storage_size() * (DEFLATE if creation.get_nfilters() else 1):
        stored = data.id.get_storage_size()
        raise ValueError(f"{data.name} declares {megabytes(whole)}, and {stored:,} bytes are stored")
    if data.chunks:
        _check_chunks(data, chunk, filtered=creation.get_nfilters() > 0)


def _check_chunks(data: h5py.Dataset, whole: int, filtered: bool) -> None:
    """Refuse chunks that are larger than declared, and smaller ones that no filter fills: HDF5 reads on behind them."""
    least, most = (1, whole + whole // 64 + 1024) if filtered else (whole, whole)
    odd: list[int] = []

    def look(chunk: h5d.StoreInfo) -> None:
        if chunk.filter_mask or not least <= chunk.size <= most:
            odd.append(chunk.size)

    data.id.chunk_iter(look)
    if odd:
        raise ValueError(
            f"{data.name} has a chunk of {odd[0]:,} bytes, expected {least:,} to {most:,}, all filters used"
        )


def _check_heaps(path: Path, size: int) -> None:
    """Refuse heaps of texts in which HDF5 would go round for ever: an entry of no length; large files go unsearched."""
    if not 0 < size <= SEARCHED:
        return
    content = path.read_bytes()
    start = content.find(HEAP)
    while start >= 0:
        end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), size)
        place = start + 16
        while place + 16 <= end:
            length = int.from_bytes(content[place + 8 : place + 16], "little")
            step = 16 + length + -length % 8 if content[place : place + 2] != b"\0\0" else length
            if not step:
                raise ValueError("a text of no length in its heap")
            place += step
        start = content.find(HEAP, start + len(HEAP))
