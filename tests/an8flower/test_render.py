"""The renderer against a slow second one, closed forms, and the promise that a change stays where it belongs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from an8flower import draw
from an8flower.album import open_album
from an8flower.factors import COLOURS, FACTORS, MAX_BALLS, PARTS, Factor, part_of
from an8flower.render import render
from an8flower.scene import MATERIALS, WHOLE, Scenes, build
from an8flower.spec import load, presets


def _neighbour(name: str) -> Any:
    """A module beside this one; the tests' folders are no packages."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


slow = _neighbour("slow_caster")

BUSY = {"pot.count": 1, "tag.count": 1, "distractors.count": 5, "petals.whorls": 2}
REACHES = {
    "head": ("petals", "disc", "stem"),
    "stem": ("stem", "leaves"),
}  # a head bends its stem, a stem carries leaves


def scenes_of(name: str, split: str, start: int, stop: int) -> Scenes:
    """Rows of a preset as scenes, on its photographs if it has any."""
    return build(draw.factors(load(name), split, start, stop), open_album(load(name), split))


def ellipsoids(*shapes: tuple[tuple[float, float, float], np.ndarray, int]) -> Scenes:
    """One row of plain ellipsoids, each given by its centre, axes and part."""
    count = len(shapes)
    centre = np.array([shape[0] for shape in shapes], float)
    axes = np.array([shape[1] for shape in shapes], float)
    return Scenes(
        offsets=np.array([0, count]),
        centre=centre,
        axes=axes,
        outline=np.tile(WHOLE, (count, 1)),
        colour=np.full((count, 3), 0.5),
        part=np.array([shape[2] for shape in shapes], np.uint8),
        material=np.full(count, MATERIALS.index("ball"), np.uint8),
        light=np.array([[0.0, 0.0, 1.0]]),
        strength=np.ones(1),
        up=np.array([[0.0, 1.0, 0.0]]),
        backdrop=np.full((1, 3), 0.2),
        kind=np.zeros(1, np.uint8),
        texture=np.zeros(1, np.int64),
        shadow=np.array([[0.0, 0.0, 0.1, 0.1, 0.0]]),
    )


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("size", [16, 37])
def test_equal_to_the_slow_caster(name: str, size: int) -> None:
    scenes = scenes_of(name, "test", 0, 4)
    images, parts = render(scenes, size)
    for row in range(4):
        image, part = slow.picture(scenes, row, size)
        assert (parts[row] == part).all()
        assert abs(images[row].astype(int) - image).max() <= 2


def test_equal_to_the_slow_caster_with_every_part_and_texture() -> None:
    table = draw.override(draw.factors(load("clutter-6c"), "val", 5, 8), BUSY)
    images, parts = render(build(table), 64)
    for row in range(3):
        image, part = slow.picture(build(table), row, 64)
        assert (parts[row] == part).all()
        assert abs(images[row].astype(int) - image).max() <= 2
    assert set(np.unique(parts)) == set(range(len(PARTS)))


@pytest.mark.parametrize("kind", ["noise", "leaves"])
def test_equal_to_the_slow_caster_on_painted_grounds(kind: str) -> None:
    table = draw.override(draw.factors(load("clutter-6c"), "val", 5, 8), {**BUSY, "background.kind": kind})
    images, parts = render(build(table), 48)
    for row in range(3):
        image, part = slow.picture(build(table), row, 48)
        assert (parts[row] == part).all()
        assert abs(images[row].astype(int) - image).max() <= 2


def test_a_sphere_covers_a_disc() -> None:
    _, parts = render(ellipsoids(((0.1, -0.05, 0), 0.6 * np.eye(3), 3)), 400)
    assert (parts > 0).mean() * 4 == pytest.approx(np.pi * 0.6**2, rel=2e-3)


def test_a_turned_ellipsoid_covers_its_ellipse() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    axes = np.diag([0.7, 0.4, 0.2]) @ turn
    _, parts = render(ellipsoids(((0, 0, 0), axes, 1)), 500)
    rows, columns = np.nonzero(parts[0])
    half_width, half_height = np.sqrt((axes**2).sum(axis=0))[:2]
    moment = axes.T @ axes
    assert np.ptp(columns) + 1 == pytest.approx(500 * half_width, abs=2)
    assert np.ptp(rows) + 1 == pytest.approx(500 * half_height, abs=2)
    assert (parts > 0).mean() * 4 == pytest.approx(np.pi * np.sqrt(np.linalg.det(moment[:2, :2])), rel=3e-3)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_one_hides_the_other(order: int) -> None:
    near, far = ((0, 0, 0.5), 0.2 * np.eye(3), 1), ((0, 0, -0.5), 0.6 * np.eye(3), 2)
    _, parts = render(ellipsoids(*[near, far][::order]), 101)
    assert parts[0, 50, 50] == 1
    assert parts[0, 50, 80] == 2
    assert parts[0, 50, 100] == 0


def test_light_comes_from_where_it_should() -> None:
    scenes = ellipsoids(((0, 0, 0), 0.8 * np.eye(3), 1))
    from_left = render(scenes._replace(light=np.array([[-0.8, 0.0, 0.6]])), 64)[0][0].astype(int)
    from_right = render(scenes._replace(light=np.array([[0.8, 0.0, 0.6]])), 64)[0][0].astype(int)
    assert from_left[32, 16].sum() > from_left[32, 47].sum() + 60
    assert abs(from_left - from_right[:, ::-1]).max() <= 1


