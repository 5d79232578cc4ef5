"""Files that mean harm, by hand: refused in one sentence, soon, with little memory, and without a trace elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.warm import Outcome

from . import crafted_hdf5
from .crafted_hdf5 import craft_file, deflate_zeros
from .fuzz import DIFFERS, Fuzzer
from .judge import fault_of
from .kinds import AGAIN, EXPLAIN, KINDS, REPORT, SCORE, Command, Kind
from .mutate_arrays import with_png_size

KIND = {kind.name: kind for kind in KINDS}
DATA, MODEL, SUMMARY, PICTURE, LABELS, PLAN, SPEC, PAIR = (
    KIND[name] for name in ("data", "model", "summary", "picture", "labels", "plan", "spec", "pair")
)
MUCH = 2 * 2**30  # bytes of memory: half a gigabyte is the server's, and what a file declares is not believed
DEEP = 100_000
EPS = """%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 40 40
%%EndComments
showpage
"""


def usual(cases: Iterable[str], *names: str) -> list[object]:
    """The cases for `make test`, and those that `make test-slow` adds."""
    return [case if case in names else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def _refuse(outcome: Outcome, words: str) -> None:
    _end_well(outcome, words)
    assert outcome.status, f"{words}: accepted"


def _end_well(outcome: Outcome, words: str) -> None:
    assert fault_of(outcome) is None, f"{words}: {fault_of(outcome)}"
    assert outcome.peak < MUCH, f"{words}: {outcome.peak / 2**30:.1f} GiB"


# HDF5


@pytest.mark.parametrize("name", crafted_hdf5.CASES)
def test_a_crafted_data_set_is_refused(fuzzer: Fuzzer, name: str) -> None:
    _craft(fuzzer, name)
    _refuse(fuzzer.server.run(["verify", "data.hdf5"], fuzzer.place), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", crafted_hdf5.CASES)
def test_a_crafted_data_set_harms_no_command(fuzzer: Fuzzer, name: str) -> None:
    """Links and storage are refused by all; a value that only a checksum tells may be read, in an orderly way."""
    for command in DATA.commands[1:]:
        _craft(fuzzer, name)
        outcome = fuzzer.server.run(command.typed("data.hdf5"), fuzzer.place)
        (_refuse if name in crafted_hdf5.STRUCTURE else _end_well)(outcome, command.words)


def _craft(fuzzer: Fuzzer, name: str) -> None:
    fuzzer.lay_out(DATA)
    craft_file(name, fuzzer.place / "data.hdf5")


def test_a_merged_file_takes_no_shards_but_those_beside_it(fuzzer: Fuzzer) -> None:
    merged = KIND["merged"]
    fuzzer.lay_out(merged)
    (fuzzer.place / "in").mkdir()
    shutil.move(fuzzer.place / "merged.hdf5", fuzzer.place / "in" / "merged.hdf5")
    _refuse(fuzzer.server.run(["verify", "in/merged.hdf5"], fuzzer.place), "shards elsewhere")


# What is no regular file


@pytest.mark.parametrize("name", usual(KIND, "data", "model", "summary", "spec", "labels", "picture"))
def test_a_named_pipe_is_refused_at_once(fuzzer: Fuzzer, name: str) -> None:
    _put_in_place(fuzzer, KIND[name], os.mkfifo)


@pytest.mark.slow
@pytest.mark.parametrize("name", KIND)
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda place: place.symlink_to("/dev/zero")])
def test_what_is_no_file_or_an_empty_one_is_refused_at_once(
    fuzzer: Fuzzer, name: str, make: Callable[[Path], None]
) -> None:
    _put_in_place(fuzzer, KIND[name], make)


def _put_in_place(fuzzer: Fuzzer, kind: Kind, make: Callable[[Path], None]) -> None:
    """Have the first command of a kind read something that is no whole file in the place of one."""
    file, command = fuzzer.files(kind)[-1], kind.commands[0]
    fuzzer.lay_out(kind)
    (fuzzer.place / file).unlink()
    make(fuzzer.place / file)
    _end_well(fuzzer.server.run(command.typed(file), fuzzer.place, seconds=10), command.words)


# Weights


CARDS = {
    "size_null": ("size", "null"),
    "size_word": ("size", '"word"'),
    "size_below_zero": ("size", "-1"),
    "size_million": ("size", "1000000"),
    "class_names_nested": ("class_names", '[["a"], {"b": 1}]'),
    "class_names_many": ("class_names", json.dumps(["a"] * 2_000_000)),
    "seed_long": ("seed", "1" + "0" * 400),
    "seed_digits": ("seed", "1" + "0" * 5000),
    "seed_path": ("seed", '"/../../outside/name"'),
    "accuracy_word": ("accuracy", '"word"'),
    "data_list": ("data", "[]"),
    "versions_deep": ("versions", "[" * DEEP + "]" * DEEP),
    "arch_module": ("arch", '"os:abort"'),
    "arch_number": ("arch", "7"),
}


@pytest.mark.parametrize("name", CARDS)
def test_an_odd_card_is_refused(fuzzer: Fuzzer, name: str) -> None:
    fuzzer.lay_out(MODEL)
    key, value = CARDS[name]
    _edit_header(fuzzer.place / "model.safetensors", lambda header: header["__metadata__"].update({key: value}))
    before = _names(fuzzer.place.parent)
    score = f"{SCORE} --data data.hdf5 --model model.safetensors"  # writes files that are named by the card
    words = score if key == "seed" else f"{EXPLAIN} --image rgb.png"
    _refuse(fuzzer.server.run(words.split(), fuzzer.place), name)
    assert {path for path in _names(fuzzer.place.parent) - before if not path.startswith("mutant")} == set()


def test_other_weights_under_the_same_card_are_refused(fuzzer: Fuzzer) -> None:
    fuzzer.lay_out(MODEL)
    path = fuzzer.place / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4000:-3000] = bytes(1000)
    path.write_bytes(content)
    fault = fuzzer.judge(MODEL, MODEL.commands[0], "model.safetensors")
    assert fault != DIFFERS
    assert fault is None


def test_a_header_longer_than_its_file_is_refused(fuzzer: Fuzzer) -> None:
    for length in (2**63 - 1, 2**40, 99_999_999):
        fuzzer.lay_out(MODEL)
        path = fuzzer.place / "model.safetensors"
        path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
        _refuse(fuzzer.server.run(MODEL.commands[0].typed("model.safetensors"), fuzzer.place), str(length))


def _edit_header(path: Path, edit: Callable[[dict], None]) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# Pictures


def png_of_zeros(width: int, height: int, depth: int = 8) -> bytes:
    """A black grey PNG of a few hundred kilobytes, whatever its size."""
    small = io.BytesIO()
    Image.new("L", (1, 1)).save(small, "PNG")
    head = with_png_size(small.getvalue(), width, height)
    header = head[12:24] + bytes([depth]) + head[25:29]
    row = 1 + width * depth // 8
    return (
        head[:12]
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IDAT", deflate_zeros(row * height)), (b"IEND", b""))
        )
    )


BOMBS = {
    "grey": lambda: png_of_zeros(13_340, 13_340),
    "sixteen_bits": lambda: png_of_zeros(13_340, 13_340, 16),
    "beyond_pillow": lambda: png_of_zeros(30_000, 30_000),
    "wide": lambda: png_of_zeros(170_000_000, 1),
    "header_alone": lambda: with_png_size(png_of_zeros(4, 4), 2**31 - 1, 2**31 - 1),
    "bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 13_000, 13_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif": lambda: b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b"\x2c" + bytes(9) + b";",
}  # fmt: skip


@pytest.mark.parametrize("name", usual(BOMBS, "sixteen_bits", "wide"))
def test_a_picture_that_unpacks_to_gigabytes_takes_none(fuzzer: Fuzzer, name: str) -> None:
    """Whether a black picture of 178 million pixels is explained or refused: little memory, and one sentence."""
    fuzzer.lay_out(PICTURE)
    (fuzzer.place / "rgb.png").write_bytes(BOMBS[name]())
    _end_well(fuzzer.server.run(PICTURE.commands[0].typed("rgb.png"), fuzzer.place), name)
    fuzzer.lay_out(PAIR)
    (fuzzer.place / "images/red/0.png").write_bytes(BOMBS[name]())
    _refuse(fuzzer.server.run(PAIR.commands[1].typed(""), fuzzer.place), name)


@pytest.mark.parametrize(
    "name", usual(["rgb.png", "turned.jpg", "packed.tiff", "web.webp", "plain.bmp", "x.eps"], "rgb.png")
)
def test_no_program_runs_on_a_picture(fuzzer: Fuzzer, name: str) -> None:
    """PostScript under any name, with a Ghostscript on the path that leaves a mark."""
    fuzzer.lay_out(PICTURE)
    mark = fuzzer.place / "mark"
    environment = _fake_ghostscript(fuzzer.place / "bin", mark)
    (fuzzer.place / name).write_text(EPS + "{} loop\n")
    _refuse(fuzzer.server.run(PICTURE.commands[0].typed(name), fuzzer.place, 10, environment), name)
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_no_program_runs_on_a_picture_that_is_imported(fuzzer: Fuzzer, folder: str) -> None:
    fuzzer.lay_out(PAIR)
    mark = fuzzer.place / "mark"
    environment = _fake_ghostscript(fuzzer.place / "bin", mark)
    (fuzzer.place / folder / "red/0.png").write_text(EPS)
    for command in PAIR.commands:
        _refuse(fuzzer.server.run(command.typed(""), fuzzer.place, 10, environment), command.words)
    assert not mark.exists()


def _fake_ghostscript(folder: Path, mark: Path) -> dict[str, str]:
    """A path with programs that leave a mark, under every name that Pillow looks for."""
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "djpeg", "xdg-open", "display"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


# The folder of a run


def _run_folder(fuzzer: Fuzzer) -> Path:
    fuzzer.lay_out(SUMMARY)
    return fuzzer.place / "runs" / "tiny"


COSTS = {
    "null": '{"a": null}',
    "nan": '{"a": NaN}',
    "word": '{"a": "word"}',
    "list": "[]",
    "deep": '{"a":' * DEEP + "1" + "}" * DEEP,
    "huge": '{"a": 1' + "0" * 400 + "}",
    "digits": '{"a": 1' + "0" * 5000 + "}",
    "nothing": "",
    "bytes": "\x00\x00",
}


@pytest.mark.parametrize("name", usual(COSTS, "null", "deep"))
def test_bookkeeping_never_stops_a_run(fuzzer: Fuzzer, name: str) -> None:
    """`costs.json` is not needed: whatever stands in it, and also under the keys of real cells, the run goes on."""
    folder = _run_folder(fuzzer)
    cells = json.loads((folder / "costs.json").read_text())
    (folder / "costs.json").write_text(COSTS[name].replace('"a"', json.dumps(next(iter(cells)))))
    outcome = fuzzer.server.run(AGAIN.typed(""), fuzzer.place)
    _end_well(outcome, name)
    assert outcome.status == 0, outcome.stderr


SUMMARIES: dict[str, Callable[[dict], object]] = {
    "huge_number": lambda summary: _set_everywhere(summary, "mean", 10**400),
    "long_name_of_a_file": lambda summary: _set_everywhere(summary, "file", "n" * 300),
    "file_outside": lambda summary: _set_everywhere(summary, "file", "../../../secret.txt"),
    "infinite": lambda summary: _set_everywhere(summary, "low", float("inf")),
    "texts_for_numbers": lambda summary: _set_everywhere(summary, "n", "word"),
    "no_studies": lambda summary: summary.update(studies=None),
    "studies_of_numbers": lambda summary: summary.update(studies=[1, 2]),
    "long_name": lambda summary: summary.update(name="n" * 100_000),
}


@pytest.mark.parametrize("name", usual(SUMMARIES, "huge_number", "long_name_of_a_file", "file_outside"))
def test_an_odd_summary_gives_a_page_or_a_sentence(fuzzer: Fuzzer, name: str) -> None:
    folder = _run_folder(fuzzer)
    (fuzzer.place / "secret.txt").write_text("secret" * 100)
    summary = json.loads((folder / "summary.json").read_text())
    SUMMARIES[name](summary)
    (folder / "summary.json").write_text(json.dumps(summary))
    _end_well(fuzzer.server.run(REPORT.typed(""), fuzzer.place), name)
    assert "secretsecret" not in (folder / "report.html").read_text()


@pytest.mark.parametrize("text", ["[" * DEEP, "[" * DEEP + "]" * DEEP, '{"studies": ' + "9" * 5000 + "}", "null", ""])
def test_a_summary_that_is_none_is_refused(fuzzer: Fuzzer, text: str) -> None:
    folder = _run_folder(fuzzer)
    (folder / "summary.json").write_text(text)
    _refuse(fuzzer.server.run(REPORT.typed(""), fuzzer.place), text[:20])


def _set_everywhere(value: object, key: str, odd: object) -> None:
    if isinstance(value, dict):
        for name, entry in value.items():
            if name == key:
                value[name] = odd
            else:
                _set_everywhere(entry, key, odd)
    elif isinstance(value, list):
        for entry in value:
            _set_everywhere(entry, key, odd)


def npz_of_zeros(path: Path, shape: tuple[int, ...], length: int) -> None:
    """Replace an archive by one whose arrays are said to have a shape, and unpack to zeros of some length."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    packer = zlib.compressobj(1, wbits=-15)
    start = packer.compress(header.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    data = start + deflate_zeros(length)[2:-4]
    entries, directory = b"", b""
    for name in names:
        about = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, 0, len(data), (length + len(header.getvalue())) % 2**32)
        lengths = struct.pack("<HH", len(name), 0)
        directory += (
            b"PK\x01\x02\x14\x00" + about + lengths + bytes(10) + struct.pack("<I", len(entries)) + name.encode()
        )
        entries += b"PK\x03\x04" + about + lengths + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(directory), len(entries), 0)
    path.write_bytes(entries + directory + b"PK\x05\x06" + end)


