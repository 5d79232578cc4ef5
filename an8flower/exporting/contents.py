"""What an export holds, in words: the attributes of a data set, its splits, and every array that is stored of a row."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import Refusal
from ..gate.documents import read_json
from ..gate.regular import FileKind, shorten
from ..splits import SPLITS
from ..store import ALWAYS, LARGEST_SIZE, REQUIRED, FlowerStore

FORMAT, VERSION = "an8flower export", 1
MANIFEST = "an8flower.json"
TRAVELLING = (
    "name",
    "spec",
    "canonical",
    "digest",
    "class_names",
    "part_names",
    "size",
    "planting",
)  # attributes of a store
RAW = 2**26  # bytes of the rows of one shard, not compressed, at most
SHARD_ROWS = 1000  # rows of one shard, at most
MOST_ROWS = 10**9
KIND = FileKind("what an export holds", 2**26, "export the data set again", "name the folder of an export")
PLAIN = re.compile(r"[<|](?:u1|i1|b1|[iuf][248]|S\d{1,3})")


class StoredArray(NamedTuple):
    """One array of a split: a value for each row."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]  # of one row
    sha256: str  # of all rows, as recorded in the data set

    @property
    def is_picture(self) -> bool:
        """Whether a row of it is a picture of 8 bits, grey or in colours."""
        return self.dtype == np.uint8 and (len(self.shape) == 2 or self.shape[2:] == (3,))

    @property
    def is_table(self) -> bool:
        """Whether a row of it has several named values, as the factors have."""
        return self.dtype.names is not None

    def to_document(self) -> dict[str, Any]:
        """The array ready for JSON."""
        fields = [(name, self.dtype[name]) for name in self.dtype.names or ()]  # not `descr`: h5py adds words to it
        table = [[name, kind.base.str, *([list(kind.shape)] if kind.shape else [])] for name, kind in fields]
        dtype = table if self.is_table else self.dtype.str
        return {"name": self.name, "dtype": dtype, "shape": list(self.shape), "sha256": self.sha256}


class Contents(NamedTuple):
    """All that is known of an export without reading a row."""

    layout: str
    attributes: dict[str, Any]
    splits: dict[str, int]  # rows of each
    arrays: dict[str, tuple[StoredArray, ...]]  # of each split
    with_pairs: bool  # whether the masks of class pairs are there as well
    fingerprint: str

    @property
    def shard_rows(self) -> int:
        """Rows of one shard: those of a few dozen megabytes, masks of pairs aside."""
        row = max(sum(array.dtype.itemsize * prod(array.shape) for array in arrays) for arrays in self.arrays.values())
        return max(1, min(SHARD_ROWS, RAW // row))

    @property
    def shards(self) -> list[ExportShard]:
        """All shards of all splits, in order."""
        step = self.shard_rows
        return [
            ExportShard(split, number, -(-rows // step), start, min(start + step, rows))
            for split, rows in self.splits.items()
            for number, start in enumerate(range(0, rows, step))
        ]

    def to_json(self) -> str:
        """The contents as JSON, which `read_contents` reads."""
        arrays = {split: [array.to_document() for array in arrays] for split, arrays in self.arrays.items()}
        document = {"format": FORMAT, "version": VERSION, **self._asdict(), "arrays": arrays}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


class ExportShard(NamedTuple):
    """Rows start to stop of a split, which lie in one file, or belong to one file."""

    split: str
    number: int
    of: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The name of the shard's file, without its ending."""
        return f"{self.split}-{self.number:05d}-of-{self.of:05d}"


def describe(store: FlowerStore, layout: str, with_pairs: bool) -> Contents:
    """What an export of a data set will hold."""
    attributes = {key: _to_plain(store.file.attrs[key]) for key in TRAVELLING if key in store.file.attrs}
    arrays = {
        split: tuple(
            StoredArray(name, data.dtype, tuple(data.shape[1:]), str(data.attrs.get("sha256", "")))
            for name, data in store.file[split].items()
        )
        for split in store.splits
    }
    splits = {split: len(store[split]) for split in store.splits}
    return Contents(layout, attributes, splits, arrays, with_pairs, store.fingerprint)


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(text) for text in value]
    return int(value) if isinstance(value, np.integer) else str(value)


def read_contents(folder: Path, layouts: tuple[str, ...]) -> Contents:
    """What the export in a folder holds; raises Refusal for anything that is no export of ours."""
    place = folder / MANIFEST
    document = read_json(place, KIND)
    try:
        return _parse(document, layouts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"does not say what an export holds ({shorten(error)})"
        raise Refusal(f"{place}: {reason}; export the data set again") from None


def _parse(document: Any, layouts: tuple[str, ...]) -> Contents:
    if (document["format"], document["version"]) != (FORMAT, VERSION):
        raise ValueError(f"format {document['format']}, version {document['version']}")
    if document["layout"] not in layouts:
        raise ValueError(f"layout {document['layout']}")
    attributes, splits = document["attributes"], document["splits"]
    if not set(REQUIRED) <= set(attributes) <= set(TRAVELLING) or not 1 <= attributes["size"] <= LARGEST_SIZE:
        raise ValueError("its attributes are not those of a data set")
    if not splits or not all(split in SPLITS and 0 < rows <= MOST_ROWS for split, rows in splits.items()):
        raise ValueError("its splits")
    arrays = {split: tuple(map(_parse_array, document["arrays"][split])) for split in splits}
    if any(not set(ALWAYS) <= {array.name for array in stored} for stored in arrays.values()):
        raise ValueError("its arrays are not those of a data set")
    fingerprint = str(document["fingerprint"])
    return Contents(document["layout"], attributes, splits, arrays, bool(document["with_pairs"]), fingerprint)


def _parse_array(document: dict[str, Any]) -> StoredArray:
    shape = tuple(map(int, document["shape"]))
    if len(shape) > 3 or not all(0 < side <= LARGEST_SIZE for side in shape):
        raise ValueError(f"the array {document['name']} has shape {shape}")
    return StoredArray(str(document["name"]), _parse_dtype(document["dtype"]), shape, str(document["sha256"]))


def _parse_dtype(words: Any) -> np.dtype:
    """A type of plain numbers and texts, or a table of them: nothing that numpy would have to unpickle."""
    fields = words if isinstance(words, list) else [["", words]]
    if strange := [kind for _, kind, *_ in fields if not PLAIN.fullmatch(kind)]:
        raise ValueError(f"the type {strange[0]}")
    if isinstance(words, list):
        return np.dtype([(str(name), kind, *map(tuple, sizes)) for name, kind, *sizes in words])
    return np.dtype(words)


def check_rows(
    arrays: dict[str, np.ndarray], contents: Contents, shard: ExportShard, place: Path
) -> dict[str, np.ndarray]:
    """The arrays of a shard, if they are what the export says; raises Refusal for any other."""
    for array in contents.arrays[shard.split]:
        came = arrays[array.name]
        expected = (shard.stop - shard.start, *array.shape)
        if came.shape != expected or came.dtype != array.dtype:
            raise Refusal(
                f"{place}: {array.name} is {came.dtype} {came.shape}, expected {array.dtype} {expected}; "
                "export the data set again"
            )
    return arrays
