"""Importing somebody else's pictures: what matches is kept to the pixel, what does not is reported and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from an8flower.errors import Refusal
from an8flower.importing import foreground, import_folders, match
from an8flower.picture import frame
from an8flower.store import FlowerStore, verify

from ..conftest import Run


def write_release(root: Path, classes: int = 2, images: int = 10, side: int = 32, mode: str = "L") -> tuple[Path, Path]:
    """A small data set in the layout of the original release: JPEG pictures, PNG masks."""
    chance = np.random.default_rng(0)
    for label in range(classes):
        for folder in (root / "NAME" / f"class{label}", root / "NAME_MASK" / f"class{label}"):
            folder.mkdir(parents=True)
        for i in range(images):
            picture = chance.integers(0, 255, (side, side, 3), np.uint8)
            stem = f"class{label}_img{i // 2}_p{i % 2}_r1"
            Image.fromarray(picture).save(root / "NAME" / f"class{label}" / f"{stem}.jpg", quality=95)
            mask = np.zeros((side, side), np.uint8)
            mask[i : i + 8, 4:20] = 255
            Image.fromarray(mask).convert(mode).save(root / "NAME_MASK" / f"class{label}" / f"{stem}.png")
    return root / "NAME", root / "NAME_MASK"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_masks_of_any_mode(tmp_path: Path, mode: str) -> None:
    images, masks = write_release(tmp_path, mode=mode)
    found = import_folders(images, masks, tmp_path / "x.h5", workers=2)
    store = FlowerStore(tmp_path / "x.h5")
    assert store.class_names == ["class0", "class1"]
    assert store.spec is None
    assert all(holds for _, holds in verify(store.path))
    for split, pairs in found.splits.items():
        rows = store[split].rows(0, len(store[split]))
        assert rows.parts is None
        assert rows.factors is None
        for i, pair in enumerate(pairs):
            assert (rows.images[i] == np.asarray(Image.open(pair.image).convert("RGB"))).all()
            assert (rows.masks[i] == (np.asarray(Image.open(pair.mask).convert("L")) > 127)).all()
            assert rows.labels[i] == pair.label


def test_views_of_one_base_image_stay_in_one_split(tmp_path: Path) -> None:
    images, masks = write_release(tmp_path, images=20)
    splits = import_folders(images, masks, tmp_path / "x.h5").splits
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 28, "val": 4, "test": 8}
    groups = [{(pair.label, pair.group) for pair in pairs} for pairs in splits.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_an_import_is_the_same_each_time(tmp_path: Path) -> None:
    images, masks = write_release(tmp_path)
    for name in ("x", "y"):
        import_folders(images, masks, tmp_path / f"{name}.h5", workers=1 if name == "x" else 3)
    assert FlowerStore(tmp_path / "x.h5").digest == FlowerStore(tmp_path / "y.h5").digest


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    images, masks = write_release(tmp_path)
    for folder, suffix in ((images, "jpg"), (masks, "png")):
        path = folder / "class1" / f"class1_img0_p0_r1.{suffix}"
        Image.open(path).resize((48, 40)).save(path)
    with pytest.raises(Refusal, match=r"one square size expected, 32x32 .* 48x40 .* scale them with --size PX"):
        import_folders(images, masks, tmp_path / "x.h5")
    with pytest.raises(
        Refusal, match=r"class1_img0_p0_r1.jpg: 48 x 40 px is no square; say with --fit whether to crop"
    ):
        import_folders(images, masks, tmp_path / "x.h5", size=16)
    import_folders(images, masks, tmp_path / "x.h5", size=16, fit="squeeze")
    rows = FlowerStore(tmp_path / "x.h5")["train"].rows(0, 5)
    assert rows.images.shape == (5, 16, 16, 3)
    assert set(np.unique(rows.masks)) <= {0, 1}
    assert rows.masks.mean() > 0.05


def _remove(*path: str) -> object:
    return lambda root: root.joinpath(*path).unlink()


def _twice(root: Path) -> None:
    path = root / "NAME_MASK" / "class0" / "class0_img0_p0_r1.png"
    Image.open(path).save(path.with_suffix(".bmp"))


def _new_class(root: Path) -> None:
    (root / "NAME" / "class9").mkdir()
    Image.new("L", (32, 32)).save(root / "NAME" / "class9" / "x.png")


def _other_size(root: Path) -> None:
    path = root / "NAME_MASK" / "class0" / "class0_img0_p0_r1.png"
    Image.open(path).resize((8, 8)).save(path)


def _label_numbers(root: Path) -> None:
    path = root / "NAME_MASK" / "class0" / "class0_img0_p0_r1.png"
    Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)


def _text(root: Path) -> None:
    (root / "NAME" / "class0" / "class0_img0_p0_r1.jpg").write_text("hello")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_remove("NAME", "class0", "class0_img0_p0_r1.jpg"), "0 only in the first, 1 only in the second"),
        (
            _remove("NAME_MASK", "class1", "class1_img4_p1_r1.png"),
            "1 only in the first, 0 only in the second .class1_img4_p1_r1",
        ),
        (_twice, "have the same stem; remove one"),
        (_new_class, "1 only in the first, 0 only in the second .class9"),
        (_other_size, "scale one of them"),
        (_label_numbers, "values up to 1 of 255 came, so nothing reaches half"),
        (_text, "cannot be read as a picture"),
    ],
)
def test_what_does_not_match_is_refused(tmp_path: Path, damage: object, words: str) -> None:
    images, masks = write_release(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(Refusal, match=words):
        import_folders(images, masks, tmp_path / "x.h5", workers=1)
    assert not (tmp_path / "x.h5").exists()


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no such folder"):
        match(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").mkdir()
    with pytest.raises(Refusal, match="no pictures"):
        match(tmp_path / "a", tmp_path / "a")


def test_half_is_half() -> None:
    mask = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    assert foreground(mask, "x").tolist() == [[False, False, True, True]]
    deep = Image.fromarray(np.array([[0, 32767, 32768, 65535]], np.uint16))
    assert foreground(deep, "x").tolist() == [[False, False, True, True]]
    coloured = Image.fromarray(np.array([[[200, 0, 0], [0, 0, 90]]], np.uint8))
    assert foreground(coloured, "x").tolist() == [[True, False]]
    assert not foreground(Image.new("L", (4, 4)), "x").any()


# --- what used to go wrong without a word -----------------------------------------------------------------------------


def only_pair(root: Path, image: Image.Image, mask: Image.Image, **how: object) -> tuple[np.ndarray, np.ndarray]:
    """The stored picture and mask of one pair of files."""
    for name, picture, suffix in (("I", image, "tif"), ("M", mask, "tif")):
        (root / name / "a").mkdir(parents=True)
        picture.save(root / name / "a" / f"x.{suffix}", **(how if name == "I" else {}))
    import_folders(root / "I", root / "M", root / "x.h5", workers=1)
    store = FlowerStore(root / "x.h5")
    rows = store[store.splits[0]].rows(0, 1)
    return rows.images[0], rows.masks[0]


def corner(side: int = 16) -> np.ndarray:
    """A mask of the upper left quarter, (side, side) uint8."""
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2, : side // 2] = 255
    return mask


def test_sixteen_bits_are_scaled_as_explain_scales_them(tmp_path: Path) -> None:
    image, _ = only_pair(tmp_path, Image.fromarray(np.full((16, 16), 32768, np.uint16)), Image.fromarray(corner()))
    assert (image == 128).all()


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[8:] = (255, 0, 0, 255)
    image, _ = only_pair(tmp_path, Image.fromarray(clear), Image.fromarray(corner()))
    assert (image[:8] == 255).all()
    assert (image[8:] == (255, 0, 0)).all()


def test_the_rotation_of_a_camera_is_applied(tmp_path: Path) -> None:
    """The mask was drawn on the upright picture; picture and mask then mark the same corner."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: what is stored lies on its left side
    stored = Image.fromarray(np.rot90(corner()).copy())
    image, mask = only_pair(tmp_path, stored, Image.fromarray(corner()), exif=exif)
    assert ((image[:, :, 0] > 0) == (mask > 0)).all()


