"""HDF5 files whose attributes, data sets, groups and links are replaced by other valid ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator
ODD_ATTRIBUTES: tuple[Any, ...] = (
    *(h5py.Empty("f"), 0, -1, 2**63 - 1, float("nan"), True, "", "word", b"\xff\xfe", np.zeros(3), np.zeros((0,))),
    *(np.array(["a", "b"], dtype=h5py.string_dtype()), np.array([b"\xff"]), "null", "[]", "{}", '{"a": 1}'),
    *("[" * 3000 + "]" * 3000, '{"rows": 1' + "0" * 5000 + "}", "n" * 60_000, "../outside", np.float64(16.5)),
)


def change(path: Path, rng: Rng) -> str:
    """Change one or two things in a file through the library, so that it stays a valid HDF5 file."""
    deeds = (_change_attribute, _change_attribute, _replace_data, _replace_data, _replace_link, _change_values)
    words = []
    with h5py.File(path, "r+") as file:
        for _ in range(rng.integers(1, 3)):
            deed = deeds[rng.integers(len(deeds))]
            try:
                places: list[str] = ["/"]
                file.visit(places.append)
                words.append(deed(file, places, rng))
            except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:  # the library will not do it
                words.append(f"{deed.__name__} was refused ({error})")
    return "; ".join(words)


def _change_attribute(file: h5py.File, places: list[str], rng: Rng) -> str:
    owner = file[places[rng.integers(len(places))] if rng.random() < 0.3 else "/"]
    names = sorted(owner.attrs) or ["new"]
    name = names[rng.integers(len(names))]
    if rng.random() < 0.15 and name in owner.attrs:
        del owner.attrs[name]
        return f"no attribute {name} of {owner.name}"
    i = int(rng.integers(len(ODD_ATTRIBUTES)))
    owner.attrs[name] = ODD_ATTRIBUTES[i]
    return f"attribute {name} of {owner.name} = {str(ODD_ATTRIBUTES[i])[:20]}"


def _replace_data(file: h5py.File, places: list[str], rng: Rng) -> str:
    """Put another data set under the name of one, with its attributes."""
    names = [place for place in places if isinstance(file[place], h5py.Dataset)]
    if not names:
        return "nothing left"
    name = names[rng.integers(len(names))]
    shape, dtype, attributes = file[name].shape, file[name].dtype, dict(file[name].attrs)
    odd: dict[str, Callable[[], Any]] = {
        "no": lambda: None,
        "scalar": lambda: file.create_dataset(name, (), "i8"),
        "null": lambda: file.create_dataset(name, data=h5py.Empty("f")),
        "no rows": lambda: file.create_dataset(name, (0, *shape[1:]), dtype),
        "a row more": lambda: file.create_dataset(name, (shape[0] + 1, *shape[1:]), dtype),
        "an axis more": lambda: file.create_dataset(name, (*shape, 1), dtype),
        "float": lambda: file.create_dataset(name, shape, "f4", fillvalue=0.5),
        "texts": lambda: file.create_dataset(name, shape, h5py.string_dtype()),
        "references": lambda: file.create_dataset(name, shape, h5py.ref_dtype),
        "lists": lambda: file.create_dataset(name, shape, h5py.vlen_dtype(np.uint8)),
        "compound": lambda: file.create_dataset(name, shape, [("a", "f8"), ("b", "i4", (2,))]),
        "enum": lambda: file.create_dataset(name, shape, h5py.enum_dtype({"a": 0, "b": 7})),
        "enormous": lambda: file.create_dataset(name, (10**9, *shape[1:]), dtype, chunks=(32, *shape[1:])),
        "absurd chunks": lambda: file.create_dataset(name, shape, dtype, chunks=(1,) * len(shape), compression="lzf"),
        "external": lambda: file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]),
        "group": lambda: file.create_group(name),
        "type": lambda: file.__setitem__(name, np.dtype("f8")),
        "mirror": lambda: _mirror(file, name, shape, dtype),
    }
    kind = list(odd)[rng.integers(len(odd))]
    del file[name]
    odd[kind]()
    if name in file and rng.random() < 0.8:
        file[name].attrs.update(attributes)
    return f"{name}: {kind}"


def _mirror(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A virtual data set that maps to itself."""
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(".", name, shape, dtype)
    file.create_virtual_dataset(name, layout)


def _replace_link(file: h5py.File, places: list[str], rng: Rng) -> str:
    """Put a link under a name that is there, or a new one beside it."""
    name = places[rng.integers(len(places))].strip("/") or "more"
    kind = ("soft", "dangling", "external", "cycle", "new group", "odd name")[rng.integers(6)]
    target = name if kind not in ("new group", "odd name") else f"{name}{'-more' if kind == 'new group' else os.sep}é"
    if target in file:
        del file[target]
    if kind in ("new group", "odd name"):
        file.require_group(target)
    elif kind == "cycle":
        file[target] = file["/"]
    else:
        links = {"soft": h5py.SoftLink("/test"), "dangling": h5py.SoftLink("/nowhere")}
        file[target] = links.get(kind, h5py.ExternalLink("elsewhere.hdf5", "/"))
    return f"{target}: {kind} link"


def _change_values(file: h5py.File, places: list[str], rng: Rng) -> str:
    """Write other values into a data set."""
    names = [place for place in places if isinstance(file[place], h5py.Dataset) and file[place].dtype.kind in "iu"]
    if not names:
        return "nothing left"
    data = file[names[rng.integers(len(names))]]
    value = (99, 255, 7)[rng.integers(3)]
    if data.shape and len(data) and not data.is_virtual:
        data[int(rng.integers(min(len(data), 32)))] = value
    return f"a row of {data.name} is {value}"
