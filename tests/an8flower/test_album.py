"""Photographs behind the plant: crops against a slow second version, files that need no folder, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import map_coordinates

from an8flower import draw, interventions
from an8flower.__main__ import main
from an8flower.album import copy_photographs, open_album, photograph_remarks, scramble
from an8flower.errors import Refusal
from an8flower.factors import PARTS, Value
from an8flower.generate import generate, make_rows
from an8flower.render import render
from an8flower.scene import build
from an8flower.sharding import generate_shard, merge
from an8flower.spec import DatasetSpec, from_json, from_mapping, from_toml, load
from an8flower.store import FlowerStore, StoredRows, verify
from an8flower.writing import Block

from ..conftest import Run

SIZE = 32
TOML = """
name = "mine"
size = 32
[rows]
train = 20
val = 4
test = 12
[classes]
"petals.colour" = ["red", "blue"]
[nuisance]
"background.kind" = ["photo", "scramble"]
[background]
images = "photographs"
"""


def smooth(seed: int, width: int = 90, height: int = 70) -> Image.Image:
    """A picture of soft blots, so that interpolation can be compared."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def write_folder(folder: Path, count: int = 6, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        smooth(first + i).save(folder / f"p{i}.png")
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> DatasetSpec:
    """A spec with six photographs of 90 x 70 px."""
    root = tmp_path_factory.mktemp("album")
    write_folder(root / "photographs")
    (root / "mine.toml").write_text(TOML)
    return from_toml(root / "mine.toml")


@pytest.fixture(scope="module")
def file(spec: DatasetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file, not to be changed."""
    return generate(spec, tmp_path_factory.mktemp("file") / "mine.h5", workers=1).path


def bare(spec: DatasetSpec, **changes: Value) -> np.ndarray:
    """Rows of the test split without a plant, on photographs."""
    nothing: dict[str, Value] = {f"{part}.count": 0 for part in ("petals", "disc", "stem", "leaves")}
    return draw.override(draw.factors(spec, "test", 0, 12), {**nothing, "background.kind": "photo", **changes})


@pytest.mark.parametrize("contrast", [1.0, 0.4])
def test_a_row_shows_its_crop(spec: DatasetSpec, contrast: float) -> None:
    """Bilinear, by scipy, of the copy; mirrored where the row says so."""
    album = open_album(spec, "test")
    assert album is not None
    table = bare(spec, **{"background.contrast": contrast, "background.scale": 0.6})
    images = render(build(table, album), SIZE, threads=1)[0]
    for row, image in zip(table, images, strict=True):
        copy = album.decode(int(row["background.photograph"]) % len(album.entries)).astype(float)
        side = 0.6 * min(copy.shape[:2])
        top, left = ((copy.shape[axis] - side) * row[f"background.{name}"] for axis, name in enumerate("yx"))
        places = (np.arange(SIZE) + 0.5) * side / SIZE - 0.5
        grid = np.meshgrid(top + places, left + places, indexing="ij")
        seen = np.stack([map_coordinates(copy[..., c], grid, order=1, mode="nearest") for c in range(3)], axis=2)
        expected = copy.mean((0, 1)) + contrast * (seen - copy.mean((0, 1)))
        expected = expected[:, ::-1] if row["background.flip"] else expected
        assert np.abs(image - expected).max() <= 1  # weights are whole 256ths


def test_a_large_crop_is_taken_of_a_smaller_picture(spec: DatasetSpec) -> None:
    """At scale 1 the copy has twice the pixels: each pixel shows the mean of what it covers, nearly."""
    album = open_album(spec, "test")
    assert album is not None
    table = bare(spec, **{"background.scale": 1.0, "background.flip": 0, "background.x": 0.0, "background.y": 0.0})
    images = render(build(table, album), SIZE, threads=1)[0]
    for row, image in zip(table, images, strict=True):
        copy = Image.fromarray(album.decode(int(row["background.photograph"]) % len(album.entries)))
        side = min(copy.size)
        means = np.asarray(copy.resize((SIZE, SIZE), Image.Resampling.BOX, (0, 0, side, side))).astype(int)
        assert np.abs(image.astype(int) - means).mean() < 2


def test_no_photograph_is_in_two_splits(file: Path, spec: DatasetSpec) -> None:
    store = FlowerStore(file)
    entries = store.file["photographs/entries"][:]
    assert len(set(entries["sha256"])) == len(entries) == 6
    assert {split.decode() for split in entries["split"]} == {"train", "val", "test"}
    for split in store.splits:
        album = store.album(split)
        assert album is not None
        assert {split.encode()} == set(album.entries["split"])


def test_a_file_moves_without_its_folder(file: Path, tmp_path: Path) -> None:
    store = FlowerStore(shutil.copy(file, tmp_path / "elsewhere.h5"))
    assert all(holds for _, holds in verify(store.path))
    for split in store.splits:
        rows = store[split].rows(0, len(store[split]))
        again = render(build(rows.factors, store[split].album), store.size, threads=1)[0]
        assert again.tobytes() == rows.images.tobytes()


def test_rows_are_the_same_bytes_for_any_workers_and_in_shards(file: Path, spec: DatasetSpec, tmp_path: Path) -> None:
    other = generate(spec, tmp_path / "other.h5", workers=3).path
    assert other.read_bytes() == file.read_bytes()
    shards = [generate_shard(spec, number, 2, tmp_path, workers=1).path for number in (1, 2)]
    merged = FlowerStore(merge(spec, shards, tmp_path / "whole.h5").path)
    assert merged.fingerprint == FlowerStore(file).fingerprint
    assert all(holds for _, holds in verify(merged.path))


def test_an_interrupted_run_on_photographs_gives_the_same_bytes(
    file: Path, spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each of the three blocks in turn, with other numbers of workers, and gone on with."""
    path, made = tmp_path / "mine.h5", []

    def stop_after(count: int) -> None:
        def make(spec: DatasetSpec, block: Block) -> StoredRows:
            if len(made) >= count:
                raise KeyboardInterrupt
            made.append(block)
            return make_rows(spec, block)

        monkeypatch.setattr("an8flower.generate.make_rows", make)

    for count in (1, 2):
        stop_after(count)
        with pytest.raises(KeyboardInterrupt):
            generate(spec, path, workers=1)
        assert not path.exists()
    stop_after(3)
    assert generate(spec, path, workers=3).path.read_bytes() == file.read_bytes()
    assert len(made) == len(set(made)) == 3  # no block was made twice
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.h5"]


def test_the_digest_is_of_the_photographs_and_not_of_their_place(spec: DatasetSpec, tmp_path: Path) -> None:
    def digest(folder: Path, **terms: Any) -> str:
        document = {**spec.model_dump(by_alias=True, exclude={"background"}), "shortcut": None}
        document["background"] = {"images": str(folder), **terms}
        return from_mapping({key: value for key, value in document.items() if value is not None}, "x").digest

    folder = write_folder(tmp_path / "a")
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"z{5 - i}.png")
    assert digest(folder) == spec.digest
    assert digest(folder, quality=80) != spec.digest
    smooth(50).save(folder / "z0.png")
    assert digest(folder) != spec.digest
    assert str(tmp_path) not in from_mapping({**TABLES, "background": {"images": str(folder)}}, "x").to_json()