@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_threads_and_grouping_change_nothing(threads: int | None) -> None:
    table = draw.factors(load("clutter-6c"), "train", 0, 100)
    whole = render(build(table), 32, threads=1)
    again = render(build(table), 32, threads)
    chunks = [render(build(table[start : start + 7]), 32, threads) for start in range(0, 100, 7)]
    for kind in (0, 1):
        assert again[kind].tobytes() == whole[kind].tobytes()
        assert np.concatenate([chunk[kind] for chunk in chunks]).tobytes() == whole[kind].tobytes()


def test_callers_in_several_threads_do_not_disturb_each_other() -> None:
    tables = [draw.factors(load("shape-6c"), "train", start, start + 20) for start in range(0, 160, 20)]
    one_by_one = [render(build(table), 32, threads=1)[0].tobytes() for table in tables]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda table: render(build(table), 32, threads=2)[0].tobytes(), tables))
    assert together == one_by_one


@pytest.mark.parametrize("name", presets())
def test_every_preset_shows_its_flowers(name: str) -> None:
    images, parts = render(scenes_of(name, "test", 0, 60), 112)
    petals = (parts == PARTS.index("petals")).mean(axis=(1, 2))
    assert petals.min() > (0.01 if name in ("photo-6c", "natural-12c") else 0.02)  # which have small flowers anywhere
    assert images.std(axis=(1, 2)).max(axis=1).min() > 10  # no picture is flat


def test_an_empty_scene_is_backdrop() -> None:
    counts = {f"{part}.count": 0 for part in PARTS[1:]}
    table = draw.override(draw.factors(load("single-6c"), "test", 0, 3), {**counts, "background.kind": "plain"})
    images, parts = render(build(table), 16)
    assert not parts.any()
    assert (images == images[:, :1, :1]).all()
    assert render(build(table[:0]), 16)[0].shape == (0, 16, 16, 3)


@pytest.mark.parametrize("colour", ["red", "orange", "yellow", "blue", "violet", "white"])
def test_a_colour_stays_itself_in_any_light(colour: str) -> None:
    """The median petal pixel is nearer to its class's colour than to any other class's, hue against hue."""
    table = draw.override(draw.factors(load("single-6c"), "train", 0, 80), {"petals.colour": colour})
    images, parts = render(build(table), 64)
    classes = {name: COLOURS[name] for name in ("red", "orange", "yellow", "blue", "violet", "white")}
    known = {name: np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) for name, code in classes.items()}
    for image, part in zip(images, parts, strict=True):
        seen = np.median(image[part == PARTS.index("petals")], axis=0)
        gaps = {name: np.linalg.norm(seen / seen.max() - code / code.max()) for name, code in known.items()}
        assert min(gaps, key=gaps.__getitem__) == colour
        assert seen.max() > 100


# --- a change stays where it belongs ----------------------------------------------------------------------------------


def of_parts() -> list[str]:
    """The factors whose reach is known: of a part, or of the head."""
    return [name for name in FACTORS if part_of(name) or name.startswith("head.")]


def value_of(factor: Factor) -> st.SearchStrategy[str | int | float]:
    """Any value that a factor may have."""
    if factor.kind == "colour":
        return st.sampled_from(sorted(COLOURS))
    if factor.kind == "choice":
        return st.sampled_from(factor.choices)
    if factor.kind == "count":
        return st.integers(int(factor.low), int(factor.high))
    return st.floats(factor.low, factor.high)


def touched(factor: str, before: Scenes, after: Scenes, size: int) -> np.ndarray:
    """The pixels (S, S) with a sample of a part that the factor reaches, before or after, and the shadows of both."""
    owner = factor.partition(".")[0]
    reached = [PARTS.index(part) for part in REACHES.get(owner, (owner,))]
    samples = np.zeros((2 * size, 2 * size), bool)
    for scenes in (before, after):  # the pixels' centres at twice the size are the samples
        samples |= np.isin(render(scenes, 2 * size, threads=1)[1][0], reached)
    pixels = samples.reshape(size, 2, size, 2).any(axis=(1, 3))
    return pixels | np.logical_or.reduce(list(shadows(owner, before, after, size)))


def shadows(owner: str, before: Scenes, after: Scenes, size: int) -> Iterator[np.ndarray]:
    """Where contact shadows lie; only what stands on the ground has one."""
    x, y = slow.grid(size)
    for scenes in (before, after):
        left, down, width, height, _ = scenes.shadow[0]
        yield (((x - left) / width) ** 2 + ((y - down) / height) ** 2 < 1) & (owner in ("pot", "stem"))


@settings(max_examples=120)
@given(st.sampled_from(presets()), st.integers(0, 2000), st.sampled_from(of_parts()), st.booleans(), st.data())
def test_an_override_changes_nothing_beyond_its_reach(
    name: str, row: int, factor: str, busy: bool, data: st.DataObject
) -> None:
    table = draw.override(draw.factors(load(name), "train", row, row + 1), BUSY if busy else {})
    changed = draw.override(table, {factor: data.draw(value_of(FACTORS[factor]))})
    album = open_album(load(name), "train")
    before, after = build(table, album), build(changed, album)
    differ = (render(before, 48, threads=1)[0][0] != render(after, 48, threads=1)[0][0]).any(axis=2)
    assert not (differ & ~touched(factor, before, after, 48)).any()


def test_the_most_crowded_scene_fits() -> None:
    crowd = {"petals.count": 16, "petals.whorls": 2, "leaves.count": 4, "distractors.count": MAX_BALLS}
    table = draw.override(draw.factors(load("clutter-6c"), "test", 0, 2), {**BUSY, **crowd})
    images, parts = render(build(table), 48)
    assert len(np.unique(parts)) >= 7
    assert images.shape == (2, 48, 48, 3)