def test_masks_in_other_colours_are_not_inverted(tmp_path: Path) -> None:
    mask = Image.fromarray(corner()).convert("RGB").convert("CMYK")
    _, marked = only_pair(tmp_path, Image.new("RGB", (16, 16)), mask)
    assert ((marked > 0) == (corner() > 0)).all()


def test_what_is_left_out_is_named_and_what_is_hidden_is_no_class(tmp_path: Path) -> None:
    images, masks = write_release(tmp_path)
    (images / "class0" / "more").mkdir()
    (images / "class0" / "more" / "deep.jpg").touch()
    (images / "class1" / "notes.txt").touch()
    (images / "class1" / "._img1.jpg").touch()
    (images / ".ipynb_checkpoints").mkdir()
    (masks / "empty").mkdir()
    matched = match(images, masks)
    assert matched.class_names == ("class0", "class1")
    assert set(matched.left_out) == {images / "class0" / "more", images / "class1" / "notes.txt", masks / "empty"}
    lonely = masks / "class0" / "cat.png"
    Image.new("L", (32, 32)).save(lonely)
    (images / "class0" / "cat.heic").touch()
    with pytest.raises(Refusal, match=r"1 only in the second \(cat\); cat.heic is none of PNG, JPEG"):
        match(images, masks)


