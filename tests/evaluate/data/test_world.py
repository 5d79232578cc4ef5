"""Rows photographed again: the same bytes where nothing is changed, in any order."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from an8flower.errors import NotApplicable
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.interventions.reliance import classify_scenes
from an8flower.factors import PARTS
from an8flower.store import FlowerStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(small_file: Path) -> World:
    return World.of(FlowerStore(small_file)["test"], CPU)


@pytest.mark.parametrize("rows", [[0, 1, 2], [23, 4, 4, 0], [7]])
def test_an_unchanged_row_is_the_row_of_the_file(world: World, rows: list[int]) -> None:
    taken = world.photograph(world.factors(torch.tensor(rows)))
    stored = world.split.rows(0, len(world.split))
    assert stored.parts is not None
    assert (taken.parts.numpy() == stored.parts[rows]).all()
    images = torch.from_numpy(stored.images[rows]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(taken.images, images)
    assert taken.images.is_contiguous()


def test_data_without_a_spec_have_no_world(small_file: Path, tmp_path: Path) -> None:
    shutil.copy(small_file, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file.attrs["spec"]
    with pytest.raises(NotApplicable, match="x.h5: no spec, so its rows cannot be rendered again"):
        World.of(FlowerStore(tmp_path / "x.h5")["test"], CPU)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_a_near_class_is_another_and_the_rows_own(world: World, rows: list[int]) -> None:
    labels = torch.tensor(rows) % 6
    found = world.near_classes(torch.tensor(rows), labels)
    assert (found != labels).all()
    assert found.dtype == torch.int64
    assert found[-1] == world.near_classes(torch.tensor(rows[-1:]), labels[-1:])[0]


def test_near_classes_are_spread(world: World) -> None:
    found = world.near_classes(torch.arange(300), torch.zeros(300, dtype=torch.int64))
    counts = np.bincount(found.numpy(), minlength=6)
    assert counts[0] == 0
    assert counts[1:].min() > 30


def test_the_parts_that_differ(world: World) -> None:
    told = world.differing_parts(torch.tensor([0, 1]), torch.tensor([3, 1]))
    assert told.tolist() == [[part == "petals" for part in PARTS], [False] * len(PARTS)]


class Means:
    """A network that gives each picture's mean colour."""

    in_flight = 4

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return images.mean((2, 3))


def test_scenes_are_asked_about_in_bounded_portions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table, network = world.factors(torch.arange(24)), Means()
    monkeypatch.setattr("an8flower.evaluate.metrics.interventions.reliance.AT_ONCE", 10)
    found = classify_scenes(network, world, table, batch=4)
    assert network.sizes == [4, 4, 2, 4, 4, 2, 4]
    torch.testing.assert_close(found, world.photograph(table).images.mean((2, 3)))
