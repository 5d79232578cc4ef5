"""Exports: what comes back is what went out, to the byte; nothing half-done has a final name; damage is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from an8flower import atomic
from an8flower import spec as specs
from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evidence import discriminative_parts
from an8flower.exporting import contents as contents_module
from an8flower.exporting import encoding, layouts, reading
from an8flower.exporting import export as exporting
from an8flower.exporting.cards import read_words
from an8flower.exporting.contents import Contents, ExportShard, StoredArray, read_contents
from an8flower.exporting.export import export
from an8flower.exporting.layouts import LAYOUTS, class_folders
from an8flower.exporting.reading import import_export
from an8flower.factors import PARTS
from an8flower.generate import generate
from an8flower.importing import import_folders
from an8flower.store import FlowerStore
from an8flower.writing import Block

NAMES = sorted(LAYOUTS)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rows of 16 px of classes that differ by what is there, so that masks have all values."""
    spec = specs.load("absent-4c").with_changes(rows=40, size=16)
    return generate(spec, tmp_path_factory.mktemp("tiny") / "tiny.h5", workers=1).path


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "SHARD_ROWS", 6)


@pytest.fixture(scope="module")
def exports(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data set in each layout, with the masks of pairs; not to be changed."""
    place = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents_module, "SHARD_ROWS", 6)
        return {name: export(tiny_file, place / name, name, with_pairs=True).folder for name in NAMES}


def files_of(folder: Path) -> dict[str, bytes]:
    return {place.relative_to(folder).as_posix(): place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def stored(path: Path) -> dict[str, Any]:
    """All that a file holds, attributes included, read without the code under test."""
    with h5py.File(path) as file:
        everything: dict[str, Any] = {f"@{name}": np.array(value).tolist() for name, value in file.attrs.items()}
        for split in file:
            for name, data in file[split].items():
                everything[f"{split}/{name}"] = (str(data.dtype.descr), data[:].tobytes(), data.attrs["sha256"])
    return everything


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_back_is_what_went_out(name: str, tiny_file: Path, exports: dict[str, Path], tmp_path: Path) -> None:
    """The file that is read back equals the exported one, and a second export has the same bytes."""
    import_export(exports[name], tmp_path / "back.h5")
    assert stored(tmp_path / "back.h5") == stored(tiny_file)
    again = export(tmp_path / "back.h5", tmp_path / "again", name, with_pairs=True)
    assert files_of(again.folder) == files_of(exports[name])
    assert sorted(place.name for place in tmp_path.iterdir()) == ["again", "back.h5"]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_ones_own_travel_as_well(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for i in range(20):
        for kind, values in (("i", random.integers(0, 256, (16, 16, 3))), ("m", random.integers(0, 2, (16, 16)) * 255)):
            place = tmp_path / kind / f"class {i % 2}" / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(place)
    import_folders(tmp_path / "i", tmp_path / "m", tmp_path / "own.h5")
    folder = export(tmp_path / "own.h5", tmp_path / "out", name).folder
    import_export(folder, tmp_path / "back.h5")
    assert stored(tmp_path / "back.h5") == stored(tmp_path / "own.h5")
    assert "license: other" in (folder / "README.md").read_text()
    assert "Apache" not in (folder / "LICENSE").read_text()
    with pytest.raises(Refusal, match="has no spec, so what tells pairs of classes is not known"):
        export(tmp_path / "own.h5", tmp_path / "pairs", name, with_pairs=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_export_goes_on_and_has_no_final_name(
    name: str, tiny_file: Path, exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, written = LAYOUTS[name], []

    def write(*words: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(words[2].name)
        type(layout).write(layout, *words)

    monkeypatch.setattr(layout, "write", write, raising=False)
    with pytest.raises(KeyboardInterrupt):
        export(tiny_file, tmp_path / "out", name, with_pairs=True, workers=1)
    assert not (tmp_path / "out").exists()
    (waiting,) = tmp_path.iterdir()
    assert waiting.name.endswith(".partial")
    done, shards = list(written), len(read_contents(exports[name], tuple(NAMES)).shards)
    written.clear()
    monkeypatch.setattr(
        layout, "write", lambda *words: (written.append(words[2].name), type(layout).write(layout, *words))
    )
    result = export(tiny_file, tmp_path / "out", name, with_pairs=True)
    assert not set(done) & set(written)
    assert len(done) + len(written) == shards
    assert files_of(result.folder) == files_of(exports[name])
    assert [place.name for place in tmp_path.iterdir()] == ["out"]


def test_what_is_there_is_left_or_refused(tiny_file: Path, tmp_path: Path) -> None:
    assert not export(tiny_file, tmp_path / "out", "parquet").existed
    assert export(tiny_file, tmp_path / "out", "parquet").existed
    with pytest.raises(Refusal, match="holds another export; replace it with --force"):
        export(tiny_file, tmp_path / "out", "webdataset")
    assert not export(tiny_file, tmp_path / "out", "webdataset", force=True).existed
    assert not (tmp_path / "out" / "data").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(Refusal, match="holds something that is no export"):
        export(tiny_file, tmp_path / "mine", "parquet", force=True)
    with pytest.raises(Refusal, match='unknown layout "parket"; did you mean "parquet"'):
        export(tiny_file, tmp_path / "x", "parket")


def test_checksums_are_as_sha256sum_reads_them(exports: dict[str, Path]) -> None:
    for folder in exports.values():
        listed = dict(reversed(line.split("  ")) for line in (folder / "checksums.sha256").read_text().splitlines())
        content = files_of(folder)
        del content["checksums.sha256"]
        assert listed == {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_refused_in_one_sentence(name: str, tiny_file: Path, tmp_path: Path) -> None:
    """A file that is cut, missing or exchanged: nothing is under the final name afterwards."""
    folder = export(tiny_file, tmp_path / "out", name).folder
    patterns = {
        "parquet": "data/test-00000-*.parquet",
        "folder": "images/test/*/000000000.png",
        "webdataset": "test-00000-*.tar",
    }
    (place,) = folder.glob(patterns[name])
    whole = place.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", None):
        place.unlink()
        if damaged is not None:
            place.write_bytes(damaged)
        with pytest.raises(Refusal, match="export the data set again|make the file again"):
            import_export(folder, tmp_path / "back.h5")
        assert not (tmp_path / "back.h5").exists()
        place.touch()


def test_a_picture_that_was_exchanged_is_noticed(tiny_file: Path, tmp_path: Path) -> None:
    folder = export(tiny_file, tmp_path / "out", "folder").folder
    place = next((folder / "images" / "test").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(place))).save(place)
    with pytest.raises(Refusal, match="test/images is not what was exported, so files were changed"):
        import_export(folder, tmp_path / "back.h5")
    assert not (tmp_path / "back.h5").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layout": "zip"}, "layout zip"),
        ({"format": "x"}, "format x"),
        ({"splits": {"train": -1}}, "its splits"),
        ({"attributes": {"size": 10**9}}, "its attributes"),
        ({"attributes": {"size": 16}}, "its attributes"),
        ({"arrays": {}}, "does not say what an export holds"),
        ({"arrays": {"train": [], "val": [], "test": []}}, "its arrays are not those of a data set"),
        ({"arrays": {"train": [{"name": "labels", "dtype": "|O", "shape": [], "sha256": ""}]}}, "does not say"),
    ],
)
def test_a_forged_description_is_refused(
    change: dict[str, Any], sentence: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    document = json.loads((exports["parquet"] / "an8flower.json").read_text())
    (tmp_path / "an8flower.json").write_text(json.dumps(document | change))
    with pytest.raises(Refusal, match=sentence):
        import_export(tmp_path, tmp_path / "back.h5")


def test_what_a_killed_export_left_is_not_part_of_the_next(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that was being written when the process died."""
    took_name = exporting.ExportJob._take_name
    monkeypatch.setattr(exporting.ExportJob, "_take_name", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(tiny_file, tmp_path / "out", "parquet")
    monkeypatch.setattr(exporting.ExportJob, "_take_name", took_name)
    (waiting,) = (place for place in tmp_path.iterdir() if place.is_dir())
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (waiting / f"README.md.{atomic._machine()}.{int(dead.stdout)}.unfinished").write_text("half a card")
    folder = export(tiny_file, tmp_path / "out", "parquet").folder
    assert not list(folder.rglob("*.unfinished"))


def test_masks_of_pairs_are_the_parts_that_differ(tiny_file: Path) -> None:
    store = FlowerStore(tiny_file)
    assert store.spec is not None
    rows = store["train"].rows(0, 12)
    assert rows.parts is not None
    masks = exporting.pair_masks(store.spec, rows.labels, rows.parts).reshape(12, 4, 16, 16)
    for i, label in enumerate(rows.labels.tolist()):  # a slow second version
        for other in range(4):
            differing = {PARTS.index(part) for part in discriminative_parts(store.spec, label, other)}
            expected = [[255 * (part in differing) for part in line] for line in rows.parts[i].tolist()]
            assert masks[i, other].tolist() == expected


def test_what_the_card_says_renders_the_rows_again(exports: dict[str, Path], tiny_file: Path) -> None:
    """The code in README.md, executed where the export lies."""
    text = (exports["parquet"] / "README.md").read_text()
    code = text.rpartition("```python\n")[2].partition("```")[0].replace('"an8flower.json")', '"PLACE")', 1)
    code = code.replace("PLACE", (exports["parquet"] / "an8flower.json").as_posix())
    names: dict[str, Any] = {}
    exec(code, names)
    assert np.array_equal(names["rows"].images, FlowerStore(tiny_file)["train"].rows(0, 4).images)


def test_the_card_says_what_is_there(exports: dict[str, Path], tiny_file: Path) -> None:
    text = (exports["webdataset"] / "README.md").read_text()
    assert text.startswith("---\nlicense: apache-2.0\npretty_name: ")
    for name in FlowerStore(tiny_file).class_names:
        assert f" {name} |" in text
    assert "{" not in text.partition("```python")[0]
    assert "{" not in (exports["webdataset"] / "LICENSE").read_text()


def test_the_citation_is_that_of_the_program() -> None:
    """What the repository cites stands in the citation of the data as well."""
    root = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    title = root.partition("title: ")[2].partition("\n")[0]
    paper = root.partition("  - type: conference-paper\n")[2]
    assert title in read_words()["citation"]["text"]
    assert "\n".join(f"  {line}".rstrip()[2:] for line in paper.splitlines()) in read_words()["citation"]["text"]


@settings(max_examples=12)
@given(st.data())
def test_any_stored_array_travels_along(data: st.DataObject) -> None:
    """Arrays that no data set has yet: numbers of a row, and other values for each pixel, in every layout."""
    import tempfile

    rows, size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    kinds = data.draw(st.lists(st.sampled_from(["|u1", "<f2", "<f4", "<u2", "<i8"]), min_size=1, max_size=3))
    shapes = [data.draw(st.sampled_from([(), (size, size), (size, size, 3), (size, size, 2)])) for _ in kinds]
    arrays = {
        f"new{i}": np.random.default_rng(i).integers(0, 99, (rows, *shape)).astype(kind)
        for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))
    }
    arrays["labels"] = np.arange(rows) % 2
    described = tuple(StoredArray(name, values.dtype, values.shape[1:], "") for name, values in arrays.items())
    attributes = {"class_names": ["a", "b"], "size": size}
    whole = Contents("", attributes, {"test": rows + 7}, {"test": described}, False, "")
    shard = ExportShard("test", 0, 1, 7, rows + 7)
    with tempfile.TemporaryDirectory() as folder:
        for layout in LAYOUTS.values():
            layout.write(Path(folder), whole, shard, arrays)
            back = layout.read(Path(folder), whole, shard)
            assert back.keys() == arrays.keys()
            for name, values in arrays.items():
                assert back[name].dtype == values.dtype
                assert np.array_equal(back[name], values)