def test_the_command_counts_what_masks_mark(tmp_path: Path, run: Run) -> None:
    images, masks = write_release(tmp_path)
    Image.new("L", (32, 32)).save(masks / "class0" / "class0_img0_p0_r1.png")
    Image.new("L", (32, 32), 255).save(masks / "class0" / "class0_img0_p1_r1.png")
    (images / "notes.txt").touch()
    document = json.loads(run("import", images, masks, "-o", "x.h5", "--json").stdout)
    assert (document["rows"], document["empty"], document["full"]) == (20, 1, 1)
    assert document["share"] == pytest.approx((18 * 128 + 1024) / 20 / 1024)
    assert sum(document["splits"].values()) == 20
    assert document["left_out"] == [str(images / "notes.txt")]
    text = run("import", images, masks, "-o", "x.h5", "--force").stdout
    assert "1 rows without any, 1 that are nothing but evidence" in text
    assert "left out: 1" in text
    assert "exists; replace it with --force" in run("import", images, masks, "-o", "x.h5", check=False).stderr


def write_with_border(root: Path) -> tuple[Path, Path]:
    """A release whose masks have a border of 200 around what is marked."""
    images, masks = write_release(root)
    for path in masks.rglob("*.png"):
        mask = np.asarray(Image.open(path)).copy()
        rows, columns = np.nonzero(mask)
        bordered = np.full_like(mask, 0)
        bordered[max(rows.min() - 1, 0) : rows.max() + 2, columns.min() - 1 : columns.max() + 2] = 200
        bordered[mask > 0] = 255
        Image.fromarray(bordered).save(path)
    return images, masks


