"""HDF5 files that are valid and mean harm: what each function makes of a whole file has to be refused."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Craft = Callable[[h5py.File], None]
CASES: dict[str, Craft] = {}
STRUCTURE: set[str] = set()  # the cases that every command has to refuse, and not `verify` alone
MANY = 10**9  # rows that nobody has written
BLOCK = 2**20
CHUNK_BYTES = 1_800 * BLOCK  # what one small chunk unpacks to
SECRET = "secret.txt"  # a file beside the data set that is nobody's business


def case(craft: Craft) -> Craft:
    """Register a function that turns a whole file, open for writing, into one that has to be refused."""
    CASES[craft.__name__] = craft
    return craft


def structure(craft: Craft) -> Craft:
    """Register a case whose links or storage reach beyond what a file of ours has."""
    STRUCTURE.add(craft.__name__)
    return case(craft)


def craft_file(name: str, path: Path) -> None:
    """Turn the whole file at a path into the one of a case."""
    path.with_name(SECRET).write_bytes(b"secret" * 4000)
    with h5py.File(path, "r+") as file:
        CASES[name](file)


# Links


@structure
def external_link_to_a_split(file: h5py.File) -> None:
    _copy_elsewhere(file)
    del file["val"]
    file["val"] = h5py.ExternalLink("elsewhere.hdf5", "/val")


@structure
def external_link_to_a_data_set(file: h5py.File) -> None:
    _copy_elsewhere(file)
    del file["test/images"]
    file["test/images"] = h5py.ExternalLink("elsewhere.hdf5", "/test/images")


@structure
def external_link_to_nowhere(file: h5py.File) -> None:
    del file["test/images"]
    file["test/images"] = h5py.ExternalLink("nowhere.hdf5", "/test/images")


@structure
def external_link_to_a_named_pipe(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("pipe"))
    file["val/more"] = h5py.ExternalLink("pipe", "/")


@structure
def soft_link_to_nowhere(file: h5py.File) -> None:
    del file["test/masks"]
    file["test/masks"] = h5py.SoftLink("/nowhere")


@structure
def soft_link_to_another_split(file: h5py.File) -> None:
    del file["val"]
    file["val"] = h5py.SoftLink("/test")


@structure
def soft_links_in_a_circle(file: h5py.File) -> None:
    del file["val"]
    file["val"] = h5py.SoftLink("/more")
    file["more"] = h5py.SoftLink("/val")


@structure
def hard_link_to_the_root(file: h5py.File) -> None:
    file["val/again"] = file["/"]


@structure
def root_as_a_split(file: h5py.File) -> None:
    del file["val"]
    file["val"] = file["/"]


# Where the bytes lie


@structure
def external_storage(file: h5py.File) -> None:
    _store_outside(file, SECRET)


@structure
def external_storage_by_its_whole_path(file: h5py.File) -> None:
    _store_outside(file, str(Path(file.filename).resolve().with_name(SECRET)))


@structure
def external_storage_on_a_named_pipe(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("pipe"))
    _store_outside(file, "pipe")


@structure
def external_storage_that_never_ends(file: h5py.File) -> None:
    _store_outside(file, "/dev/zero")


@structure
def external_storage_nowhere(file: h5py.File) -> None:
    _store_outside(file, "nowhere.bin")


@structure
def virtual_on_itself(file: h5py.File) -> None:
    _map(file, ".", "test/images")


@structure
def virtual_on_another_file(file: h5py.File) -> None:
    _copy_elsewhere(file)
    _map(file, "elsewhere.hdf5", "test/images")


@structure
def virtual_on_a_named_pipe(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("pipe"))
    _map(file, "pipe", "test/images")


# Sizes, chunks and filters


@case
def rows_that_nobody_wrote(file: h5py.File) -> None:
    for name in list(file["test"]):
        _replace(file, f"test/{name}", rows=MANY)


@case
def labels_of_more_rows(file: h5py.File) -> None:
    _replace(file, "test/labels", rows=MANY)


@case
def chunk_that_unpacks_to_gigabytes(file: h5py.File) -> None:
    name, rows = "test/images", CHUNK_BYTES // (16 * 16 * 3)
    _replace(file, name, chunks=(rows, 16, 16, 3), compression="gzip")
    file[name].id.write_direct_chunk((0, 0, 0, 0), deflate_zeros(rows * 16 * 16 * 3))


@case
def chunks_of_gigabytes(file: h5py.File) -> None:
    _replace(file, "test/images", chunks=(4_000_000, 16, 16, 3))


@case
def chunk_of_one_pixel_each(file: h5py.File) -> None:
    _replace(file, "test/images", chunks=(1, 1, 1, 1))


@case
def size_that_is_not_the_pictures(file: h5py.File) -> None:
    file.attrs["size"] = 1024


@case
def size_below_zero(file: h5py.File) -> None:
    file.attrs["size"] = -1


@case
def spec_of_another_size(file: h5py.File) -> None:
    _change_spec(file, size=1024)


@case
def spec_of_thousands_of_classes(file: h5py.File) -> None:
    _change_spec(file, classes={"petals.colour": ["red", "blue"] * 1500})


# Wrong kinds


@case
def pictures_of_floats(file: h5py.File) -> None:
    _replace(file, "test/images", dtype="f4")


@case
def pictures_of_texts(file: h5py.File) -> None:
    _replace(file, "test/images", dtype=h5py.string_dtype())


@case
def labels_of_floats(file: h5py.File) -> None:
    _replace(file, "test/labels", dtype="f8")


@case
def labels_of_lists(file: h5py.File) -> None:
    _replace(file, "test/labels", dtype=h5py.vlen_dtype(np.int64))


@case
def labels_of_one_number(file: h5py.File) -> None:
    del file["test/labels"]
    file["test/labels"] = 1


@case
def labels_of_nothing(file: h5py.File) -> None:
    del file["test/labels"]
    file["test/labels"] = h5py.Empty("i8")


@case
def labels_that_are_a_group(file: h5py.File) -> None:
    del file["test/labels"]
    file.create_group("test/labels")


@case
def labels_that_are_a_type(file: h5py.File) -> None:
    del file["test/labels"]
    file["test/labels"] = np.dtype("i8")


@case
def split_that_is_a_data_set(file: h5py.File) -> None:
    del file["val"]
    file["val"] = np.zeros(3)


@case
def factors_that_are_numbers(file: h5py.File) -> None:
    rows = len(file["test/labels"])
    del file["test/factors"]
    file["test/factors"] = np.zeros(rows)


@case
def more_in_the_file(file: h5py.File) -> None:
    file["other"] = np.zeros(3)


# Values that no file of ours has, with the right checksums


@case
def labels_beyond_the_classes(file: h5py.File) -> None:
    _overwrite(file, "test/labels", 99)


@case
def labels_below_zero(file: h5py.File) -> None:
    _overwrite(file, "test/labels", -1)


@case
def masks_of_seven(file: h5py.File) -> None:
    _overwrite(file, "test/masks", 7)


@case
def parts_that_are_not_known(file: h5py.File) -> None:
    _overwrite(file, "test/parts", 200)


# Attributes


def _attribute_cases() -> None:
    """Register a case for each odd value of each attribute of the root."""
    array, deep = np.array(["a", "b"], dtype=h5py.string_dtype()), "[" * 100_000 + "]" * 100_000
    odd = {
        "format": {"an_array": array, "bytes": b"\xff"},
        "schema": {"an_array": np.ones(2), "a_text": "1"},
        "complete": {"an_array": np.ones(2, bool), "missing": None},
        "size": {"an_array": np.full(2, 16), "a_text": "word", "not_a_number": np.nan, "missing": None},
        "name": {"missing": None, "bytes": b"\xff\xfe", "a_path": "../../outside", "long": "n" * 300},
        "class_names": {"missing": None, "one_text": "word", "too_many": np.array(["a"] * 5000, dtype="S1")},
        "part_names": {"missing": None, "a_number": 7},
        "digest": {"missing": None, "a_number": 7, "a_path": "../../outside"},
        "spec": {"no_json": "word", "a_list": "[]", "deep": deep, "digits": '{"rows": 1' + "0" * 5000 + "}"},
        "shards": {"no_json": "word", "a_list": "[]", "null": "null", "outside": '{"../../etc/passwd": "0"}'},
    }
    odd["shards"] |= {"long_name": json.dumps({"n" * 300: "0"}), "deep": deep, "of_numbers": '{"a": 1}'}
    for attribute, values in odd.items():
        for kind, value in values.items():
            CASES[f"{attribute}_{kind}"] = _with_attribute(attribute, value)


def _with_attribute(name: str, value: object) -> Craft:
    def craft(file: h5py.File) -> None:
        del file.attrs[name]
        if isinstance(value, str) and len(value) > 60_000:  # more than an attribute takes in the usual format
            value_in_pieces(file, name, value)
        elif value is not None:
            file.attrs[name] = value

    return lambda file: craft(file) if name in file.attrs else file.attrs.create(name, value)


def value_in_pieces(file: h5py.File, name: str, value: str) -> None:
    """An attribute of any length: as a text of variable length, whose bytes lie elsewhere in the file."""
    file.attrs.create(name, value, dtype=h5py.string_dtype())


_attribute_cases()


# Means


def deflate_zeros(length: int) -> bytes:
    """A zlib stream of that many zeros, made of repeated blocks, since compressing gigabytes takes long."""
    whole, rest = divmod(length, BLOCK)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-15)
    last = end.compress(bytes(rest)) + end.flush()
    return b"\x78\x9c" + block * whole + last + struct.pack(">HH", length % 65521, 1)  # the checksum of zeros


def _copy_elsewhere(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("elsewhere.hdf5"), "w") as other:
        for split in list(file):
            file.copy(split, other)


def _store_outside(file: h5py.File, place: str) -> None:
    data = file["test/images"]
    attributes, shape, dtype = dict(data.attrs), data.shape, data.dtype
    del file["test/images"]
    file.create_dataset("test/images", shape, dtype, external=[(place, 0, h5py.h5f.UNLIMITED)])
    file["test/images"].attrs.update(attributes)


def _map(file: h5py.File, source: str, name: str) -> None:
    data = file[name]
    attributes, shape, dtype = dict(data.attrs), data.shape, data.dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(source, name, shape, dtype)
    del file[name]
    file.create_virtual_dataset(name, layout).attrs.update(attributes)


def _replace(file: h5py.File, name: str, rows: int | None = None, dtype: object = None, **options: object) -> None:
    """Another data set under a name, with the old attributes, and zeros in it."""
    old = file[name]
    attributes, tail, kind = dict(old.attrs), old.shape[1:], dtype or old.dtype
    rows = old.shape[0] if rows is None else rows
    del file[name]
    usual = {"chunks": (32, *tail), "maxshape": (None, *tail)}
    file.create_dataset(name, (rows, *tail), kind, **{**usual, **options})
    file[name].attrs.update(attributes)


def _overwrite(file: h5py.File, name: str, value: int) -> None:
    file[name][...] = value
    file[name].attrs["sha256"] = hashlib.sha256(np.ascontiguousarray(file[name][:]).data).hexdigest()


def _change_spec(file: h5py.File, **changes: object) -> None:
    for name in ("spec", "canonical"):
        file.attrs[name] = json.dumps({**json.loads(file.attrs[name]), **changes})