@settings(max_examples=30)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=120))
def test_folders_of_classes_sort_as_their_labels(names: list[str]) -> None:
    folders = class_folders(names)
    assert sorted(folders) == folders
    assert all(name.isascii() and "/" not in name and not name.startswith(".") for name in folders)


def test_shards_hold_bounded_memory(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "RAW", 5000)
    contents = contents_module.describe(FlowerStore(tiny_file), "parquet", False)
    row = 16 * 16 * 5  # image, mask and parts
    assert all((shard.stop - shard.start) * row <= 5000 for shard in contents.shards)
    covered = [(shard.split, row) for shard in contents.shards for row in range(shard.start, shard.stop)]
    assert covered == [(split, row) for split, rows in contents.splits.items() for row in range(rows)]


@pytest.mark.parametrize("name", NAMES)
def test_an_import_decodes_no_more_than_a_block(
    name: str, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are larger than blocks: what of them is not in the block stays encoded."""
    monkeypatch.setattr(contents_module, "SHARD_ROWS", 20)
    folder = export(tiny_file, tmp_path / "out", name).folder
    counts: list[int] = []

    def decode(array: StoredArray, contents: Any, place: Path) -> np.ndarray:
        rows = encoding.decode(array, contents, place)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(layouts, "decode", decode)
    rows = reading._maker(folder, read_contents(folder, tuple(NAMES)))(Block("train", 3, 9))
    expected = FlowerStore(tiny_file)["train"].rows(3, 9)
    assert all(np.array_equal(came, stored) for came, stored in zip(rows, expected, strict=True) if came is not None)
    assert set(counts) == {6}
    reading._maker(folder, read_contents(folder, tuple(NAMES)))(Block("train", 18, 23))
    assert set(counts) == {6, 2, 3}


def test_the_commands(tiny_file: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    def call(*words: object) -> Any:
        return CliRunner().invoke(main, [str(word) for word in words])

    done = call("export", tiny_file, "-o", tmp_path / "out", "--to", "parquet", "--json")
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 40)
    assert "nothing to do" in call("export", tiny_file, "-o", tmp_path / "out", "--to", "parquet").output
    back = call("import", tmp_path / "out", "-o", tmp_path / "back.h5")
    assert (back.exit_code, "40 rows of an export" in back.output) == (0, True)
    assert call("verify", tmp_path / "back.h5").exit_code == 0
    twice = call("import", tmp_path / "out", "-o", tmp_path / "back.h5")
    assert (twice.exit_code, twice.stderr) == (
        1,
        f"Error: {tmp_path / 'back.h5'}: exists; replace it with --force, or write elsewhere with -o\n",
    )
    assert "is no export" in call("import", tmp_path, "-o", tmp_path / "x.h5").output
    assert (
        "an export is read as it is" in call("import", tmp_path / "out", "-o", tmp_path / "x.h5", "--size", 20).output
    )