ARRAYS = {"petabyte": (2**50, 1000), "gigabytes": (4 * 10**9, 4 * 10**9), "gigabyte": (10**9, 10**9)}  # said, and there


@pytest.mark.parametrize("name", usual(ARRAYS, "gigabytes"))
def test_arrays_that_unpack_to_gigabytes_are_done_again(fuzzer: Fuzzer, name: str) -> None:
    rows, unpacked = ARRAYS[name]
    folder = _run_folder(fuzzer)
    path = sorted(folder.glob("pictures/*.npz"))[0]
    npz_of_zeros(path, (rows,), unpacked)
    for command in (AGAIN, REPORT):
        _end_well(fuzzer.server.run(command.typed(""), fuzzer.place), f"{rows}: {command.words}")


def test_the_cells_of_another_method_are_not_taken(fuzzer: Fuzzer) -> None:
    """A whole, valid part of one method under the name of the other."""
    folder = _run_folder(fuzzer)
    first, second = (next(iter(sorted(folder.glob(f"scores/*-{name}-*.parquet")))) for name in ("gradient", "random"))
    shutil.copy(first, second)
    scores = KIND["scores"]
    assert fuzzer.judge(scores, AGAIN, "") is None


CERTIFICATES = {"null": "null", "list": "[]", "other": '{"verdict": []}', "deep": "[" * DEEP, "nan": '{"a": NaN}'}


