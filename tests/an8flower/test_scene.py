"""Scenes: the same whoever builds them, all of a part or nothing of it, and in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from an8flower import draw
from an8flower.album import open_album
from an8flower.checks import ON_PHOTOGRAPHS
from an8flower.factors import FACTORS, PARTS
from an8flower.scene import MATERIALS, Scenes, build, camera_of, linear_rgb, stem_curve
from an8flower.spec import load, presets

PER_ELLIPSOID = ("centre", "axes", "outline", "colour", "part", "material")
ANYWHERE = ("natural-12c", "photo-6c")  # presets whose plants may be cut by the picture's edge
PER_ROW = ("light", "strength", "up", "backdrop", "kind", "texture", "shadow")


def row_of(scenes: Scenes, row: int) -> dict[str, np.ndarray]:
    """All that belongs to one row."""
    own = slice(scenes.offsets[row], scenes.offsets[row + 1])
    ellipsoids = {name: getattr(scenes, name)[own] for name in PER_ELLIPSOID}
    return ellipsoids | {name: getattr(scenes, name)[row] for name in PER_ROW}


@pytest.mark.parametrize("name", ["single-6c", "natural-12c"])
def test_arrays_lie_alike_for_one_row_and_for_many(name: str) -> None:
    """Otherwise the renderer is compiled anew for the first row that is rendered alone: seconds."""
    scenes = build(draw.factors(load(name), "train", 0, 3))
    assert all(array.flags.c_contiguous for array in (*scenes[:-1], *scenes.ground))


def reach(scenes: Scenes) -> np.ndarray:
    """How far (m, 3) each ellipsoid reaches from its centre along x, y and z: the roots of the sums of squares."""
    return np.sqrt((scenes.axes**2).sum(axis=1))


@settings(max_examples=25)
@given(st.sampled_from(presets()), st.integers(0, 3000), st.integers(1, 20), st.integers(0, 19))
def test_a_scene_is_the_same_in_any_company(name: str, start: int, count: int, offset: int) -> None:
    spec, place = load(name), offset % count
    album = open_album(spec, "train")
    among = row_of(build(draw.factors(spec, "train", start, start + count), album), place)
    alone = row_of(build(draw.factors(spec, "train", start + place, start + place + 1), album), 0)
    for key, value in alone.items():
        assert value.tobytes() == among[key].tobytes(), key


@pytest.mark.parametrize("part", ["petals", "disc", "stem", "leaves", "pot", "distractors", "tag"])
def test_a_count_of_zero_takes_a_part_away_and_nothing_else(part: str) -> None:
    table = draw.override(draw.factors(load("clutter-6c"), "test", 0, 30), {"pot.count": 1, "tag.count": 1})
    whole, lacking = build(table), build(draw.override(table, {f"{part}.count": 0}))
    others = whole.part != PARTS.index(part)
    assert not others.all()
    for name in PER_ELLIPSOID:
        assert (getattr(whole, name)[others] == getattr(lacking, name)).all()


def test_petals_are_as_many_as_they_should_be() -> None:
    table = draw.override(draw.factors(load("single-6c"), "test", 0, 3), {"petals.count": 7, "petals.whorls": 2})
    assert (build(table).part == PARTS.index("petals")).sum() == 3 * 7 * 2


@pytest.mark.parametrize("name", sorted({*presets()} - {*ANYWHERE}))
def test_plants_stay_in_the_picture_and_fill_it(name: str) -> None:
    low, high = edges_of(name)
    assert low.min() > -1
    assert high.max() < 1
    assert 0.55 < np.median(high[:, 1] - low[:, 1]) / 2 < 0.9


@pytest.mark.parametrize("name", ANYWHERE)
def test_small_plants_are_anywhere_and_none_is_far_outside(name: str) -> None:
    low, high = edges_of(name)
    assert (low < -1).any(0).all()
    assert (high > 1).any(0).all()
    assert (np.abs(low + high) / 2 < 1.1).all()
    assert 0.2 < np.median(high[:, 1] - low[:, 1]) / 2 < 0.5


def edges_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest x and y (2000, 2) of the plants of a preset, the picture's edges at -1 and 1."""
    scenes = build(draw.override(draw.factors(load(name), "train", 0, 2000), {"background.kind": "plain"}))
    plant = (scenes.part != PARTS.index("distractors")) & (scenes.part != PARTS.index("tag"))
    rows = np.repeat(np.arange(2000), np.diff(scenes.offsets))[plant]
    low, high = np.full((2, 2000, 2), 2.0) * np.array([1, -1])[:, None, None]
    np.minimum.at(low, rows, (scenes.centre - reach(scenes))[plant, :2])
    np.maximum.at(high, rows, (scenes.centre + reach(scenes))[plant, :2])
    return low, high


def test_the_camera_looks_from_its_elevation() -> None:
    """From the side a stem is as tall as it is, from above its two ends meet."""
    table = draw.factors(load("single-6c"), "train", 0, 2)
    table["view.elevation"] = (0, 90)
    table["stem.bend"] = 0
    scenes, camera = build(table), camera_of(table)
    for row, rise in enumerate((0.64, 0.0)):  # between the middles of the first and the last ellipsoid
        own = row_of(scenes, row)
        heights = own["centre"][own["material"] == MATERIALS.index("stem"), 1][:-1]  # without the calyx
        assert np.ptp(heights) / camera.scale[row] == pytest.approx(rise, abs=0.05)


def test_leaves_grow_out_of_the_stem() -> None:
    table = draw.factors(load("single-6c"), "train", 0, 20)
    own = build(table)
    leaves = own.part == PARTS.index("leaves")
    feet = (own.centre - own.axes[:, 0])[leaves]
    on_stem = own.centre[own.material == MATERIALS.index("stem")]
    gaps = np.linalg.norm(feet[:, None] - on_stem[None], axis=2).min(axis=1)
    assert gaps.max() < 0.15  # half of the spacing of a stem's ellipsoids
    assert np.isfinite(stem_curve(table, np.full((20, 1), 0.5))).all()


def test_axes_are_orthogonal() -> None:
    axes = build(draw.override(draw.factors(load("clutter-6c"), "train", 0, 50), {"pot.count": 1})).axes
    products = axes @ np.swapaxes(axes, 1, 2)
    off = products - products * np.eye(3)
    assert abs(off).max() < 1e-9


def test_colours_are_linear_light() -> None:
    assert linear_rgb("#808080") == pytest.approx((0.21586,) * 3, abs=1e-5)
    assert linear_rgb("red")[0] > linear_rgb("red")[1]


def extremes(name: str) -> list[tuple[str, str | float]]:
    """A factor with each of its names, or with the bounds of its numbers; `test_album.py` has photographs."""
    factor = FACTORS[name]
    if factor.kind in ("colour", "choice"):
        return [(name, each) for each in factor.choices or ("red", "#123456") if each not in ON_PHOTOGRAPHS]
    return [(name, factor.low), (name, factor.high)]


@pytest.mark.parametrize(("name", "value"), [case for name in FACTORS for case in extremes(name)])
def test_any_allowed_value_makes_a_scene(name: str, value: str | float) -> None:
    """Also at the bounds of the catalogue, far from the default ranges."""
    scenes = build(draw.override(draw.factors(load("clutter-6c"), "train", 3, 4), {name: value}))
    assert all(np.isfinite(getattr(scenes, each)).all() for each in (*PER_ELLIPSOID, *PER_ROW))
