"""Rows in other colours: nothing moves, the evidence keeps its look, and rows where that fails do not count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from an8flower import spec as specs
from an8flower.evaluate.data.world import World
from an8flower.evaluate.trust.unmoved import photograph_again, unmoving_factors
from an8flower.factors import FACTORS
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def world(small_file: Path) -> World:
    return World.of(FlowerStore(small_file)["test"], torch.device("cpu"))


def test_nothing_moves_and_something_changes(world: World) -> None:
    rows = torch.arange(6)
    images, counts = photograph_again(world, rows, repeat=0)
    stored = world.split.take(rows.numpy())
    before = torch.from_numpy(stored.images).permute(0, 3, 1, 2) / 255
    assert counts.all()
    assert (before != images).flatten(1).any(1).all()
    whole = torch.from_numpy((stored.masks > 0) & ~stored.void)
    assert torch.allclose(before.permute(0, 2, 3, 1)[whole], images.permute(0, 2, 3, 1)[whole], atol=1e-6)
    other, _ = photograph_again(world, rows, repeat=1)
    assert not torch.equal(images, other)


def test_a_row_that_stays_the_same_picture_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.trust.unmoved.unmoving_factors", lambda spec: [])
    _, counts = photograph_again(world, torch.arange(3), repeat=0)
    assert not counts.any()


def test_a_row_in_which_something_moves_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.trust.unmoved.unmoving_factors", lambda spec: ["view.azimuth", "view.x"])
    _, counts = photograph_again(world, torch.arange(3), repeat=0)
    assert not counts.any()


@pytest.mark.parametrize("preset", ["single-6c", "shape-6c", "absent-4c", "shortcut-6c", "clutter-6c"])
def test_evidence_and_shortcut_keep_their_looks(preset: str) -> None:
    spec = specs.load(preset)
    names = unmoving_factors(spec)
    assert names
    parts = {name.partition(".")[0] for name in spec.classes}
    for name in names:
        assert name.partition(".")[0] not in parts
        assert not (spec.shortcut and name == spec.shortcut.factor)
        assert FACTORS[name].kind == "colour" or name.startswith("background.")
