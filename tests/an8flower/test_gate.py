"""The gate: what strangers' files may say is refused in one sentence, before it is followed, unpacked or run."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from safetensors.numpy import save_file

from an8flower.errors import Refusal
from an8flower.gate import tables
from an8flower.gate.archives import read_tar
from an8flower.gate.arrays import parse_npy, read_npz
from an8flower.gate.child import walk_in_child
from an8flower.gate.documents import parse_json, read_json, read_text, read_toml
from an8flower.gate.parquet_pages import read_pages
from an8flower.gate.pictures import FORMATS, open_picture, parse_png
from an8flower.gate.regular import FileKind
from an8flower.gate.tables import read_parquet
from an8flower.gate.tensors import read_safetensors
from an8flower.picture import read_picture
from an8flower.sharding import generate_shard, merge
from an8flower.spec import DatasetSpec
from an8flower.store import FlowerStore, verify

from ..conftest import Run

KIND = FileKind("a file of the test", 10_000_000, "make it again")
Craft = Callable[[h5py.File, Path], None]


def refused(call: Callable[[], object], words: str) -> None:
    """A call is refused in one sentence of at most 400 characters, and soon."""
    began = time.perf_counter()
    with pytest.raises(Refusal, match=words) as caught:
        call()
    assert time.perf_counter() - began < 10
    assert len(str(caught.value)) <= 400, str(caught.value)
    assert "\n" not in str(caught.value)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _replace(name: str, make: Callable[[h5py.File, Path], Any]) -> Craft:
    """Put something else in the place of a data set."""

    def craft(file: h5py.File, place: Path) -> None:
        del file[name]
        put = make(file, place)
        if put is not None:
            file[name] = put

    return craft


def _external_storage(file: h5py.File, place: Path) -> None:
    file.create_dataset("test/images", (24, 40, 40, 3), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _external_pipe(file: h5py.File, place: Path) -> None:
    os.mkfifo(place / "pipe")
    file.create_dataset("test/images", (24, 40, 40, 3), "u1", external=[(str(place / "pipe"), 0, 24 * 4800)])


def _virtual(source: str, name: str = "/test/masks") -> Callable[[h5py.File, Path], None]:
    def make(file: h5py.File, place: Path) -> None:
        layout = h5py.VirtualLayout((24, 40, 40), "u1")
        layout[:] = h5py.VirtualSource(source, name, (24, 40, 40), "u1")
        file.create_virtual_dataset("test/masks", layout)

    return make


def _data(name: str, shape: tuple[int, ...], dtype: Any = "u1", **how: Any) -> Callable[[h5py.File, Path], None]:
    def make(file: h5py.File, place: Path) -> None:
        file.create_dataset(name, shape, dtype, **how)

    return make


def _one_group_inside_itself(file: h5py.File, place: Path) -> None:
    file["test/train"] = file["test"]


def _same_split_twice(file: h5py.File, place: Path) -> None:
    del file["train"]
    file["train"] = file["test"]


def _named_type(file: h5py.File, place: Path) -> None:
    file["test/labels"] = np.dtype("i8")


def _wider_factor(file: h5py.File, place: Path) -> None:
    rows = file["test/factors"][:]
    del file["test/factors"]
    wider = [(name, "f16" if name == "view.azimuth" else rows.dtype[name]) for name in rows.dtype.names]
    file["test/factors"] = rows.astype(wider)


def _attribute(name: str, value: Any) -> Craft:
    def craft(file: h5py.File, place: Path) -> None:
        file.attrs[name] = value

    return craft


CRAFTED: dict[str, tuple[Craft, str]] = {
    "external storage": (_replace("test/images", _external_storage), "does not lie in this file"),
    "a pipe as storage": (_replace("test/images", _external_pipe), "does not lie in this file"),
    "external link": (_replace("test/masks", lambda *_: h5py.ExternalLink("/x.h5", "/y")), "masks is a link elsewhere"),
    "soft link": (_replace("test/masks", lambda *_: h5py.SoftLink("/test/parts")), "masks is a link elsewhere"),
    "dangling link": (_replace("test/masks", lambda *_: h5py.SoftLink("/nowhere")), "masks is a link elsewhere"),
    "virtual, of itself": (_replace("test/masks", _virtual(".")), "refers to ., which is none of its shards"),
    "virtual, of another": (_replace("test/masks", _virtual("/etc/other.h5")), "which is none of its shards"),
    "a group in itself": (_one_group_inside_itself, "which this program does not write"),
    "one object twice": (_same_split_twice, "one object has several names"),
    "a group as data": (_replace("test/masks", lambda f, _: f.create_group("test/masks") and None), "another kind"),
    "a type as data": (_replace("test/labels", _named_type), "another kind"),
    "many rows": (_replace("test/labels", _data("test/labels", (10**9,), "i8", chunks=(10**6,))), "would take"),
    "rows that are not there": (
        _replace("test/labels", _data("test/labels", (10**7,), "i8", chunks=(10**5,), compression="gzip")),
        "declares 80.0 MB, and 0 bytes are stored",
    ),
    "a large chunk": (
        _replace("test/masks", _data("test/masks", (24, 40, 40), chunks=(24, 10**4, 10**4), maxshape=(None,) * 3)),
        "would take 2,400.0 MB",
    ),
    "another filter": (_replace("test/masks", _data("test/masks", (24, 40, 40), compression="lzf")), "a filter"),
    "masks of floats": (_replace("test/masks", _data("test/masks", (24, 40, 40), "f4")), "expected uint8"),
    "text as images": (
        _replace("test/images", _data("test/images", (24, 40, 40, 3), h5py.string_dtype())),
        "expected uint8",
    ),
    "a factor of another type": (_wider_factor, "view.azimuth is .*, expected float64"),
    "labels of no dimension": (_replace("test/labels", _data("test/labels", (), "i8")), "of 0 dimensions"),
    "an array as format": (_attribute("format", [1, 2]), "attribute format is no text"),
    "an array as schema": (_attribute("schema", [1, 2]), "attribute schema is no integer"),
    "an array as complete": (_attribute("complete", [True, True]), "attribute complete is no truth"),
    "an array as size": (_attribute("size", [40, 40]), "attribute size is no integer"),
    "a negative size": (_attribute("size", -1), "pictures of -1 px"),
    "numbers as class names": (_attribute("class_names", [1, 2]), "attribute class_names is no texts"),
    "no name": (lambda file, _: file.attrs.pop("name"), "lacks the attribute name"),
    "no digest": (lambda file, _: file.attrs.pop("digest"), "lacks the attribute digest"),
    "shards are no JSON": (_attribute("shards", "{"), "shards is no JSON object"),
    "shards are a list": (_attribute("shards", "[]"), "shards is no JSON object"),
    "a shard elsewhere": (_attribute("shards", '{"../x.h5": ""}'), "does not lie beside it"),
    "a shard by its whole path": (_attribute("shards", '{"/etc/passwd": ""}'), "does not lie beside it"),
    "a spec that is nested": (_attribute("spec", "[" * 5000), "."),
    "a spec of many digits": (_attribute("spec", "9" * 5000), "."),
    "a spec of another size": (
        lambda file, _: file.attrs.modify("spec", json.dumps({**json.loads(file.attrs["spec"]), "size": 1024})),
        "its spec is that of another data set",
    ),
    "another spec's digest": (_attribute("digest", "0" * 64), "its digest is that of another spec"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_hdf5_files_are_refused(small_file: Path, tmp_path: Path, name: str) -> None:
    craft, words = CRAFTED[name]
    path = shutil.copy(small_file, tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        craft(file, tmp_path)
    refused(lambda: FlowerStore(path), words)


def test_an_unfiltered_chunk_among_filtered_ones_is_refused(small_file: Path, tmp_path: Path) -> None:
    """HDF5 would take compressed bytes for the whole chunk, and read beyond their end."""
    path = shutil.copy(small_file, tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["test/masks"].id.write_direct_chunk((0, 0, 0), b"x" * 99, filter_mask=1)
    refused(lambda: FlowerStore(path), "test/masks has a chunk of 99 bytes")


def test_a_heap_without_end_is_refused(small_file: Path, tmp_path: Path) -> None:
    """Zeros where texts of attributes lie: the library would go round for ever."""
    content = bytearray(small_file.read_bytes())
    start = content.index(b"GCOL")
    content[start + 16 : start + 4096] = bytes(4080)
    (tmp_path / "x.h5").write_bytes(content)
    refused(lambda: FlowerStore(tmp_path / "x.h5"), "a text of no length")


def test_damaged_bytes_are_refused_or_noticed(small_file: Path, tmp_path: Path) -> None:
    """Bytes of the head, where the tree of the file lies, and of its end; nothing but a Refusal is raised."""
    whole = small_file.read_bytes()
    places = [*range(0, 2048, 61), *range(2048, len(whole), len(whole) // 40)]
    for place in places:
        (tmp_path / "x.h5").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(walk_lightly(tmp_path / "x.h5"))
        except Refusal as refusal:
            assert len(str(refusal)) <= 400 + len(str(tmp_path))


def walk_lightly(path: Path) -> list[tuple[str, bool]]:
    store = FlowerStore(path)
    for split in store.splits:
        store[split].rows(0, min(len(store[split]), 8))
    return list(verify(path))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels", 99, "test/labels: 0 to 99 came, expected 0 to 5"),
        ("labels", -1, "test/labels: -1 to 5 came, expected 0 to 5"),
        ("masks", 255, "test/masks: 0 to 255 came, expected 0 to 3"),
        ("parts", 200, "test/parts: 0 to 200 came, expected 0 to 7"),
        ("factors", np.nan, "test/factors: petals.size is not finite"),
    ],
)
def test_values_that_cannot_be_are_told(small_file: Path, tmp_path: Path, name: str, value: float, words: str) -> None:
    path = shutil.copy(small_file, tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        rows = file[f"test/{name}"][:]
        if name == "factors":
            rows["petals.size"][3] = value
        else:
            rows[3] = value
        file[f"test/{name}"][:] = rows
    assert (words, False) in list(verify(path))


def test_verify_tells_in_a_sentence_what_kills_or_holds_the_reader(small_file: Path, tmp_path: Path, run: Run) -> None:
    refused(lambda: list(walk_in_child(_die, small_file, "make it again")), r"kills the process \(-11\)")
    refused(lambda: list(walk_in_child(_eat, small_file, "make it again")), "MemoryError")
    assert list(walk_in_child(verify, small_file, "make it again")) == list(verify(small_file))
    assert "ok       test/images" in run("verify", small_file).stdout


def _die(path: Path, alive: Callable[[], None]) -> list[str]:
    os.kill(os.getpid(), 11)
    return []


def _eat(path: Path, alive: Callable[[], None]) -> list[bytearray]:
    return [bytearray(6 * 2**30)]


def test_a_shard_lies_beside_the_merged_file(small_spec: DatasetSpec, tmp_path: Path) -> None:
    spec = small_spec.with_changes(rows=60)
    shards = [generate_shard(spec, number, 2, tmp_path / "shards", workers=1).path for number in (1, 2)]
    assert all(holds for _, holds in verify(merge(spec, shards, tmp_path / "whole.h5").path))
    refused(lambda: merge(spec, shards, tmp_path / "other" / "whole.h5"), "finds its shards beside it")
    assert not list((tmp_path / "other").glob("*.h5"))


# --- every kind of file -----------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> object:
    return read_parquet(path, KIND, pa.schema([("a", pa.int64())]))


READERS: dict[str, Callable[[Path], object]] = {
    "hdf5": FlowerStore,
    "json": lambda path: read_json(path, KIND),
    "npz": lambda path: read_npz(path, KIND),
    "parquet": _read_parquet,
    "picture": read_picture,
    "text": lambda path: read_text(path, KIND),
    "toml": lambda path: read_toml(path, KIND),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    read = READERS[name]
    refused(lambda: read(tmp_path / "pipe"), "a named pipe came")
    refused(lambda: read(tmp_path), "a folder came")
    refused(lambda: read(Path("/dev/zero")), "a device came")
    refused(lambda: read(tmp_path / "none"), "no such file")
    refused(lambda: read(tmp_path / ("n" * 300)), "cannot be read")
    refused(lambda: read(tmp_path / "a\0b"), "cannot be read")


@pytest.mark.parametrize("name", sorted({*READERS} - {"hdf5", "picture"}))
def test_what_is_too_large_is_refused(tmp_path: Path, name: str) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(KIND.largest + 1)
    refused(lambda: READERS[name](tmp_path / "large"), "10.0 MB came")


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 40 + "]" * 40, "9" * 5000, "1e999", "NaN", "Infinity", "{", ""])
def test_json_that_nobody_writes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    refused(lambda: read_json(tmp_path / "x.json", KIND), "not JSON")


def test_json_that_is_written_is_read() -> None:
    document = {"a": [1, -2.5e-7, None, True, "ä\\u2028"], "b": {"c": {}}, "n": 2**63}
    assert parse_json(json.dumps(document)) == document


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a." * 3000 + "a = 1", "a = " + "9" * 5000, "a ="])
def test_toml_that_nobody_writes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    refused(lambda: read_toml(tmp_path / "x.toml", KIND), "not TOML")


# --- arrays and tables ------------------------------------------------------------------------------------------------


def _npz(path: Path, header: dict[str, Any], content: bytes) -> Path:
    text = repr(header).encode() + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content)
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "content"),
    [((2**50,), "<f8", b""), ((3,), "<f8", b"x" * 8), ((1,), "|O", b"x" * 8), ((-1,), "<f8", b""), ((1,), "V0", b"x")],
)
def test_arrays_that_lie_are_refused(tmp_path: Path, shape: Any, dtype: str, content: bytes) -> None:
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    refused(lambda: read_npz(_npz(tmp_path / "a.npz", header, content), KIND), "no arrays, or damaged")


def test_arrays_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (2 * 2**30,)}
    path = _npz(tmp_path / "a.npz", header, bytes(2**20))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 2**31)  # the size that the directory declares
    path.write_bytes(content)
    refused(lambda: read_npz(path, KIND), "would take 2,147.5 MB")


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.eye(3, 4)),
        "c": np.array(["ä"]),
        "d": np.int8(1),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    back = read_npz(tmp_path / "a.npz", KIND)
    assert back.keys() == arrays.keys()
    for name, values in arrays.items():
        assert back[name].dtype == np.asarray(values).dtype
        assert (back[name] == values).all()
    back["a"][0] = 7  # its own memory, and writable


def test_tables_of_other_columns_or_of_too_much_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"b": [1]}), tmp_path / "other.parquet")
    refused(lambda: _read_parquet(tmp_path / "other.parquet"), "other columns than expected")
    many = pa.table({"a": pa.array(np.zeros(2**22 + 1, np.int64))})
    pq.write_table(many, tmp_path / "many.parquet", row_group_size=2**23)
    assert (tmp_path / "many.parquet").stat().st_size < KIND.largest
    refused(lambda: _read_parquet(tmp_path / "many.parquet"), "would take")


REPEATED = {
    "numbers": pa.table({"a": pa.array([[0.5] * 2**18], pa.list_(pa.float32()))}),
    "texts": pa.table({"a": pa.array(["a" * 2**10] * 2**11)}),
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_repeats_one_value_is_refused_by_what_it_unpacks_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = tmp_path / "a.parquet", REPEATED[name]
    pq.write_table(table, path)
    assert read_parquet(path, KIND, table.schema).equals(table)
    monkeypatch.setattr(tables, "UNPACKED", 2**20)
    assert pq.read_metadata(path).row_group(0).total_byte_size < 2**14
    refused(lambda: read_parquet(path, KIND, table.schema), "reading it would take 2.1 MB")


@settings(max_examples=25)
@given(
    st.lists(st.none() | st.lists(st.none() | st.sampled_from([0.5, 1.0, 2.0]), max_size=4), max_size=20),
    st.sampled_from(["1.0", "2.0"]),
    st.booleans(),
    st.integers(1, 20),
)
def test_pages_state_what_pyarrow_finds_in_the_head_of_a_whole_file(
    rows: list[Any], version: str, repeats: bool, group: int
) -> None:
    texts = [None if row is None else f"text of {len(row)}" for row in rows]
    table = pa.table({"a": pa.array(rows, pa.list_(pa.float32())), "b": pa.array(texts, pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path, row_group_size=group, data_page_version=version, use_dictionary=repeats)
        assert read_parquet(path, KIND, table.schema).equals(table)
        pages, head = list(read_pages(path)), pq.read_metadata(path)
    columns = [head.row_group(i).column(j) for i in range(head.num_row_groups) for j in range(2)]
    values = sum(column.num_values for column in columns)
    kept_once = 5 * len(columns) if repeats else 0  # at most, in pages of their own
    assert values <= sum(page.values for page in pages) <= values + kept_once
    unpacked = sum(column.total_uncompressed_size for column in columns if column.num_values)
    assert 0 <= unpacked - sum(page.unpacked for page in pages) <= 200 * len(pages)  # the heads of the pages


def test_heads_of_pages_that_are_damaged_are_refused(tmp_path: Path) -> None:
    """Whatever single byte of the heads is another one: a refusal, or the bounds hold; no crash and no hang."""
    path, table = tmp_path / "a.parquet", pa.table({"a": pa.array([[0.5, 1.0], None], pa.list_(pa.float32()))})
    pq.write_table(table, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            assert all(page.unpacked >= 0 and page.values >= 0 for page in read_pages(path))


# --- pictures ---------------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [EPS, b"%PDF-1.4\n", b"P6 1 1 255\nabc", b"<svg/>", b"", b"\x89PNG\r\n\x1a\n"])
def test_no_other_program_reads_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """A `gs` on the path would leave a mark if Pillow handed it a picture."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    (tmp_path / "cat.png").write_bytes(content)
    refused(lambda: read_picture(tmp_path / "cat.png"), "cannot be read as a picture")
    assert not (tmp_path / "mark").exists()