@pytest.mark.parametrize("name", usual(CERTIFICATES, "deep"))
def test_odd_certificates_are_done_again(fuzzer: Fuzzer, name: str) -> None:
    folder = _run_folder(fuzzer)
    path = next(folder.glob("certificates/*.json"))
    path.write_text(CERTIFICATES[name])
    documents = KIND["documents"]
    assert fuzzer.judge(documents, AGAIN, "") is None


# Plans, specs and names of classes


@pytest.mark.parametrize(
    "value", ["1" + "0" * 5000, "[" * DEEP + "]" * DEEP, "[" * DEEP, '"' + "n" * 10**6 + '"', "inf"]
)
def test_odd_values_in_plans_and_specs_are_refused(fuzzer: Fuzzer, value: str) -> None:
    for kind, key in ((PLAN, "rows = "), (SPEC, "seed = ")):
        fuzzer.lay_out(kind)
        path = fuzzer.place / kind.files[0]
        lines = [key + value if line.startswith(key) else line for line in path.read_text().splitlines()]
        path.write_text("\n".join(lines))
        words = "audit plan.toml --engine inline --device cpu" if kind is PLAN else "generate spec.toml -o new.hdf5"
        _refuse(fuzzer.server.run(words.split(), fuzzer.place), f"{key}{value[:10]}")


