"""Saliency maps in files, of whatever program: read by row, with a manifest that says what they explain. No torch.

`maps` (n, S, S) with `rows` (n,), ascending, within the split; without `rows`, all rows of the split. `labels` (n,), if
there, are compared with those of the data set. A folder holds `ROW.npy` files, HDF5 files as `--keep-maps` writes, or
Parquet files as `export --maps` writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from an8flower.errors import Refusal
from an8flower.gate.arrays import read_npy, read_npz
from an8flower.gate.documents import parse_json, read_json
from an8flower.gate.hdf5 import Schema, open_hdf5, refuse_damage
from an8flower.gate.regular import FileKind, shorten
from an8flower.gate.tables import read_parquet
from an8flower.gate.tensors import read_safetensors
from an8flower.names import unknown
from an8flower.store import FlowerSplit

from .exports.columns import MAPS, RUN_MANIFEST, to_schema

BLOCK = 256  # maps that are read at once
FLOATS = "float16|float32|float64"
REMEDY = "write maps with `an8flower.evaluate.save_maps`, or as docs/maps.md says"
FILE = FileKind("a file of maps", 2**40, REMEDY)
IN_MEMORY = FileKind("a file of maps", 2**32, "write them as HDF5, which is read piece by piece")
EXPORTED = FileKind("a file of exported maps", 2**32, "export the run again")
MANIFEST = FileKind("a manifest of maps", 2**20, REMEDY)
HDF5 = Schema(
    {"rows": ("int64", 1), "labels": ("int64", 1), "scale": ("float64", 1), "maps": (FLOATS, 3)},
    attributes={"manifest": "text", "cell": "text"},
)
MAPS_SCHEMA = to_schema(MAPS)
ARRAYS = ("maps", "rows", "labels")
SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".safetensors", ".parquet")
BESIDE = "manifest.json"  # in a folder; beside a file lies FILE.json
TARGETS = ("label", "predicted")

Read = Callable[[np.ndarray], np.ndarray]
"""From places (k,) int64 in a file, ascending, to maps (k, H, W) as they are stored."""


class MapsManifest(NamedTuple):
    """What saliency maps explain, and who made them."""

    data: str  # the digest of the data set, as `an8flower inspect` prints it
    split: str
    model: str | None  # the digest of the classifier; None of maps that ask no model
    target: Literal["label", "predicted"] = "label"  # the class that is explained
    method: str = ""  # what made the maps, in any words
    family: str = "maps"  # under which the page lists them
    seed: int = 0  # of a method that draws

    def to_json(self) -> str:
        """The manifest as one line of JSON."""
        return json.dumps(self._asdict())


class MapPart(NamedTuple):
    """The maps of some rows in one file, or in the files of one folder."""

    place: Path
    manifest: MapsManifest
    rows: np.ndarray | None  # (n,) int64, ascending; None: all of the split
    labels: np.ndarray | None  # (n,) int64
    shape: tuple[int, ...]  # (n, H, W)
    read: Read


class MapCollection(NamedTuple):
    """All maps of one method for one model, in one file or several."""

    manifest: MapsManifest
    parts: tuple[MapPart, ...]
    content: str  # the sha256 of rows and maps, in whatever files they lie

    def reason_against(self, split: FlowerSplit, model: str, target: str) -> str | None:
        """Why the maps are not for a run: they explain another data set, split, model or class; None if they are."""
        expected = {"data": split.store.digest, "split": split.name, "model": model, "target": target}
        for key, value in expected.items():
            came = getattr(self.manifest, key)
            if came != value and not (key == "model" and came is None):
                return (
                    f"{self.parts[0].place}: its manifest says {key} {shorten(came)}, this run has {value}; "
                    f'give maps of this run, or correct the manifest to "{key}": "{value}" if they are'
                )
        return None

    def places_of(self, split: FlowerSplit) -> dict[int, tuple[MapPart, int]]:
        """Where the map of each row lies; raises Refusal for maps that are not those of the split's rows."""
        places: dict[int, tuple[MapPart, int]] = {}
        for part in self.parts:
            rows = check_rows(part, split)
            if twice := [row for row in rows.tolist() if row in places]:
                other = places[twice[0]][0].place
                raise Refusal(f"{part.place}: row {twice[0]} came already in {other}; remove one of them")
            places |= {row: (part, place) for place, row in enumerate(rows.tolist())}
        return places


