"""The three layouts of an export: Parquet as the Hugging Face hub reads it, folders of pictures, WebDataset.

A layout writes the rows of one shard, and reads them back. The last file of a shard appears when the others are there.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import moved_into
from ..errors import Refusal
from ..gate.archives import read_tar
from ..gate.documents import parse_json
from ..gate.regular import FileKind, read_bytes, shorten
from ..gate.tables import read_parquet
from .contents import Contents, ExportShard, StoredArray
from .encoding import column_names, decode, encode, from_columns, suffix_of, to_columns

SHARD = FileKind("a shard of an export", 2**32, "export the data set again")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # how the hub's readers know a picture
GROUP = 100  # rows of a row group
LABELS, PAIRS = "labels", "pairs"
SINGULAR = {"images": "image", "masks": "mask", "labels": "label"}  # as other tools call the values of one row

Arrays = dict[str, np.ndarray]
Encoded = Callable[[int, int], Iterable[bytes]]
"""From two places in a shard to the bytes of each row between them."""


class EncodedShard(NamedTuple):
    """The rows of a shard as they lie in its files: pictures are decoded when they are asked for."""

    flat: Arrays  # the values that are no pixels, of all rows
    encoded: dict[StoredArray, Encoded]  # of each array with a value for each pixel
    place: Path  # that messages name

    def decode(self, start: int, stop: int) -> Arrays:
        """The arrays of the rows from one place in the shard to another; raises Refusal where some are damaged."""
        pixels = {array.name: decode(array, read(start, stop), self.place) for array, read in self.encoded.items()}
        return {**{name: values[start:stop] for name, values in self.flat.items()}, **pixels}


class Layout(ABC):
    """A way to lay the rows of a data set down in files."""

    name: str
    files: str  # a pattern of the files of one split, for readers that take patterns

    @abstractmethod
    def place(self, folder: Path, shard: ExportShard) -> Path:
        """The last file of a shard."""

    @abstractmethod
    def write(self, folder: Path, contents: Contents, shard: ExportShard, arrays: Arrays) -> None:
        """Write the rows of a shard: `arrays` are those that are stored, and the masks of pairs if they are wanted."""

    @abstractmethod
    def load(self, folder: Path, contents: Contents, shard: ExportShard) -> EncodedShard:
        """The rows of a shard that a data set stores; raises Refusal for files that are missing or damaged."""

    def read(self, folder: Path, contents: Contents, shard: ExportShard) -> Arrays:
        """The arrays of all rows of a shard; raises Refusal as `load` does."""
        return self.load(folder, contents, shard).decode(0, shard.stop - shard.start)


class ParquetLayout(Layout):
    """`data/SPLIT-00000-of-00007.parquet`: pictures as PNG, a column for every other value."""

    name, files = "parquet", "data/{split}-*.parquet"

    def place(self, folder: Path, shard: ExportShard) -> Path:
        """The file of a shard."""
        return folder / "data" / f"{shard.name}.parquet"

    def write(self, folder: Path, contents: Contents, shard: ExportShard, arrays: Arrays) -> None:
        """Write the file of a shard."""
        columns = flat_columns(contents, shard, arrays)
        for array in pixel_arrays(contents, shard):
            rows = [encode(array, row) for row in arrays[array.name]]
            if array.is_picture:
                paths = [f"{shard.split}-{row:09d}.{array.name}.png" for row in range(shard.start, shard.stop)]
                pairs = [{"bytes": content, "path": path} for content, path in zip(rows, paths, strict=True)]
                columns[column_of(array)] = pa.array(pairs, PICTURE)
            else:
                columns[column_of(array)] = pa.array(rows, pa.binary())
        table = pa.table(columns, schema=self._schema(contents, shard))
        with moved_into(self.place(folder, shard)) as unfinished:
            pq.write_table(table, unfinished, row_group_size=GROUP, write_page_checksum=True)

    def load(self, folder: Path, contents: Contents, shard: ExportShard) -> EncodedShard:
        """The rows in the file of a shard."""
        place = self.place(folder, shard)
        table = read_parquet(place, SHARD, self._schema(contents, shard))
        encoded = {array: self._bytes_of(table, array) for array in stored_pixels(contents, shard)}
        return EncodedShard(from_flat(contents, shard, table, place), encoded, place)

    @staticmethod
    def _bytes_of(table: pa.Table, array: StoredArray) -> Encoded:
        column = table[column_of(array)].combine_chunks()
        values = column.field("bytes") if array.is_picture else column
        return lambda start, stop: [content or b"" for content in values.slice(start, stop - start).to_pylist()]

    def _schema(self, contents: Contents, shard: ExportShard) -> pa.Schema:
        fields = flat_schema(contents, shard)
        features: dict[str, Any] = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in fields}
        features["label"] = {"names": contents.attributes["class_names"], "_type": "ClassLabel"}
        for array in pixel_arrays(contents, shard):
            fields.append(pa.field(column_of(array), PICTURE if array.is_picture else pa.binary()))
            value = {"dtype": "binary", "_type": "Value"}
            features[column_of(array)] = {"_type": "Image"} if array.is_picture else value
        return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


class FolderLayout(Layout):
    """`images/SPLIT/00-CLASS/000000017.png` beside `masks/...`, and the other values in `rows/SPLIT-....parquet`."""

    name, files = "folder", "images/{split}/**"

    def place(self, folder: Path, shard: ExportShard) -> Path:
        """The table of the values of a shard that are no pictures; it is written last."""
        return folder / "rows" / f"{shard.name}.parquet"

    def write(self, folder: Path, contents: Contents, shard: ExportShard, arrays: Arrays) -> None:
        """Write the pictures of a shard, then its table."""
        columns = flat_columns(contents, shard, arrays)
        for array in pixel_arrays(contents, shard):
            places = self._places(array, contents, shard, arrays[LABELS])
            for place, row in zip(places, arrays[array.name], strict=True):
                whole = folder / place
                whole.parent.mkdir(parents=True, exist_ok=True)
                whole.write_bytes(encode(array, row))
            columns[column_of(array)] = pa.array(places)
        table = pa.table(columns, schema=self._schema(contents, shard))
        with moved_into(self.place(folder, shard)) as unfinished:
            pq.write_table(table, unfinished, write_page_checksum=True)

    def load(self, folder: Path, contents: Contents, shard: ExportShard) -> EncodedShard:
        """The rows of a shard; the places of pictures are known, and not taken from a file."""
        place = self.place(folder, shard)
        flat = from_flat(contents, shard, read_parquet(place, SHARD, self._schema(contents, shard)), place)
        encoded = {
            array: self._bytes_of(folder, self._places(array, contents, shard, flat[LABELS]))
            for array in stored_pixels(contents, shard)
        }
        return EncodedShard(flat, encoded, place)

    @staticmethod
    def _bytes_of(folder: Path, places: list[str]) -> Encoded:
        return lambda start, stop: (read_bytes(folder / place, SHARD) for place in places[start:stop])

    def _places(self, array: StoredArray, contents: Contents, shard: ExportShard, labels: np.ndarray) -> list[str]:
        names = class_folders(contents.attributes["class_names"])
        rows = range(shard.start, shard.stop)
        start, end = f"{array.name}/{shard.split}", suffix_of(array)
        return [f"{start}/{names[label]}/{row:09d}.{end}" for row, label in zip(rows, labels, strict=True)]

    def _schema(self, contents: Contents, shard: ExportShard) -> pa.Schema:
        pictures = [pa.field(column_of(array), pa.string()) for array in pixel_arrays(contents, shard)]
        return pa.schema([*flat_schema(contents, shard), *pictures])


class WebLayout(Layout):
    """`SPLIT-00000-of-00007.tar` with `SPLIT-000000017.image.png`, `.mask.png`, `.cls`, `.json` and so on."""

    name, files = "webdataset", "{split}-*.tar"

    def place(self, folder: Path, shard: ExportShard) -> Path:
        """The archive of a shard."""
        return folder / f"{shard.name}.tar"

    def write(self, folder: Path, contents: Contents, shard: ExportShard, arrays: Arrays) -> None:
        """Write the archive of a shard, whose members have no time and no owner."""
        with (
            moved_into(self.place(folder, shard)) as unfinished,
            tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name, content in self._members(contents, shard, arrays):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    def load(self, folder: Path, contents: Contents, shard: ExportShard) -> EncodedShard:
        """The rows in the archive of a shard."""
        place = self.place(folder, shard)
        members = read_tar(place, SHARD)
        keys = [self._key(shard, row) for row in range(shard.start, shard.stop)]
        try:
            lines = [parse_json(members[f"{key}.json"].decode()) for key in keys]
            flat, encoded = from_flat(contents, shard, pa.Table.from_pylist(lines), place), {}
            for array in stored_pixels(contents, shard):
                ending = f"{column_of(array)}.{suffix_of(array)}"
                encoded[array] = self._bytes_of([members[f"{key}.{ending}"] for key in keys])
        except (KeyError, ValueError, pa.ArrowException) as error:
            raise Refusal(f"{place}: lacks rows, or is damaged ({shorten(error)}); {SHARD.remedy}") from None
        return EncodedShard(flat, encoded, place)

    @staticmethod
    def _bytes_of(rows: list[bytes]) -> Encoded:
        return lambda start, stop: rows[start:stop]

    def _members(self, contents: Contents, shard: ExportShard, arrays: Arrays) -> Iterator[tuple[str, bytes]]:
        lines = pa.table(flat_columns(contents, shard, arrays)).to_pylist()
        pixels = pixel_arrays(contents, shard)
        for i, line in enumerate(lines):
            key = self._key(shard, shard.start + i)
            for array in pixels:
                yield f"{key}.{column_of(array)}.{suffix_of(array)}", encode(array, arrays[array.name][i])
            yield f"{key}.cls", str(line["label"]).encode()
            yield f"{key}.json", json.dumps(line, ensure_ascii=False).encode()

    @staticmethod
    def _key(shard: ExportShard, row: int) -> str:
        return f"{shard.split}-{row:09d}"


LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (ParquetLayout(), FolderLayout(), WebLayout())}


# What the layouts share: the values of a row that are no pixels.


def pixel_arrays(contents: Contents, shard: ExportShard) -> list[StoredArray]:
    """The arrays with a value for each pixel, those of class pairs at the end if they are wanted."""
    stored = [array for array in contents.arrays[shard.split] if array.shape]
    if contents.with_pairs:
        size, classes = contents.attributes["size"], len(contents.attributes["class_names"])
        stored.append(StoredArray(PAIRS, np.dtype(np.uint8), (classes * size, size), ""))
    return stored


def stored_pixels(contents: Contents, shard: ExportShard) -> list[StoredArray]:
    """The arrays with a value for each pixel that a data set stores."""
    return pixel_arrays(contents._replace(with_pairs=False), shard)


def column_of(array: StoredArray) -> str:
    """What other tools call one row of an array."""
    return SINGULAR.get(array.name, array.name)


def class_folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each class, in whose order they are the labels.

    >>> class_folders(["red", "a/b"])
    ['00-red', '01-a-b']
    """
    width = max(2, len(str(len(names) - 1)))
    return [f"{label:0{width}d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:80]}" for label, name in enumerate(names)]