@pytest.mark.parametrize("size", [None, 16])
def test_a_value_for_void_is_taken_over(tmp_path: Path, size: int | None) -> None:
    images, masks = write_with_border(tmp_path)
    found = import_folders(images, masks, tmp_path / "x.h5", size=size, void=200)
    store = FlowerStore(tmp_path / "x.h5")
    rows, (pair, *_) = store["test"].rows(0, 1), found.splits["test"]
    mask = np.asarray(Image.open(pair.mask))
    fine = (mask == 200) if size is None else (mask == 200).reshape(16, 2, 16, 2).any((1, 3))
    assert (rows.void[0] == fine).all()
    assert (rows.masks[0][~fine] == (mask if size is None else mask[::2, ::2])[~fine] // 255).all()
    assert all(holds for _, holds in verify(store.path))
    assert store.lack is None


def test_without_such_a_value_nothing_is_void(tmp_path: Path) -> None:
    images, masks = write_with_border(tmp_path)
    import_folders(images, masks, tmp_path / "x.h5")
    rows = FlowerStore(tmp_path / "x.h5")["test"].rows(0, 1)
    assert (rows.coverage, rows.void) == (None, None)


def wide_pair(root: Path) -> tuple[Path, Path]:
    """A picture of 48 x 16 px, green where it is marked: one square at the centre, one at the left."""
    picture, mask = np.zeros((16, 48, 3), np.uint8), np.zeros((16, 48), np.uint8)
    for left in (0, 20):
        mask[4:12, left : left + 8] = 255
    picture[..., 1] = mask
    for name, pixels in (("I", picture), ("M", mask)):
        (root / name / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(root / name / "a" / "x.png")
    return root / "I", root / "M"


def test_a_picture_that_is_no_square_is_cropped_as_explain_does(tmp_path: Path) -> None:
    """Of picture and mask alike the square at the centre is kept; here nothing is scaled, so it is exact."""
    images, masks = wide_pair(tmp_path)
    import_folders(images, masks, tmp_path / "x.h5", fit="crop", workers=1)
    rows = FlowerStore(tmp_path / "x.h5")["train"].rows(0, 1)
    whole = np.asarray(Image.open(masks / "a" / "x.png")) > 0
    assert (rows.masks[0] == whole[:, 16:32]).all()
    assert (rows.images[0, :, :, 1] == 255 * whole[:, 16:32]).all()
    seen = frame(Image.open(images / "a" / "x.png").convert("RGB"), 16).seen
    assert (rows.images[0] == seen).all()


def test_a_picture_that_is_no_square_is_squeezed_on_demand(tmp_path: Path) -> None:
    images, masks = wide_pair(tmp_path)
    import_folders(images, masks, tmp_path / "x.h5", size=16, fit="squeeze", workers=1)
    rows = FlowerStore(tmp_path / "x.h5")["train"].rows(0, 1)
    assert rows.masks[0, 4:12].sum(0).astype(bool).tolist() == [True] * 3 + [False] * 4 + [True] * 2 + [False] * 7
    with pytest.raises(Refusal, match="48x16 .* scale them with --size PX"):
        import_folders(images, masks, tmp_path / "y.h5", fit="squeeze", workers=1)


def with_splits(root: Path, names: tuple[str, ...] = ("train", "valid", "test")) -> tuple[Path, Path]:
    """Pictures that are shared out already: 6, 2 and 4 of each of two classes, grey by their number."""
    for split, count in zip(names, (6, 2, 4), strict=True):
        for label, name in enumerate("ab"):
            for number in range(count):
                for kind in ("I", "M"):
                    place = root / kind / split / name / f"{number}.png"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("L", (16, 16), 100 * label + number if kind == "I" else 255).save(place)
    return root / "I", root / "M"


def test_splits_of_ones_own_are_kept(tmp_path: Path) -> None:
    images, masks = with_splits(tmp_path)
    import_folders(images, masks, tmp_path / "x.h5", workers=1)
    store = FlowerStore(tmp_path / "x.h5")
    assert store.class_names == ["a", "b"]
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        rows = store[split].rows(0, len(store[split]))
        values = sorted(zip(rows.labels.tolist(), rows.images[:, 0, 0, 0].tolist(), strict=True))
        assert values == [(label, 100 * label + number) for label in range(2) for number in range(count)]


def test_folders_that_only_look_like_splits_are_classes(tmp_path: Path) -> None:
    images, masks = write_release(tmp_path)
    for root in (images, masks):
        (root / "class0").rename(root / "train")
        (root / "class1").rename(root / "test")
    assert match(images, masks).class_names == ("test", "train")


def test_splits_that_do_not_match_are_refused(tmp_path: Path) -> None:
    images, masks = with_splits(tmp_path)
    (masks / "test" / "b" / "3.png").unlink()
    with pytest.raises(Refusal, match=r"pictures in .*test/b and masks in .*test/b do not match: 1 only in the first"):
        match(images, masks)
    (masks / "test").rename(masks / "held-out")
    with pytest.raises(Refusal, match="splits of .* do not match"):
        match(images, masks)


def test_a_split_that_two_folders_claim_is_refused(tmp_path: Path) -> None:
    images, masks = with_splits(tmp_path, ("train", "valid", "val"))
    with pytest.raises(Refusal, match="val and valid are the same split"):
        match(images, masks)


def test_classes_without_rows_in_a_split_are_named(tmp_path: Path, run: Run) -> None:
    images, masks = write_release(tmp_path, images=2)
    done = run("import", images, masks, "-o", "x.h5", "--json")
    assert set(json.loads(done.stdout)["splits"]) == {"train"}
    assert "Warning: no rows in val, test: training and scoring want some; give the classes more" in done.stderr
    images, masks = with_splits(tmp_path)
    for root in (images, masks):
        for path in (root / "test" / "b").iterdir():
            path.unlink()
    shutil.rmtree(images / "valid")
    shutil.rmtree(masks / "valid")
    warned = run("import", images, masks, "-o", "y.h5").stderr
    assert "Warning: no rows of b in test" in warned
    assert "no rows in val: training and scoring want some; add their folders beside the others" in warned


def test_pictures_larger_than_a_data_set_holds_are_refused(tmp_path: Path) -> None:
    for name in ("I", "M"):
        (tmp_path / name / "a").mkdir(parents=True)
        Image.new("L", (1030, 1030), 255).save(tmp_path / name / "a" / "x.png")
    with pytest.raises(Refusal, match="pictures of 1030 px came, expected at most 1024; scale them with --size"):
        import_folders(tmp_path / "I", tmp_path / "M", tmp_path / "x.h5")
    assert not list(tmp_path.glob("x.h5*"))


def test_a_palette_of_several_labels_is_no_mask(tmp_path: Path) -> None:
    """Three labels in three colours, two of them bright: which of them is evidence nobody knows."""
    labels = Image.new("P", (3, 1))
    labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    labels.putdata([0, 1, 2])
    with pytest.raises(Refusal, match="x: a palette of 3 colours came, and which of them is evidence is unclear"):
        foreground(labels, "x")
    labels.putpalette([0, 0, 0, 100, 100, 100, 255, 255, 255])  # shades of grey are the soft edge of one thing
    assert foreground(labels, "x").tolist() == [[False, False, True]]
    labels.putdata([0, 1, 1])
    labels.putpalette([0, 0, 0, 255, 0, 0])
    assert foreground(labels, "x").tolist() == [[False, True, True]]