def hold_maps(place: Path, maps: np.ndarray, rows: np.ndarray | None, manifest: MapsManifest) -> MapPart:
    """Maps (n, H, W) in memory as a part, sorted by their rows (n,); `place` names them in messages."""
    if rows is not None and rows.ndim == 1 and len(rows) == len(maps):
        order = np.argsort(rows, kind="stable")
        rows, maps = rows[order], maps[order]
    return _make_part(place, manifest, rows, None, maps, lambda places: maps[places])


def open_maps(path: Path) -> list[MapCollection]:
    """The maps in a file or a folder, by method and model, read through once.

    Raises Refusal for what is no map: another shape or type, NaN, rows that do not ascend, no manifest.
    """
    parts = _parts_of_folder(path) if path.is_dir() else [open_part(path)]
    parts.sort(key=lambda part: (part.manifest.to_json(), _first_row(part), part.place))
    groups = [tuple(group) for _, group in groupby(parts, key=lambda part: part.manifest)]
    return [MapCollection(group[0].manifest, group, digest_parts(group)) for group in groups]


def read_maps(part: MapPart, places: np.ndarray) -> np.ndarray:
    """The maps (k, H, W) float32 at places (k,) of a part; raises Refusal for NaN and infinity."""
    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinity
        maps = part.read(places).astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(maps).all((1, 2)))
    if len(bad):
        first = int(places[bad[0]])
        row = first if part.rows is None else int(part.rows[first])
        raise Refusal(f"{part.place}: NaN or infinity came in the map of row {row}; give zeros instead")
    return maps


def digest_parts(parts: Sequence[MapPart]) -> str:
    """The sha256 of the rows and maps of several parts."""
    running = hashlib.sha256()
    for part in parts:
        for places in _blocks(part.shape[0]):
            rows = places if part.rows is None else part.rows[places]
            running.update(np.ascontiguousarray(rows, "<i8").data)
            running.update(np.ascontiguousarray(read_maps(part, places), "<f4").data)
    return running.hexdigest()


def check_rows(part: MapPart, split: FlowerSplit) -> np.ndarray:
    """The rows (n,) of a part; raises Refusal where the split has others, or pictures of another size."""
    count, *sides = part.shape
    side = split.store.size
    if sides != [side, side]:
        raise Refusal(f"{part.place}: maps of {sides[0]} x {sides[1]} came, expected {side} x {side}; scale them first")
    if part.rows is None and count != len(split):
        raise Refusal(
            f"{part.place}: {count} maps came, {split.name} has {len(split)} rows; give one for each, or their `rows`"
        )
    rows = np.arange(count) if part.rows is None else part.rows
    if count and rows[-1] >= len(split):
        raise Refusal(f"{part.place}: row {rows[-1]} came, {split.name} has rows 0 to {len(split) - 1}; give these")
    if part.labels is not None and (part.labels != split.labels[rows]).any():
        row = int(rows[np.flatnonzero(part.labels != split.labels[rows])[0]])
        raise Refusal(f"{part.place}: row {row} has another label than in the data set; put maps in the rows' order")
    return rows


# Reading.


def _parts_of_folder(folder: Path) -> list[MapPart]:
    if (folder / BESIDE).exists():
        return [_open_row_files(folder)]
    folder = folder / "maps" if (folder / RUN_MANIFEST).is_file() else folder
    files = sorted(place for place in folder.glob("*") if place.suffix in (".h5", ".hdf5", ".parquet"))
    if not files:
        raise Refusal(
            f"{folder}: no maps there; expected ROW.npy files with {BESIDE}, or .h5 or .parquet files; {REMEDY}"
        )
    return [open_part(place) for place in files]


