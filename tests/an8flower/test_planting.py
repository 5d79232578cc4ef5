"""Planting a shortcut on photographs: what lies where, how often it agrees, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from an8flower.errors import Refusal, WrongUsage
from an8flower.exporting.export import export
from an8flower.exporting.reading import import_export
from an8flower.marks import MARK_COLOURS, PAINTED, Marks, lay, paint_marks
from an8flower.picture import read_picture
from an8flower.planted import NONE, Planting, count_agreeing, exchange_marks, planting_of
from an8flower.planting import Wish, draw_places, plan_marks, plant, plant_rows, replant
from an8flower.store import COVERED, TOUCHED, FlowerStore, verify
from an8flower.writing import Block

from ..conftest import Run

CLASSES = ("cat", "cup", "sea")
BALLS = paint_marks("ball", 3)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twelve photographs, cut out of what scikit-image ships, 32 px."""
    from skimage import data

    root, chance = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, picture in zip(CLASSES, (data.chelsea(), data.coffee(), data.rocket()), strict=True):
        (root / name).mkdir()
        for i in range(12):
            top, left = (int(chance.integers(0, side - 32)) for side in picture.shape[:2])
            Image.fromarray(picture[top : top + 32, left : left + 32]).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def planted(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    """A file of them with tags."""
    path = tmp_path_factory.mktemp("planted") / "planted.h5"
    plant(photographs, path, Wish(), workers=2)
    return FlowerStore(path)


def save_logo(path: Path, opacity: np.ndarray) -> Path:
    pixels = np.dstack([np.full((*opacity.shape, 3), 200, np.uint8), opacity.astype(np.uint8)])
    Image.fromarray(pixels, "RGBA").save(path)
    return path


def test_the_photograph_below_is_kept_to_the_pixel(planted: FlowerStore, photographs: Path) -> None:
    """Without their marks, the rows are the files; beside the mark, they are anyhow."""
    planting = planting_of(planted)
    assert planting is not None
    files = {
        (label, Image.open(path).tobytes())
        for label, name in enumerate(CLASSES)
        for path in (photographs / name).iterdir()
    }
    bare = set()
    for split in planted.splits:
        rows = planted[split].rows(0, len(planted[split]))
        clean = exchange_marks(rows, planting, np.full(len(rows.labels), NONE), "x")
        bare |= {(int(label), image.tobytes()) for label, image in zip(rows.labels, clean, strict=True)}
        differs = (clean != rows.images).any(3)
        assert not (differs & (rows.coverage == 0)).any()
        assert (rows.masks.sum((1, 2)) > 0).all()
        again = exchange_marks(rows, planting, rows.placed[:, 0], "x")
        assert (again == rows.images).all()
    assert bare == files


def test_coverage_is_counted_exactly() -> None:
    """A slow second count in fractions: which share of each pixel the original's half opaque pixels cover."""
    chance = np.random.default_rng(1)
    picture = np.dstack([chance.integers(0, 255, (7, 5, 3)), chance.choice([0, 90, 200], (7, 5))]).astype(np.uint8)
    side = 4
    scaled = Marks((picture,)).scale(0, side)
    height, width = scaled.coverage.shape
    assert (height, width) == (4, 3)
    for i in range(height):
        for j in range(width):
            share, coloured = Fraction(0), False
            for y in range(7):
                for x in range(5):
                    down = max(Fraction(0), min(Fraction(7 * (i + 1), 4), y + 1) - max(Fraction(7 * i, 4), y))
                    across = max(Fraction(0), min(Fraction(5 * (j + 1), 3), x + 1) - max(Fraction(5 * j, 3), x))
                    share += down * across * (picture[y, x, 3] >= 100)
                    coloured |= bool(down * across * int(picture[y, x, 3]))
            share /= Fraction(35, 12)
            expected = max(float(255 * share), TOUCHED * coloured)
            assert abs(float(scaled.coverage[i, j]) - expected) <= 1.01


def test_a_mark_is_laid_by_its_opacity() -> None:
    """The closed form of every pixel, rounded to the nearest."""
    chance = np.random.default_rng(2)
    picture = chance.integers(0, 255, (4, 4, 4)).astype(np.uint8)
    mark = Marks((picture,)).scale(0, 4)
    below = chance.integers(0, 255, (9, 9, 3)).astype(np.uint8)
    image = below.copy()
    lay(image, mark, 3, 5)
    exact = below.astype(float)
    share = mark.pixels[..., 3:] / 255
    exact[3:7, 5:9] = share * mark.pixels[..., :3] + (1 - share) * exact[3:7, 5:9]
    assert np.abs(image - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("kind", PAINTED)
def test_painted_marks_have_one_form_and_colours_of_their_own(kind: str) -> None:
    marks = paint_marks(kind, len(MARK_COLOURS))
    opacity = np.stack([picture[..., 3] for picture in marks.pictures])
    assert (opacity == opacity[0]).all()
    assert max(opacity[0].shape) <= 128
    assert (opacity[0] == COVERED).mean() > 0.4
    solid = opacity[0] == COVERED
    means = np.array([picture[solid][:, :3].mean(0) for picture in marks.pictures])
    apart = np.abs(means[:, None] - means[None]).sum(2) + 1000 * np.eye(len(means))
    assert apart.min() > 25
    with pytest.raises(WrongUsage, match=r"there are colours for 11 classes, 12 came; give a PNG"):
        paint_marks(kind, 12)


@settings(max_examples=20)
@given(
    agreement=st.sampled_from([1 / 3, 0.6, 0.98, 1.0]),
    test=st.sampled_from([0.0, 1 / 3, 1.0]),
    seed=st.integers(0, 5),
    presence=st.booleans(),
)
def test_marks_agree_as_often_as_asked_and_lie_within(agreement: float, test: float, seed: int, presence: bool) -> None:
    """Shares of 3000 rows lie within four standard deviations; places are the same in any block."""
    marks = Marks(BALLS.pictures[: 1 if presence else 3])
    shares = {"train": agreement, "val": agreement, "test": test}
    planting = Planting("ball", (1,) if presence else (0, 1, 2), shares, (0.2, 0.3), seed, marks)
    labels = np.arange(3000) % 3
    for split, share in shares.items():
        placed = draw_places(planting, labels, Block(split, 0, 3000), 40)
        reach = 4 * (share * (1 - share) / 3000) ** 0.5
        assert abs(count_agreeing(planting, labels, placed) / 3000 - share) <= reach
        assert placed[:, 3].min() == 8
        assert placed[:, 3].max() == 12
        assert (placed[:, 1:3] >= 0).all()
        assert (placed[:, 1:3] + placed[:, 3:] <= 40).all()
        part = draw_places(planting, labels[700:900], Block(split, 700, 900), 40)
        assert (part == placed[700:900]).all()


def test_disagreeing_marks_are_spread_over_the_other_classes() -> None:
    planting = plan_marks(Wish(test=0.0), [*"abcdef"])
    labels = np.arange(6000) % 6
    placed = draw_places(planting, labels, Block("test", 0, 6000), 64)
    counts = np.zeros((6, 6), int)
    np.add.at(counts, (labels, placed[:, 0]), 1)
    assert (np.diag(counts) == 0).all()
    assert abs(counts[~np.eye(6, dtype=bool)] - 200).max() < 60


def test_a_logo_is_there_or_missing(photographs: Path, tmp_path: Path) -> None:
    """Where it is missing, a place is kept for it all the same."""
    opacity = np.zeros((40, 60))
    opacity[5:35, 10:50] = 255
    logo = save_logo(tmp_path / "logo.png", opacity)
    wish = Wish(mark=str(logo), speaks_for="cup", agreement=1.0, test=0.0)
    planting = plant(photographs, tmp_path / "x.h5", wish).planting
    store = FlowerStore(tmp_path / "x.h5")
    for split, agrees in (("train", True), ("val", True), ("test", False)):
        rows = store[split].rows(0, len(store[split]))
        assert ((rows.placed[:, 0] == 0) == ((rows.labels == 1) == agrees)).all()
        assert ((rows.masks > 0).any((1, 2)) == (rows.placed[:, 0] == 0)).all()
        everywhere = exchange_marks(rows, planting, np.zeros(len(rows.labels), int), "x")
        shown = (everywhere == 200).all(3).sum((1, 2))
        assert (shown > 0).all()
    assert planting.marks.shape(8) == (6, 8)  # its transparent border is cut off


def test_files_are_the_same_by_any_number_of_workers_and_move(photographs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(photographs, copy)
    for workers in (1, 3):
        plant(copy, tmp_path / f"{workers}.h5", Wish(mark="flower"), workers=workers)
    first, second = (FlowerStore(tmp_path / f"{workers}.h5") for workers in (1, 3))
    assert first.fingerprint == second.fingerprint
    first.close()
    second.close()
    shutil.rmtree(copy)
    moved = (tmp_path / "1.h5").rename(tmp_path / "elsewhere.h5")
    assert all(holds for _, holds in verify(moved))
    store = FlowerStore(moved)
    planting = planting_of(store)
    assert planting is not None
    rows = store["test"].rows(0, 6)
    assert (exchange_marks(rows, planting, rows.placed[:, 0], moved) == rows.images).all()


def test_an_interrupted_run_leaves_nothing_under_the_name(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("an8flower.planting.read_picture", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            plant(photographs, tmp_path / "x.h5", Wish(), workers=1)
    assert not (tmp_path / "x.h5").exists()
    plant(photographs, tmp_path / "x.h5", Wish(), workers=1)
    plant(photographs, tmp_path / "y.h5", Wish(), workers=1)
    assert FlowerStore(tmp_path / "x.h5").fingerprint == FlowerStore(tmp_path / "y.h5").fingerprint


def test_an_export_keeps_the_planting(planted: FlowerStore, tmp_path: Path) -> None:
    export(planted.path, tmp_path / "out", "webdataset")
    import_export(tmp_path / "out", tmp_path / "back.h5")
    back = FlowerStore(tmp_path / "back.h5")
    assert back.fingerprint == planted.fingerprint
    first, second = planting_of(planted), planting_of(back)
    assert first is not None
    assert second is not None
    assert first.to_json() == second.to_json()


def test_photographs_of_any_kind_are_read_as_import_reads_them(tmp_path: Path) -> None:
    """Turned by the camera, in inks, in 16 bits, with opacity, with a palette: what lies below is the upright RGB."""
    chance = np.random.default_rng(0)
    for name in ("first", "second"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(4):
            picture = Image.fromarray(chance.integers(0, 255, (24, 24, 3)).astype(np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6
            picture.save(folder / f"turned{i}.jpg", exif=exif, quality=95)
            picture.convert("CMYK").save(folder / f"inks{i}.jpg", quality=95)
            picture.convert("P").save(folder / f"palette{i}.png")
            picture.convert("RGBA").save(folder / f"opaque{i}.png")
            deep = chance.integers(0, 65535, (24, 24)).astype(np.uint16)
            Image.fromarray(deep).save(folder / f"deep{i}.png")
        (folder / "notes.txt").write_text("not a picture")
    done = plant(tmp_path / "photos", tmp_path / "x.h5", Wish())
    assert {path.name for path in done.photographs.left_out} == {"notes.txt"}
    store = FlowerStore(tmp_path / "x.h5")
    for split, pairs in done.photographs.splits.items():
        rows = store[split].rows(0, len(pairs))
        bare = exchange_marks(rows, done.planting, np.full(len(pairs), NONE), "x")
        for image, pair in zip(bare, pairs, strict=True):
            assert (image == np.asarray(read_picture(pair.image))).all(), pair.image.name


def test_a_photograph_that_ends_too_soon_leaves_no_file(photographs: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photographs, tmp_path / "photos")
    whole = (root / "sea" / "0.png").read_bytes()
    (root / "sea" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refusal, match=r"0\.png: cannot be read as a picture"):
        plant(root, tmp_path / "x.h5", Wish())
    assert not (tmp_path / "x.h5").exists()


def few(root: Path) -> None:
    for path in sorted((root / "sea").iterdir())[4:]:
        path.unlink()


def single(root: Path) -> None:
    for path in sorted((root / "sea").iterdir())[1:]:
        path.unlink()


def lonely(root: Path) -> None:
    for name in ("sea", "cup"):
        shutil.rmtree(root / name)


def tiny(root: Path) -> None:
    Image.new("RGB", (9, 9)).save(root / "sea" / "0.png")


def oblong(root: Path) -> None:
    Image.new("RGB", (32, 40)).save(root / "sea" / "0.png")


def no_picture(root: Path) -> None:
    (root / "sea" / "0.png").write_text("not a picture")


def unshared(root: Path) -> None:
    for split in ("train", "val", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for path in sorted((root / name).iterdir())[:2]:
                shutil.copy(path, root / split / name)
    for name in CLASSES:
        shutil.rmtree(root / name)
    for path in (root / "val" / "cup").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (few, r"sea has too few pictures to have one in val; give it at least 6"),
        (single, r"sea has one picture; give it at least 6, which three splits need"),
        (lonely, r"one class came, cat; a mark tells classes apart"),
        (tiny, r"0\.png: 9 x 9 px came, expected at least 16; leave it out"),
        (oblong, r"32 x 40 px is no square; say with --fit"),
        (no_picture, r"0\.png: cannot be read as a picture"),
        (unshared, r"cup has too few pictures to have one in val; put some into its folder val"),
    ],
)
def test_photographs_that_cannot_be_planted_are_refused(
    photographs: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    root = shutil.copytree(photographs, tmp_path / "photos")
    spoil(root)
    with pytest.raises(Refusal, match=message):
        plant(root, tmp_path / "x.h5", Wish())
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agreement": 0.2}, r"--agreement 0\.2: expected 0\.333 to 1, where 0\.333 is chance"),
        ({"agreement": 1.2}, r"--agreement 1\.2: expected 0\.333 to 1"),
        ({"val": -0.1}, r"--val -0\.1: expected 0 to 1"),
        ({"test": float("nan")}, r"--test nan: expected 0 to 1"),
        ({"scale": (0.5, 1.2)}, r"the mark would be larger than the picture"),
        ({"scale": (0.5, 0.2)}, r"expected two shares of the picture's side, the smaller one first"),
        ({"scale": (0.05, 0.2)}, r"a mark of 1\.6 px on 32 px cannot be made out"),
        ({"mark": "tga"}, r"tag"),
        ({"mark": "logo.png", "speaks_for": "cpu"}, r"--for: .*cup"),
        ({"speaks_for": "cup"}, r"a tag has a colour for each class; give a PNG as --mark"),
        ({"mark": "clear.png"}, r"the mark is fully transparent"),
        ({"mark": "solid.png"}, r"every pixel is opaque, so the mark would be a rectangle"),
        ({"mark": "missing.png"}, r"missing\.png"),
    ],
)
def test_impossible_wishes_are_refused(
    photographs: Path, tmp_path: Path, changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_logo(tmp_path / "logo.png", np.full((8, 8), 255) * np.eye(8))
    save_logo(tmp_path / "clear.png", np.zeros((8, 8)))
    Image.new("RGB", (8, 8)).save(tmp_path / "solid.png")
    with pytest.raises(Refusal, match=message):
        plant(photographs, tmp_path / "x.h5", replace(Wish(), **changes))
    assert not (tmp_path / "x.h5").exists()


def test_a_file_is_planted_again_as_its_photographs_would_be(photographs: Path, tmp_path: Path) -> None:
    """Marks in other shares on the same photographs, at the same places: whatever lay on them before is gone."""
    plant(photographs, tmp_path / "strong.h5", Wish(agreement=1.0), workers=1)
    plant(photographs, tmp_path / "weak.h5", Wish(agreement=0.5, val=0.25, test=0.75), workers=1)
    replant(tmp_path / "strong.h5", tmp_path / "again.h5", {"train": 0.5, "val": 0.25, "test": 0.75}, workers=1)
    assert FlowerStore(tmp_path / "again.h5").fingerprint == FlowerStore(tmp_path / "weak.h5").fingerprint
    with pytest.raises(WrongUsage, match=r"--agreement 0.1: expected 0.333 to 1"):
        replant(tmp_path / "strong.h5", tmp_path / "x.h5", {"train": 0.1, "val": 0.1, "test": 0.1})


def test_misplaced_marks_are_refused(planted: FlowerStore) -> None:
    planting = planting_of(planted)
    assert planting is not None
    rows = planted["test"].rows(0, 3)
    for column, value in ((0, 3), (0, -2), (1, -1), (2, 30), (3, 0), (3, 99)):
        placed = rows.placed.copy()
        placed[1, column] = value
        with pytest.raises(Refusal, match="has marks"):
            exchange_marks(rows._replace(placed=placed), planting, placed[:, 0], "x.h5")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: "{",
        lambda document: "[" * 100_000,
        lambda document: "[]",
        lambda document: {**document, "scale": [0.5, 2]},
        lambda document: {**document, "scale": [0.1]},
        lambda document: {**document, "seed": 1e999},
        lambda document: {**document, "agreement": {"train": 2, "val": 0, "test": 0}},
        lambda document: {**document, "speaks_for": [0, 1]},
        lambda document: {**document, "speaks_for": [0, 1, 7]},
        lambda document: {**document, "pictures": [{"colour": "AAAA", "opacity": "AAAA"}] * 3},
        lambda document: {
            **document,
            "pictures": [dict.fromkeys(("colour", "opacity"), p["colour"]) for p in document["pictures"]],
        },
        lambda document: {key: value for key, value in document.items() if key != "mark"},
    ],
)
def test_damaged_plantings_are_refused(
    planted: FlowerStore, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    import h5py

    path = Path(shutil.copy(planted.path, tmp_path / "x.h5"))
    with h5py.File(path, "r+") as file:
        changed = change(json.loads(file.attrs["planting"]))
        file.attrs["planting"] = changed if isinstance(changed, str) else json.dumps(changed)
    with pytest.raises(Refusal, match=r"x\.h5: "):
        planting_of(FlowerStore(path))


def test_a_file_without_the_photographs_below_is_refused(planted: FlowerStore, tmp_path: Path) -> None:
    import h5py

    path = Path(shutil.copy(planted.path, tmp_path / "x.h5"))
    with h5py.File(path, "r+") as file:
        del file["test/below"]
    with pytest.raises(Refusal, match="lacks the photographs below its marks"):
        planting_of(FlowerStore(path))


def test_rows_planted_in_blocks_are_those_planted_at_once() -> None:
    planting = plan_marks(Wish(), CLASSES)
    images = np.random.default_rng(0).integers(0, 255, (40, 24, 24, 3)).astype(np.uint8)
    labels = np.arange(40) % 3
    whole = plant_rows(images, labels, planting, Block("train", 0, 40))
    part = plant_rows(images[16:32], labels[16:32], planting, Block("train", 16, 32))
    for name in ("images", "masks", "coverage", "below", "placed"):
        assert (getattr(whole, name)[16:32] == getattr(part, name)).all(), name


def test_the_command_says_what_it_planted(photographs: Path, run: Run, tmp_path: Path) -> None:
    done = json.loads(run("plant", photographs, "-o", "x.h5", "--agreement", "1", "--json").stdout)
    assert done["splits"] == {"train": 24, "val": 3, "test": 9}
    assert done["agreeing"] == {"train": 1.0, "val": 1.0, "test": 0.0}
    assert done["planting"]["speaks_for"] == list(CLASSES)
    assert "100.0% agree" in run("plant", photographs, "-o", "x.h5", "--agreement", "1", "--force").stdout
    assert "0.0% of the rows" in run("inspect", "x.h5").stdout
    weaker = json.loads(run("plant", "x.h5", "--agreement", "0.5", "--val", "0", "-o", "y.h5", "--json").stdout)
    assert weaker["agreeing"]["train"] < 1
    assert weaker["agreeing"]["val"] == weaker["agreeing"]["test"] == 0
    fixed = run("plant", "x.h5", "--mark", "ball", "--seed", "0", "-o", "z.h5", check=False)
    assert fixed.returncode == 2
    assert "--mark, --seed: x.h5 has marks, places and a size already" in fixed.stderr
    refused = run("plant", photographs, "-o", "x.h5", check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == "Error: x.h5: exists; replace it with --force, or write elsewhere with -o"
