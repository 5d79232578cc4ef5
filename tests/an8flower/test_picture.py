"""Pictures of every kind: what Pillow can read comes out as upright RGB, and what has no white is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from an8flower.errors import Refusal
from an8flower.evaluate.explaining.panel import draw_picture_overlay, draw_picture_panel
from an8flower.picture import frame, read_picture


def test_every_mode_comes_out_as_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    for mode, name in (("RGB", "a.png"), ("P", "b.gif"), ("RGBA", "c.png"), ("CMYK", "d.tif"), ("RGB", "e.bmp")):
        red.convert(mode).save(tmp_path / name)
        assert np.abs(np.asarray(read_picture(tmp_path / name)).astype(int) - (255, 0, 0)).max() <= 2, name
    for mode, name in (("L", "f.png"), ("LA", "g.png"), ("1", "h.png")):
        Image.new("L", (6, 4), 255).convert(mode).save(tmp_path / name)
        assert (np.asarray(read_picture(tmp_path / name)) == 255).all(), name


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:, 2:] = (0, 0, 255, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = np.asarray(read_picture(tmp_path / "clear.png"))
    assert (found[:, :2] == 255).all()
    assert (found[:, 2:] == (0, 0, 255)).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(read_picture(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_the_rotation_of_a_camera_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    found = np.asarray(read_picture(tmp_path / "turned.png"))
    assert found.shape == (16, 8, 3)
    assert (found[:8] == 255).all()  # left is up after the turn
    assert (found[8:] == 0).all()


@pytest.mark.parametrize("kind", ["none", "text", "truncated", "float", "folder"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tif"
    if kind == "text":
        path.write_text("no picture")
    elif kind == "float":
        Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.png")
        path.write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with pytest.raises(Refusal, match=r"x\.tif"):
        read_picture(path)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40))
def test_a_model_sees_the_centre_and_the_panel_shows_the_whole(width: int, height: int, size: int) -> None:
    """The seen square is centred and as large as fits; what is drawn keeps the aspect ratio, however slim it is."""
    found = frame(Image.new("RGB", (width, height), (9, 200, 30)), size)
    left, upper, right, lower = found.box
    assert right - left == lower - upper == min(width, height)
    assert (left + right, upper + lower) == (width, height)
    assert found.seen.shape == (size, size, 3)
    assert (found.seen == (9, 200, 30)).all()
    ramp = np.linspace(-1, 1, size * size).reshape(size, size)
    assert draw_picture_overlay(found, ramp).size == (width, height)
    assert draw_picture_panel(found, ramp).width > draw_picture_overlay(found, ramp).width


def test_an_overlay_shows_the_map_where_it_belongs() -> None:
    saliency = np.zeros((10, 10), np.float32)
    saliency[:5, :5] = 1
    shown = np.asarray(draw_picture_overlay(frame(Image.new("RGB", (90, 30), (128,) * 3), 10), saliency)).astype(int)
    brightness = shown.sum(2)
    assert (shown[:, :30] == shown[0, 0]).all()
    assert shown[0, 0].min() > 200  # pale outside of the square, where 128 was
    assert brightness[2:12, 32:42].min() > brightness[18:28, 48:58].max() + 100