def open_part(path: Path) -> MapPart:
    """The maps in one file, read through as far as their numbers; raises Refusal as `open_maps`."""
    if path.suffix not in SUFFIXES:
        raise Refusal(f"{path}: expected a folder or a file of maps ({', '.join(SUFFIXES)}); {REMEDY}")
    if path.suffix in (".h5", ".hdf5"):
        return _open_hdf5_part(path)
    if path.suffix == ".parquet":
        return _open_parquet_part(path)
    metadata: dict[str, str] = {}
    if path.suffix == ".npy":
        arrays = {"maps": read_npy(path, IN_MEMORY)}
    elif path.suffix == ".npz":
        arrays = read_npz(path, IN_MEMORY)
    else:
        metadata, arrays = read_safetensors(path, IN_MEMORY)
    _check_names(path, arrays)
    manifest = _manifest_of(path, metadata.get("manifest"))
    maps = arrays["maps"]
    return _make_part(path, manifest, arrays.get("rows"), arrays.get("labels"), maps, lambda places: maps[places])


def _open_hdf5_part(path: Path) -> MapPart:
    with open_hdf5(path, FILE, HDF5) as file, refuse_damage(path, REMEDY):
        _check_names(path, file)
        manifest = _manifest_of(path, file.attrs.get("manifest"))
        rows, labels, scale = (file[name][:] if name in file else None for name in ("rows", "labels", "scale"))
        if scale is not None and len(scale) != len(file["maps"]):
            raise Refusal(f"{path}: {len(scale)} scales came for {len(file['maps'])} maps; {REMEDY}")
        return _make_part(path, manifest, rows, labels, file["maps"], partial(_read_hdf5, path, scale))


def _read_hdf5(path: Path, scale: np.ndarray | None, places: np.ndarray) -> np.ndarray:
    with open_hdf5(path, FILE, HDF5) as file, refuse_damage(path, REMEDY):
        maps: np.ndarray = file["maps"][places]
    return maps if scale is None else maps * scale[places, None, None]


def _open_parquet_part(path: Path) -> MapPart:
    """The maps of a cell of an exported run; they are read again when they are wanted."""
    table = read_parquet(path, EXPORTED, MAPS_SCHEMA)
    manifest = _manifest_of(path, (table.schema.metadata or {}).get(b"manifest", b"null").decode(errors="replace"))
    rows = table["row"].to_numpy()
    stand_in = np.broadcast_to(np.float32(0), (len(rows), *_sides(path, table)))
    return _make_part(path, manifest, rows, None, stand_in, partial(_read_parquet_maps, path))


def _read_parquet_maps(path: Path, places: np.ndarray) -> np.ndarray:
    table = read_parquet(path, EXPORTED, MAPS_SCHEMA)
    values = table["map"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, *_sides(path, table))
    maps: np.ndarray = values[places]
    return maps


def _sides(path: Path, table: pa.Table) -> tuple[int, int]:
    """The height and width that all maps of a table have; raises Refusal where they differ, or values are missing."""
    sides = set(zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True))
    height, width = next(iter(sides), (0, 0))
    lengths = set(pc.list_value_length(table["map"]).to_pylist())
    if len(sides) != 1 or None in (height, width) or lengths != {height * width} or table["row"].null_count:
        raise Refusal(f"{path}: its maps are not all of one size; export the run again")
    return height, width


def _open_row_files(folder: Path) -> MapPart:
    """A folder with a file for each row: `17.npy`, or `000017.npy`."""
    files = {place: place.stem for place in folder.iterdir() if place.suffix == ".npy"}
    if wrong := sorted(place.name for place, stem in files.items() if not (stem.isascii() and stem.isdigit())):
        raise Refusal(f"{folder}: {shorten(wrong[0])} came, expected the row's number, as in 17.npy; rename it")
    places = sorted(files, key=lambda place: (int(place.stem), place.name))
    if not places:
        raise Refusal(f"{folder}: no map came, expected files such as 17.npy beside {BESIDE}; {REMEDY}")
    first = read_npy(places[0], IN_MEMORY)
    _check_map(places[0], first, first.shape)

    def read(numbers: np.ndarray) -> np.ndarray:
        maps = [read_npy(places[number], IN_MEMORY) for number in numbers]
        for number, values in zip(numbers, maps, strict=True):
            _check_map(places[number], values, first.shape)
        return np.stack(maps)

    rows = np.array([int(place.stem) for place in places], np.int64)
    stand_in = np.broadcast_to(first, (len(places), *first.shape))
    return _make_part(folder, _manifest_of(folder, None), rows, None, stand_in, read)


