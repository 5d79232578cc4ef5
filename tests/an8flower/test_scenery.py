"""Grounds of natural statistics: their spectra, their discs against slow ones, and what they change."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower import draw, interventions, scenery
from an8flower.factors import PARTS, Value
from an8flower.marking import locate_evidence, marked_parts
from an8flower.render import LIGHT, SRGB, TONES, WHITE, render, render_marked
from an8flower.scene import build
from an8flower.spec import load
from an8flower.store import COVERED

KINDS = ("noise", "leaves")
BARE: dict[str, Value] = {"petals.count": 0, "disc.count": 0, "stem.count": 0, "leaves.count": 0}


def rows_of(kind: str, count: int = 8, **changes: Value) -> np.ndarray:
    """The factors of some rows of single-6c on another ground."""
    table = draw.factors(load("single-6c"), "test", 0, count)
    return draw.override(table, {"background.kind": kind, "background.colour": "stone", **changes})


def grounds(kind: str, size: int, count: int = 8, **changes: Value) -> np.ndarray:
    """Pictures (n, S, S, 3) of grounds alone."""
    return render(build(rows_of(kind, count, **BARE, **changes)), size, threads=1)[0]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_the_amplitude_of_noise_falls_with_the_frequency(exponent: float) -> None:
    size, changes = 64, {"background.exponent": exponent, "background.contrast": 0.4, "background.scale": 1.0}
    pictures = grounds("noise", size, 60, **changes).mean(axis=3)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = (np.abs(np.fft.fft2((pictures - pictures.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.fft.fftfreq(size, 1 / size))
    rings = [(frequency >= low) & (frequency < 1.5 * low) for low in (3, 4.5, 6.75, 10, 15)]
    amplitude = [0.5 * np.log(power[ring].mean()) for ring in rings]
    slope = np.polyfit([np.log(frequency[ring]).mean() for ring in rings], amplitude, 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)


def test_noise_has_the_colour_the_strength_and_the_hues_that_are_asked_for() -> None:
    plain = grounds("plain", 48)[:, 0, 0].astype(float)
    grey = grounds("noise", 48, 40, **{"background.hues": 0.0, "background.contrast": 0.5}).astype(float)
    assert grey.mean((0, 1, 2)) == pytest.approx(plain.mean(0), rel=0.05)
    assert (grey / plain.mean(0)).std() == pytest.approx(0.5 * scenery.BRIGHTNESS, rel=0.2)
    shares = grey / grey.mean((0, 1, 2))
    assert np.abs(shares[..., 0] - shares[..., 2]).max() < 0.02
    coloured = grounds("noise", 48, 40, **{"background.hues": 1.0, "background.contrast": 0.5}).astype(float)
    assert np.abs(coloured[..., 0] - coloured[..., 2]).std() > 5
    flat = grounds("noise", 48, **{"background.contrast": 0.0})
    assert np.abs(flat.astype(int) - plain[0]).max() <= 1


def test_coarse_waves_are_left_out_at_a_small_scale() -> None:
    def coarse(scale: float) -> float:
        pictures = grounds("noise", 64, 30, **{"background.scale": scale, "background.hues": 0.0}).mean(3)
        return float(pictures.reshape(-1, 4, 16, 4, 16).mean((2, 4)).std(axis=(1, 2)).mean() / pictures.std())

    assert coarse(0.1) < 0.35 * coarse(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_ground_at_every_size(kind: str) -> None:
    changes: dict[str, Value] = {"background.hues": 0.2, "background.exponent": 1.3}
    small, large = (grounds(kind, size, 4, **changes).astype(float) for size in (48, 96))
    shrunk = large.reshape(4, 48, 2, 48, 2, 3).mean((2, 4))
    for row in range(4):
        assert np.corrcoef(small[row].ravel(), shrunk[row].ravel())[0, 1] > 0.85


@pytest.mark.parametrize("step", [0, 7])
def test_leaves_are_discs_that_hide_each_other(step: int) -> None:
    """A slow painter asks every disc at every pixel; at rims it counts 16 x 16 samples of the uppermost disc."""
    size, seed = 24, scenery.LITTER_SEED + step
    litter = scenery.leaf_litter(size)
    scale = 0.1 ** (1 - step / 7)
    most = scenery.LEAST_RADIUS + scale * (scenery.MOST_RADIUS - scenery.LEAST_RADIUS)
    places = (np.arange(3 * size) + 0.5) / size
    owner = np.zeros((3 * size, 3 * size), int)
    k, area, discs = 0, 0.0, {}
    mean_square = 2 * np.log(most / 0.036) / (0.036**-2 - most**-2)
    while (k + 1) <= scenery.LAYERS * 9 / (np.pi * mean_square):
        k += 1
        radius = 0.036 / np.sqrt(1 - scenery.noise(k, 0, seed) * (1 - (0.036 / most) ** 2))
        x, y = ((3 + 2 * radius) * scenery.noise(k, axis, seed) - radius for axis in (1, 2))
        discs[k], area = (x, y, radius), area + np.pi * radius**2
        owner[np.hypot(places[None, :] - x, places[:, None] - y) <= radius] = k
    assert area / 9 == pytest.approx(scenery.LAYERS, rel=0.25)
    inner = litter.share[step] == 255
    assert inner.mean() > 0.1
    assert (litter.top[step][inner] == (owner & 255)[inner]).mean() > 0.995
    for i, j in np.argwhere(~inner)[:: len(inner)]:
        candidates = [owner[i, j], *owner[max(0, i - 1) : i + 2, j], *owner[i, max(0, j - 1) : j + 2]]
        x, y, radius = discs[max(candidates)]
        fine = (np.arange(16) + 0.5) / 16
        covered = np.hypot((j + fine[None, :]) / size - x, (i + fine[:, None]) / size - y) <= radius
        assert litter.share[step][i, j] / 255 == pytest.approx(covered.mean(), abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_contrast_and_hues_of_leaves(kind: str) -> None:
    flat = grounds(kind, 32, **{"background.contrast": 0.0})
    assert np.abs(flat.astype(int) - grounds("plain", 32)).max() <= 1
    grey = grounds(kind, 32, 20, **{"background.hues": 0.0}).astype(float)
    strong = grounds(kind, 32, 20, **{"background.hues": 0.0, "background.contrast": 0.3}).astype(float)
    assert strong.std() < 0.5 * grey.std()


@pytest.mark.parametrize("kind", KINDS)
def test_a_ground_changes_only_pixels_that_show_it(kind: str) -> None:
    table = rows_of(kind)
    scenes = build(table)
    images = render(scenes, 48, threads=1)[0]
    seen = render(scenes, 96, threads=1)[1].reshape(-1, 48, 2, 48, 2)
    covered = (seen != PARTS.index("background")).all(axis=(2, 4))
    bare = (seen == PARTS.index("background")).all(axis=(2, 4))
    for change in ("background.texture", "background.contrast", "background.hues", "background.scale"):
        value: Value = 77 if change == "background.texture" else 0.11
        others = render(build(draw.override(table, {change: value})), 48, threads=1)[0]
        differ = (images != others).any(axis=3)
        assert differ.any()
        assert not (differ & covered).any()
    for factor, colour in (("petals.colour", "pink"), ("disc.colour", "red"), ("leaves.shape", "long")):
        others = render(build(draw.override(table, {factor: colour})), 48, threads=1)[0]
        moved = render(build(draw.override(table, {factor: colour})), 96, threads=1)[1].reshape(-1, 48, 2, 48, 2)
        still = bare & (moved == PARTS.index("background")).all(axis=(2, 4))
        assert (images[still] == others[still]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_evidence_and_void_changes_with_the_class(kind: str) -> None:
    spec = load("single-6c").with_changes(size=42)
    labels, table = draw.labels(spec, "test", 0, 24), rows_of(kind, 24)
    rendering = render_marked(build(table), 42, marked_parts(spec)[labels], threads=1)
    located = locate_evidence(spec, labels, table, rendering)
    void = np.where(located.masks > 0, located.coverage != COVERED, located.coverage != 0)
    for label in range(spec.class_count):
        as_class = interventions.as_class(spec, table, np.full(24, label))
        differ = (render(build(as_class), 42, threads=1)[0] != rendering.images).any(axis=3)
        assert not (differ & (located.masks == 0) & ~void).any()
    assert (differ & void).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_shadow_falls_on_the_ground(kind: str) -> None:
    with_pot = rows_of(kind, **BARE, **{"pot.count": 1, "view.elevation": 40.0})
    scenes = build(with_pot)
    lit, seen = render(scenes._replace(shadow=scenes.shadow * (1, 1, 1, 1, 0)), 48, threads=1)
    dark = render(scenes, 48, threads=1)[0]
    y, x = (1 - 2 * (np.mgrid[:48, :48] + 0.5) / 48) * np.array([1, -1])[:, None, None]
    for row in range(len(dark)):
        left, down, width, height, darkness = scenes.shadow[row]
        inside = np.maximum(0, 1 - ((x - left) / width) ** 2 - ((y - down) / height) ** 2)
        expected = LIGHT[lit[row]] * (1 - darkness * inside**2)[..., None]
        bytes_ = SRGB[np.minimum(TONES - 1, (expected * (TONES - 1) / WHITE + 0.5).astype(int))]
        ground = seen[row] == 0
        ground &= (lit[row] == render(build(rows_of(kind, **BARE)), 48, threads=1)[0][row]).all(axis=2)
        assert np.abs(dark[row].astype(int) - bytes_)[ground].max() <= 1
        assert (dark[row][ground] < lit[row][ground]).any()


def test_light_is_the_inverse_of_bytes() -> None:
    shown = SRGB[np.minimum(TONES - 1, (LIGHT * (TONES - 1) / WHITE + 0.5).astype(int))]
    assert np.abs(shown.astype(int) - np.arange(256)).max() <= 1
    assert (shown[16:] == np.arange(256)[16:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_grouping_change_no_ground(kind: str) -> None:
    table = rows_of(kind, 70)
    whole = render(build(table), 24, threads=1)[0]
    assert render(build(table), 24, threads=3)[0].tobytes() == whole.tobytes()
    parts = [render(build(table[start : start + 9]), 24, threads=1)[0] for start in range(0, 70, 9)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