def flat_schema(contents: Contents, shard: ExportShard) -> list[pa.Field]:
    """The columns of the values that are no pixels: row, label, class, other numbers, and those of tables."""
    fields = [pa.field("row", pa.int64()), pa.field("label", pa.int64()), pa.field("class", pa.string())]
    for array in contents.arrays[shard.split]:
        if array.is_table:
            fields += [pa.field(name, _to_arrow(dtype)) for name, dtype in column_names(array)]
        elif not array.shape and array.name != LABELS:
            fields.append(pa.field(column_of(array), _to_arrow(array.dtype)))
    return fields


def flat_columns(contents: Contents, shard: ExportShard, arrays: Arrays) -> dict[str, pa.Array]:
    """The values of a shard's rows that are no pixels, by column."""
    names = np.array(contents.attributes["class_names"], object)
    columns: dict[str, Any] = {"row": np.arange(shard.start, shard.stop), "label": arrays[LABELS]}
    columns["class"] = names[arrays[LABELS]]
    for array in contents.arrays[shard.split]:
        if array.is_table:
            columns |= to_columns(array, arrays[array.name])
        elif not array.shape and array.name != LABELS:
            columns[column_of(array)] = arrays[array.name]
    return {field.name: pa.array(columns[field.name], field.type) for field in flat_schema(contents, shard)}


def from_flat(contents: Contents, shard: ExportShard, table: pa.Table, place: Path) -> Arrays:
    """The arrays that `flat_columns` took apart; raises Refusal where rows are others than the shard's."""
    arrays: Arrays = {}
    try:
        columns = {field.name: table[field.name].to_numpy() for field in flat_schema(contents, shard)}
        if columns["row"].tolist() != list(range(shard.start, shard.stop)):
            raise ValueError(f"other rows than {shard.start} to {shard.stop - 1}")
        for array in contents.arrays[shard.split]:
            if array.is_table:
                arrays[array.name] = from_columns(array, columns, table.num_rows)
            elif not array.shape:
                arrays[array.name] = np.asarray(columns[column_of(array)], array.dtype)
        if not (arrays[LABELS] >= 0).all() or not (arrays[LABELS] < len(contents.attributes["class_names"])).all():
            raise ValueError("labels of no class")
    except (LookupError, ValueError, TypeError, OverflowError) as error:
        raise Refusal(f"{place}: holds other values than expected ({shorten(error)}); {SHARD.remedy}") from None
    return arrays


def _to_arrow(dtype: np.dtype) -> pa.DataType:
    return pa.string() if dtype.kind == "S" else pa.from_numpy_dtype(dtype)