def _check_map(place: Path, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.ndim != 2 or values.shape != shape:
        raise Refusal(f"{place}: shape {values.shape} came, expected one map (H, W) of the size of all others")


def _make_part(
    place: Path, manifest: MapsManifest, rows: Any, labels: Any, maps: Any, read: Callable[[np.ndarray], np.ndarray]
) -> MapPart:
    """A part whose arrays agree in number and are of the types that maps and rows have."""
    if maps.ndim != 3 or str(maps.dtype) not in FLOATS.split("|"):
        raise Refusal(f"{place}: maps are {maps.dtype} {tuple(maps.shape)}, expected floats (n, H, W); {REMEDY}")
    for name, numbers in (("rows", rows), ("labels", labels)):
        if numbers is not None and (numbers.shape != maps.shape[:1] or numbers.dtype.kind not in "iu"):
            raise Refusal(
                f"{place}: {name} are {numbers.dtype} {tuple(numbers.shape)}, expected whole numbers ({len(maps)},), "
                "one for each map; correct them"
            )
    rows = None if rows is None else rows.astype(np.int64)
    if rows is not None and len(rows) and (rows[0] < 0 or (np.diff(rows) <= 0).any()):
        raise Refusal(f"{place}: its rows do not ascend from 0; sort the maps by row, and give each row once")
    return MapPart(place, manifest, rows, labels, tuple(maps.shape), read)


def _check_names(path: Path, arrays: Any) -> None:
    if "maps" not in arrays:
        raise Refusal(f"{path}: holds {shorten(', '.join(arrays))}, expected an array `maps`; {REMEDY}")
    if strange := sorted(name for name in arrays if name not in (*ARRAYS, "scale")):
        raise Refusal(f"{path}: {unknown('array', shorten(strange[0]), ARRAYS)}")


def _manifest_of(path: Path, text: str | None) -> MapsManifest:
    """The manifest that a file holds, or that lies beside it."""
    place = path / BESIDE if path.is_dir() else path.with_name(f"{path.name}.json")
    if text is None and not place.exists():
        example = MapsManifest("DIGEST", "test", "DIGEST", method="WORDS")._asdict()
        listed = json.dumps({key: example[key] for key in ("data", "split", "model", "method")})
        raise Refusal(f"{path}: says nowhere what its maps explain; write {place} with {listed}")
    try:
        document = read_json(place, MANIFEST) if text is None else parse_json(str(text))
    except ValueError as error:
        raise Refusal(f"{path}: its manifest is not JSON ({shorten(error)}); {REMEDY}") from None
    return parse_manifest(document, path if text is not None else place)


def parse_manifest(document: Any, place: Path) -> MapsManifest:
    """The manifest in a JSON document; raises Refusal where a key is unknown, missing or of another type."""
    if not isinstance(document, dict):
        raise Refusal(f"{place}: expected a JSON object with data, split and model; {REMEDY}")
    for key, value in document.items():
        if key not in MapsManifest._fields:
            raise Refusal(f"{place}: {unknown('key', shorten(key), MapsManifest._fields)}")
        kind = int if key == "seed" else str
        if type(value) is not kind and not (key == "model" and value is None):
            raise Refusal(f"{place}: {key} is {shorten(value)}, expected a {'number' if kind is int else 'text'}")
    if missing := [key for key in ("data", "split", "model") if key not in document]:
        raise Refusal(f"{place}: lacks {missing[0]}, which says what the maps explain; {REMEDY}")
    manifest = MapsManifest(**document)
    if manifest.target not in TARGETS:
        raise Refusal(f"{place}: {unknown('target', shorten(manifest.target), TARGETS)}")
    return manifest


def _first_row(part: MapPart) -> int:
    return int(part.rows[0]) if part.rows is not None and len(part.rows) else 0


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))
