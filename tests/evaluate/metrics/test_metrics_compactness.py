"""Sparseness and complexity against closed forms, slow second versions, Quantus's definitions, SciPy, and noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy
from torch import Tensor

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.registry import metrics

NAMES = ("sparseness", "complexity")


def scores(maps: Tensor) -> dict[str, Tensor]:
    rows = torch.arange(len(maps))
    case = Case(None, Query(torch.zeros(len(maps), 3, 1, 1), rows, rows), Truth(rows, rows, maps != 0, None))
    return score_all([metrics[name].item for name in NAMES], maps, case)


def score(one_map: object) -> list[float]:
    found = scores(torch.as_tensor(one_map, dtype=torch.float32)[None])
    return [float(found[name]) for name in NAMES]


def test_one_pixel_is_the_sparsest_and_the_simplest() -> None:
    one_map = torch.zeros(5, 8)
    one_map[2, 3] = -7
    assert score(one_map) == pytest.approx([1 - 1 / 40, 0])


@pytest.mark.parametrize("value", [1.0, -3.0, 1e-38, 3e38])
def test_equal_pixels_are_the_least_sparse_and_the_most_complex(value: float) -> None:
    assert score(torch.full((5, 8), value)) == pytest.approx([0, math.log(40)], abs=1e-6)


def test_a_mask_scores_what_its_card_says() -> None:
    mask = torch.zeros(5, 8)
    mask[1:3, 2:7] = 1
    assert score(mask) == pytest.approx([1 - 10 / 40, math.log(10)])


def test_by_hand() -> None:
    # |M| = 1, 2, 5: Gini = ((-2) 1 + 0 * 2 + 2 * 5) / (3 * 8)
    shares = np.array([1, 2, 5]) / 8
    assert score([[5, -1, 2]]) == pytest.approx([8 / 24, -(shares * np.log(shares)).sum()])


def test_a_map_of_zeros_is_undefined() -> None:
    assert all(map(math.isnan, score(torch.zeros(5, 8))))


def quantus(values: np.ndarray) -> list[float]:
    """As Quantus 0.6.0 has it."""
    ordered, count = np.sort(np.abs(values) + 1e-7), len(values)
    gini = ((2 * np.arange(1, count + 1) - count - 1) * ordered).sum() / (count * ordered.sum())
    shares = np.abs(values) / np.abs(values).sum()
    return [gini, -(shares * np.log(shares + 1e-12)).sum()]


def slow(values: np.ndarray) -> list[float]:
    """The Gini index as half the relative mean difference of all pairs; the entropy by SciPy."""
    sizes = np.abs(values).astype(float)
    if not sizes.any():
        return [math.nan, math.nan]
    sizes = sizes / sizes.max()
    apart = np.abs(sizes[:, None] - sizes[None]).mean()
    return [apart / 2 / sizes.mean(), float(entropy(sizes))]


ANY = hnp.arrays(np.float32, (3, 5, 8), elements=st.floats(-1e3, 1e3, width=32))


@settings(max_examples=60, deadline=None)
@given(ANY, st.integers(-3, 3))
def test_bounds_scale_sign_and_the_slow_version(maps: np.ndarray, power: int) -> None:
    found = scores(torch.from_numpy(maps))
    again = scores(torch.from_numpy(-maps * np.float32(2.0**power)))
    for position, name in enumerate(NAMES):
        low, high = metrics[name].item.bounds
        assert ((found[name] >= low) & (found[name] <= high) | found[name].isnan()).all()
        expected = [slow(one_map.ravel())[position] for one_map in maps]
        assert found[name].tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)
        torch.testing.assert_close(found[name], again[name], equal_nan=True, rtol=1e-5, atol=1e-6)


def test_quantus_differs_by_its_epsilons_alone() -> None:
    maps = torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(1))
    for one_map in maps:
        assert score(one_map) == pytest.approx(quantus(one_map.numpy().ravel()), abs=1e-6)


@pytest.mark.parametrize("pixels", [40, 720])
@pytest.mark.parametrize("name", NAMES)
def test_chance_is_what_noise_scores(name: str, pixels: int) -> None:
    maps = torch.rand(20_000 * 40 // pixels, pixels // 8, 8, generator=torch.Generator().manual_seed(pixels))
    found, expected = scores(maps)[name].double(), metrics[name].item.chance(maps[:3] > 0.5)
    assert expected.shape == (3,)
    error = float(found.std()) / math.sqrt(len(found))
    assert float(found.mean()) == pytest.approx(float(expected[0]), abs=4 * error)
    assert error < 3e-3


def test_nothing_given_is_changed() -> None:
    maps = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    before = maps.clone()
    scores(maps)
    assert torch.equal(maps, before)