TABLES: dict[str, Any] = {
    "name": "x",
    "rows": {"train": 2, "val": 2, "test": 2},
    "size": SIZE,
    "classes": {"petals.colour": ("red", "blue")},
    "nuisance": {"background.kind": "photo"},
}


def test_a_change_leaves_all_other_pixels(spec: DatasetSpec) -> None:
    album = open_album(spec, "train")
    table = draw.factors(spec, "train", 0, 12)
    images = render(build(table, album), SIZE, threads=1)[0]
    seen = render(build(table, album), 2 * SIZE, threads=1)[1].reshape(-1, SIZE, 2, SIZE, 2)
    covered = (seen != PARTS.index("background")).all(axis=(2, 4))
    for factor, value in (("background.photograph", 1), ("background.x", 0.5), ("background.kind", "noise")):
        others = render(build(draw.override(table, {factor: value}), album), SIZE, threads=1)[0]
        differ = (images != others).any(axis=3)
        assert differ.any()
        assert not (differ & covered).any()
    petals = (seen == PARTS.index("petals")).any(axis=(2, 4))
    others = render(build(draw.override(table, {"petals.colour": "pink"}), album), SIZE, threads=1)[0]
    assert not ((images != others).any(axis=3) & ~petals).any()


def test_nothing_but_evidence_and_void_changes_with_the_class(file: Path, spec: DatasetSpec) -> None:
    split = FlowerStore(file)["train"]
    rows = split.rows(0, 20)
    assert rows.factors is not None
    assert rows.void is not None
    other = interventions.as_class(spec, rows.factors, 1 - rows.labels)
    differ = (render(build(other, split.album), SIZE, threads=1)[0] != rows.images).any(axis=3)
    assert differ.any()
    assert not (differ & (rows.masks == 0) & ~rows.void).any()


