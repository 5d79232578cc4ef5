"""Folders of photographs: what is taken, what is refused by name, and which split each photograph belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from an8flower.errors import Refusal
from an8flower.photographs import Photograph, as_jpeg, assign_splits, list_photographs, read_photograph, scale_down
from an8flower.splits import SPLITS, split_sizes


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> Path:
    """A picture of random pixels in some mode and format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


def some(count: int) -> list[Photograph]:
    return [Photograph(Path(f"{i}.png"), f"{i}.png", f"{i * 7919 % 1000:064d}", None) for i in range(count)]


def test_folders_within_are_read_and_the_rest_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "b.JPG", 1)
    paint(tmp_path / "inner" / "deep" / "a.png", 2)
    paint(tmp_path / ".hidden" / "c.png", 3)
    paint(tmp_path / ".d.png", 4)
    (tmp_path / "inner" / "note.txt").write_text("x")
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "b.JPG").read_bytes())
    listing = list_photographs(tmp_path)
    assert [photograph.name for photograph in listing.photographs] == ["b.JPG", "inner/deep/a.png"]
    assert (listing.left_out, listing.repeats) == (("inner/note.txt",), ("copy.jpg",))
    first, second = listing.remarks()
    assert first == "1 files (inner/note.txt) are no pictures by their names, and are left out"
    assert "copy.jpg" in second
    assert [photograph.name for photograph in list_photographs(tmp_path, ["b.JPG"]).photographs] == ["b.JPG"]


def test_what_is_no_folder_of_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no such folder"):
        list_photographs(tmp_path / "none")
    with pytest.raises(Refusal, match="no photographs in it"):
        list_photographs(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(Refusal, match=r"1 files \(a\.txt\) are none of PNG"):
        list_photographs(tmp_path)
    paint(tmp_path / "a.png")
    with pytest.raises(Refusal, match=r'unknown photograph "b\.png"; did you mean "a\.png"'):
        list_photographs(tmp_path, ["b.png"])
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Refusal, match=r"pipe\.png: a named pipe came"):
        list_photographs(tmp_path)


def test_own_folders_of_splits_are_kept(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "validation", "test")):
        paint(tmp_path / split / "x.png", i)
    shares = assign_splits(list_photographs(tmp_path).photographs, SPLITS)
    assert {split: [p.name for p in members] for split, members in shares.items()} == {
        "train": ["train/x.png"],
        "val": ["validation/x.png"],
        "test": ["test/x.png"],
    }
    (tmp_path / "test" / "y.png").write_bytes((tmp_path / "train" / "x.png").read_bytes())
    with pytest.raises(Refusal, match=r"test/y\.png and train/x\.png are the same photograph in two splits"):
        list_photographs(tmp_path)
    (tmp_path / "test" / "y.png").unlink()
    (tmp_path / "test" / "x.png").unlink()
    with pytest.raises(Refusal, match="no photographs for test"):
        assign_splits(list_photographs(tmp_path).photographs, SPLITS)


@given(st.integers(1, 300), st.sets(st.sampled_from(SPLITS), min_size=1))
def test_no_photograph_is_in_two_splits(count: int, splits: set[str]) -> None:
    photographs = some(count)
    if count < len(splits):
        with pytest.raises(Refusal, match="no photograph may be in two of them"):
            assign_splits(photographs, splits)
        return
    shares = assign_splits(photographs, splits)
    assert set(shares) == splits
    assert all(shares.values())
    digests = [photograph.digest for members in shares.values() for photograph in members]
    assert sorted(digests) == sorted(photograph.digest for photograph in photographs)
    assert assign_splits(photographs[::-1], splits) == shares
    if splits == set(SPLITS) and count >= 10:
        assert all(abs(len(shares[split]) - size) <= 1 for split, size in split_sizes(count).items())


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "L"), ("a.jpg", "CMYK"), ("a.png", "P"), ("a.png", "RGBA"), ("a.tif", "LAB"), ("a.webp", "RGB")],
)
def test_pictures_of_any_mode_become_rgb(tmp_path: Path, name: str, mode: str) -> None:
    paint(tmp_path / name, mode=mode)
    (photograph,) = list_photographs(tmp_path).photographs
    picture = read_photograph(photograph)
    assert (picture.mode, picture.size) == ("RGB", (40, 30))


def test_sixteen_bits_and_animations_are_read(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    deep, moving = map(read_photograph, list_photographs(tmp_path).photographs)
    assert (np.asarray(deep)[..., 0] == (grey.astype(int) * 255 + 32767) // 65535).all()
    assert moving.getpixel((3, 3)) == (255, 0, 0)


def test_a_camera_that_was_turned_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    paint(tmp_path / "turned.png", size=(40, 30), exif=exif)
    (photograph,) = list_photographs(tmp_path).photographs
    assert read_photograph(photograph).size == (30, 40)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no picture"])
def test_damaged_and_small_pictures_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    (photograph,) = list_photographs(tmp_path).photographs
    with pytest.raises(Refusal, match=r"bad\.jpg: cannot be read as a picture"):
        read_photograph(photograph)
    paint(tmp_path / "bad.jpg", size=(400, 30))
    with pytest.raises(Refusal, match=r"bad\.jpg: 400 x 30 px came, expected at least 31 on the shorter side"):
        read_photograph(photograph, 31)


def test_copies_are_scaled_down_and_never_up() -> None:
    picture = Image.new("RGB", (300, 201), "red")
    assert scale_down(picture, 100).size == (149, 100)
    assert scale_down(picture, 500) is picture
    assert as_jpeg(picture, 90)[:2] == b"\xff\xd8"
