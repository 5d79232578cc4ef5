"""Raw saliency maps on disk, one HDF5 file a cell: `rows` (n,) int64, `scale` (n,), `maps` (n, H, W) float16."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.hdf5 import Schema, open_hdf5, refuse_damage
from an8flower.gate.regular import FileKind

LARGEST, SMALLEST = 15, -4  # powers of two between which a map's largest value needs no scale

MAPS = FileKind("the maps of a cell", 2**40, "run the same command again")
CELL = "cell"  # the attribute that says of which cell the maps are
SCHEMA = Schema({"rows": ("int64", 1), "scale": ("float64", 1), "maps": ("float16", 3)}, attributes={CELL: "text"})


def maps_path(folder: Path, cell: str) -> Path:
    """The path of the maps of a cell in the folder of a run."""
    return folder / "maps" / f"{cell}.h5"


def write_maps(where: Path, rows: np.ndarray, maps: np.ndarray) -> None:
    """Write maps (n, H, W) float32 of rows (n,) in half precision.

    What is written, times `scale` (n,), which is a power of two for each map, is what the method returned.
    """
    peaks = np.abs(maps).max((1, 2))
    scale = np.ldexp(1.0, np.frexp(np.where(peaks > 0, peaks, 1))[1])  # without it half precision loses small maps
    with moved_into(where) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs[CELL] = where.stem
        file["rows"], file["scale"] = rows, scale
        small = (maps / scale[:, None, None]).astype(np.float16)
        file.create_dataset("maps", data=small, compression="gzip", compression_opts=1, shuffle=True)


def has_maps(where: Path, rows: np.ndarray) -> bool:
    """Whether the maps of some rows (n,) of the cell after which the file is named are on disk, and can be opened."""
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