def test_scrambling_keeps_the_amplitudes_and_moves_the_waves() -> None:
    picture = np.asarray(smooth(3, 64, 48)) // 2 + 64
    wrapped = np.concatenate([picture, picture[::-1]])
    wrapped = np.concatenate([wrapped, wrapped[:, ::-1]], axis=1)  # periodic by itself: nothing is taken off
    scrambled = scramble(wrapped, np.random.default_rng(0))
    assert scrambled.mean((0, 1)) == pytest.approx(wrapped.mean((0, 1)), abs=1)
    before, after = (np.abs(np.fft.fft2(p.astype(float).mean(2)))[:6, :6].ravel()[1:] for p in (wrapped, scrambled))
    assert np.corrcoef(before, after)[0, 1] > 0.98
    assert abs(np.corrcoef(wrapped.ravel(), scrambled.ravel())[0, 1]) < 0.6
    assert (scramble(wrapped, np.random.default_rng(1)) != scrambled).mean() > 0.5


def test_damage_and_strange_photographs_are_told(file: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copy(file, tmp_path / "broken.h5"))
    with h5py.File(broken, "r+") as opened:
        content = opened["photographs/content"]
        content[:40] = 0
    places = [place for place, holds in verify(broken) if not holds]
    assert places[0] == "photographs/content"
    assert any(place.startswith("photograph p") and "damaged" in place for place in places)
    with h5py.File(broken, "r+") as opened:
        entries = opened["photographs/entries"][:]
        entries["split"][entries["split"] == b"val"] = b"train"
        opened["photographs/entries"][:] = entries
    with pytest.raises(Refusal, match="a split has no photographs"):
        FlowerStore(broken)
    entries["split"][:3], entries["start"][0] = (b"train", b"val", b"test"), 2**40
    with h5py.File(broken, "r+") as opened:
        opened["photographs/entries"][:] = entries
    with pytest.raises(Refusal, match="lies outside the copies"):
        FlowerStore(broken)
    with h5py.File(broken, "r+") as opened:
        del opened["photographs"]
    with pytest.raises(Refusal, match="holds no copies of its photographs"):
        FlowerStore(broken)["test"].album  # noqa: B018


def test_rows_without_their_photographs_are_refused(file: Path, spec: DatasetSpec) -> None:
    with pytest.raises(ValueError, match="with the album of their split"):
        build(bare(spec))
    stored = FlowerStore(file).spec
    assert stored is not None
    assert stored.digest == spec.digest
    with pytest.raises(Refusal, match=r"mine: its photographs \(photographs\) are not at hand"):
        copy_photographs(stored.with_changes(rows=40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nuisance": {"background.kind": "photo"}}, "wants photographs; add a table [background]"),
        ({"nuisance": {}, "background": {"images": "a"}}, "no row lies on a photograph"),
        ({"background": {"images": "a", "quality": 0}}, "background.quality: expected at least 1"),
        ({"background": {"images": "a", "digst": "x"}}, 'unknown key "digst"; did you mean "digest"?'),
        ({"background": {"images": "a"}}, "a: no such folder"),
        ({"background": {"images": "package:no_such"}}, "the package no_such is not installed"),
        ({"background": {"images": "package:skimage.nothing"}}, "no such folder"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        from_mapping({**TABLES, **changes}, "x")
    assert message in str(refusal.value)


def test_small_and_few_photographs_are_refused(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "photographs", 2)
    toml = tmp_path / "mine.toml"
    toml.write_text(TOML)
    with pytest.raises(Refusal, match="2 photographs for the splits train, val, test: no photograph may be in two"):
        from_toml(toml)
    smooth(9, 40, 50).save(tmp_path / "photographs" / "small.png")
    (tmp_path / "photographs" / "note.txt").write_text("x")
    (remark,) = photograph_remarks(from_toml(toml))
    assert remark.endswith("photographs: 1 files (note.txt) are no pictures by their names, and are left out")
    smooth(9, 40, 20).save(tmp_path / "photographs" / "small.png")
    done = run("generate", "mine.toml", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("Warning: ")
    assert "small.png: 40 x 20 px came, expected at least 32 on the shorter side" in error
    assert not list(tmp_path.glob("data/*.h5"))


def test_a_preset_on_photographs_is_read_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package that has them is asked for when rows are rendered, and named if it is missing or another one."""
    spec, here = load("photo-6c"), copy_photographs(load("photo-6c"))
    names = set(here.entries["sha256"].tolist())
    assert len(names) == 12
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("an8flower.photographs.importlib.util.find_spec", lambda name: None)
    assert load("photo-6c") == spec
    assert from_json(spec.to_json(), "x") == spec
    done = CliRunner().invoke(main, ["generate", "photo-6c", "--rows", "60"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        'Error: photo-6c: images = "package:skimage.data": the package skimage is not installed; install it with '
        "`pip install scikit-image`\n"
    )
    assert not list(tmp_path.glob("**/*.h5"))


def test_other_photographs_than_those_of_the_digest_are_refused(spec: DatasetSpec) -> None:
    terms = spec.background
    assert terms is not None
    changed = spec.model_copy(update={"background": terms.at(terms.folder, 64 * "0")})
    with pytest.raises(Refusal, match="holds other photographs than the spec names by their digest"):
        copy_photographs(changed)