def test_no_other_format_of_pillow_is_read_whatever_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All formats that Pillow writes; the program that it would call for one of them leaves a mark."""
    program, mark = tmp_path / "bin" / "gs", tmp_path / "mark"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Ghostscript is, which Pillow remembers
    Image.init()
    written = set()
    for name in sorted(Image.SAVE.keys() - {*FORMATS, "MPO"}):  # which is JPEG with more behind it
        with suppress(Exception):  # it lacks a library here, or wants another mode
            Image.new("RGB", (8, 8)).save(tmp_path / name, format=name)
            written.add(name)
    assert {"EPS", "PDF", "PPM"} <= written
    for name in written:
        (tmp_path / name).replace(tmp_path / "cat.png")
        refused(lambda: read_picture(tmp_path / "cat.png"), "cannot be read as a picture")
        assert not mark.exists(), name
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png", format="EPS")
    with suppress(OSError), Image.open(tmp_path / "cat.png") as picture:
        picture.load()
    assert mark.exists()  # by Pillow alone


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 13_000, 13_000, 16, 0, 0, 0, 0)
    rows = zlib.compress(bytes(26_001) * 10)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    refused(lambda: read_picture(tmp_path / "bomb.png"), "13000 x 13000 pixels came, which would take")


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "two.gif").getpixel((0, 0)) == (255, 0, 0)
    assert open_picture(tmp_path / "two.gif").size == (4, 4)


def _tar_of(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def test_archives_hold_plain_files_alone(tmp_path: Path) -> None:
    plain, link = tarfile.TarInfo("a.txt"), tarfile.TarInfo("b.txt")
    plain.size, link.type, link.linkname = 3, tarfile.SYMTYPE, "/etc/passwd"
    kind = FileKind("an archive", 2**20, "make it again")
    assert read_tar(_tar_of(tmp_path / "good.tar", plain, content=b"abc"), kind) == {"a.txt": b"abc"}
    with pytest.raises(
        Refusal, match=r"links.tar: no archive, or damaged \(b.txt is no plain file of it\); make it again"
    ):
        read_tar(_tar_of(tmp_path / "links.tar", link), kind)
    whole = (tmp_path / "good.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:513])
    with pytest.raises(Refusal, match="cut.tar: no archive, or damaged"):
        read_tar(tmp_path / "cut.tar", kind)
    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(Refusal, match="packed.tar: no archive, or damaged"):
        read_tar(tmp_path / "packed.tar", kind)


@pytest.mark.parametrize("content", [b"", b"P5 1 1 255 a", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_png_are_refused(content: bytes) -> None:
    with pytest.raises(Refusal, match="x.parquet: holds no picture, or a damaged one"):
        parse_png(content, Path("x.parquet"))


def test_png_of_other_modes_are_refused() -> None:
    content = io.BytesIO()
    Image.new("RGBA", (3, 2)).save(content, "PNG")
    with pytest.raises(Refusal, match="mode RGBA came, expected L or RGB"):
        parse_png(content.getvalue(), Path("x.parquet"))


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order'"]
)
def test_bytes_that_are_no_array_are_refused(content: bytes) -> None:
    with pytest.raises(Refusal, match="x.tar: no array, or damaged"):
        parse_npy(content, Path("x.tar"))


def test_safetensors_that_are_damaged_are_refused(tmp_path: Path) -> None:
    kind = FileKind("maps", 2**20, "write them again")
    save_file({"a": np.arange(3)}, tmp_path / "good.safetensors", {"b": "c"})
    metadata, arrays = read_safetensors(tmp_path / "good.safetensors", kind)
    assert (metadata, arrays["a"].tolist()) == ({"b": "c"}, [0, 1, 2])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:-5])
    with pytest.raises(Refusal, match="cut.safetensors: not a safetensors file, or damaged .*; write them again"):
        read_safetensors(tmp_path / "cut.safetensors", kind)
