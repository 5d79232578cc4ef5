"""Raw saliency maps on disk, one HDF5 file a cell: `rows` (n,) int64, `scale` (n,), `maps` (n, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from an8flower.atomic import moved_into
from an8flower.errors import Refusal, WrongUsage
from an8flower.gate.hdf5 import Schema, open_hdf5, refuse_damage
from an8flower.gate.regular import FileKind
from an8flower.store import FlowerSplit

from .files import write_json
from .map_files import MapsManifest, check_rows, hold_maps, read_maps

LARGEST, SMALLEST = 15, -4  # powers of two between which a map's largest value needs no scale

MAPS = FileKind("the maps of a cell", 2**40, "run the same command again")
CELL, MANIFEST = "cell", "manifest"  # the attributes that say of which cell the maps are, and how they were made
SCHEMA = Schema(
    {"rows": ("int64", 1), "scale": ("float64", 1), "maps": ("float32", 3)},
    attributes={CELL: "text", MANIFEST: "text"},
)


def maps_path(folder: Path, cell: str) -> Path:
    """The path of the maps of a cell in the folder of a run."""
    return folder / "maps" / f"{cell}.h5"


def write_maps(where: Path, rows: np.ndarray, maps: np.ndarray, manifest: MapsManifest) -> None:
    """Write maps (n, H, W) float32 of rows (n,), just as the method returned them, for `--maps` to read.

    `scale` (n,) is 1 throughout: earlier versions halved the precision, and maps had to be multiplied by it.
    """
    with moved_into(where) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs[CELL], file.attrs[MANIFEST] = where.stem, manifest.to_json()
        file["rows"], file["scale"] = rows, np.ones(len(rows))
        chunks = (1, *maps.shape[1:])
        file.create_dataset("maps", data=maps, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True)


def write_map_file(
    path: Path, maps: np.ndarray, rows: Sequence[int] | np.ndarray | None, manifest: MapsManifest, split: FlowerSplit
) -> Path:
    """Write maps (n, S, S) of rows (n,) of a split, sorted by row, as HDF5 or as .npz with the manifest beside it.

    Raises WrongUsage for another ending of the name, and Refusal for maps that are not those of the rows.
    """
    if path.suffix not in (".h5", ".npz"):
        raise WrongUsage(f"{path}: expected a name that ends in .h5 or .npz")
    part = hold_maps(path, maps, None if rows is None else np.asarray(rows), manifest)
    numbers = check_rows(part, split)
    values = read_maps(part, np.arange(len(numbers)))
    if path.suffix == ".h5":
        write_maps(path, numbers, values, manifest)
        return path
    with moved_into(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, rows=numbers, maps=values)
    write_json(path.with_name(f"{path.name}.json"), manifest._asdict())
    return path


def has_maps(where: Path, rows: np.ndarray) -> bool:
    """Whether the maps of some rows (n,) of the cell after which the file is named are on disk, in full precision."""
    try:
        with open_hdf5(where, MAPS, SCHEMA) as file, refuse_damage(where, MAPS.remedy):
            is_of_cell = file.attrs.get(CELL) == where.stem and file.keys() == SCHEMA.datasets.keys()
            return is_of_cell and len(file["maps"]) == len(rows) and np.array_equal(file["rows"][:], rows)
    except Refusal:
        return False


def to_half_precision(maps: np.ndarray) -> np.ndarray:
    """Maps (K, H, W) float32 as float16; a map that would overflow or vanish is divided by a power of two first.

    The order of the pixels stays, except for values that differ by less than half a thousandth of the largest.
    """
    peaks = np.abs(maps).max((1, 2), keepdims=True)
    exponents = np.frexp(np.where(peaks > 0, peaks, 1))[1]
    scales = np.where((exponents > LARGEST) | (exponents < SMALLEST), -exponents, 0)
    return np.ldexp(maps, scales).astype(np.float16)