@pytest.mark.parametrize(
    "table",
    [
        'source = "evil:x=y"',
        'arch = "evil:x=y"',
        'source = "family:factory"',
        'source = "captum:factory"',
        'source = "evil:factory"',
        'source = "evil:factory with model.safetensors"',
    ],
)
def test_a_plan_imports_nothing_unasked(fuzzer: Fuzzer, table: str) -> None:
    fuzzer.lay_out(PLAN)
    mark = fuzzer.place / "mark"
    for name in ("evil", "family", "captum"):
        (fuzzer.place / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\ndef factory():\n    raise SystemExit(0)\n")
    path = fuzzer.place / "plan.toml"
    path.write_text(path.read_text().replace('source = "model.safetensors"', table))
    outcome = fuzzer.server.run(["audit", "plan.toml", "--engine", "inline", "--device", "cpu"], fuzzer.place)
    _refuse(outcome, table)
    assert not mark.exists()


LINES = {
    "deep.json": "[" * DEEP,
    "digits.json": '["1", 1' + "0" * 5000 + "]",
    "nested.json": '[["a", ["b"]], {"c": []}]',
    "keys.json": '{"0": "a", "x": "b"}',
    "null.json": "null",
    "binary.txt": "\x00" * 1000,
    "one.txt": "n" * 10**6,
    "many.txt": "n\n" * 10**6,
}


@pytest.mark.parametrize("name", LINES)
def test_odd_names_of_classes_are_refused(fuzzer: Fuzzer, name: str) -> None:
    fuzzer.lay_out(LABELS)
    (fuzzer.place / name).write_text(LINES[name])
    _refuse(fuzzer.server.run(LABELS.commands[0].typed(name), fuzzer.place), name)


@pytest.mark.parametrize("command", ["verify {}", "report {}", "audit {}.toml", f"{EXPLAIN} --image {{}}"])
def test_a_name_that_no_file_system_takes_is_refused(fuzzer: Fuzzer, command: str) -> None:
    fuzzer.lay_out(PICTURE)
    for name in ("n" * 300, "n/" * 3000):
        _refuse(fuzzer.server.run(Command(command, 1).typed(name), fuzzer.place), command)
