"""Intervals: what they count, and that they cover the truth as often as they say."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from an8flower.evaluate.statistics import calibrated, interval

NAN = float("nan")


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random, shape: random.random(shape) < 0.3, 0.3),
        (lambda random, shape: random.random(shape), 0.5),
        (lambda random, shape: random.exponential(size=shape), 1.0),
    ],
    ids=["Bernoulli", "uniform", "skewed"],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(draw: Callable, truth: float) -> None:
    random, repeats = np.random.default_rng(0), 400
    found = [interval(draw(random, 200), seed=seed) for seed in range(repeats)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    # percentile intervals of 200 rows are known to cover about a percent less than they say
    assert abs(covered - 0.945) < 3 * math.sqrt(0.95 * 0.05 / repeats)


def test_rows_are_resampled_with_all_their_models() -> None:
    """Five models that agree on every row are worth one; resampling values would shrink the interval by sqrt(5)."""
    rows = np.random.default_rng(1).random(300)
    one, five = interval(rows, seed=0), interval(np.tile(rows[:, None], 5), seed=0)
    assert (five.n, five.mean) == (300, pytest.approx(one.mean))
    assert (five.low, five.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_a_lower_level_is_narrower() -> None:
    rows = np.random.default_rng(2).random(100)
    wide, narrow = interval(rows, seed=0), interval(rows, seed=0, level=0.5)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_undefined_rows_are_counted_and_left_out() -> None:
    found = interval(np.array([0.0, NAN, 1.0, NAN, 1.0, 0.0]), seed=0)
    assert (found.mean, found.n, found.undefined) == (0.5, 4, 2)


def test_a_row_counts_by_the_models_that_have_a_value() -> None:
    found = interval(np.array([[0.2, NAN], [NAN, NAN], [0.6, 1.0]]), seed=0)
    assert (found.mean, found.n, found.undefined) == (pytest.approx(0.5), 2, 1)


@pytest.mark.parametrize("values", [np.full(7, 0.1), np.full((7, 3), 0.5), np.array([0.3]), np.array([NAN, 0.3])])
def test_equal_rows_have_an_interval_of_no_width(values: np.ndarray) -> None:
    found = interval(values, seed=0)
    assert found.low == found.mean == found.high == np.nanmax(values)


@pytest.mark.parametrize("values", [np.empty(0), np.empty((0, 3)), np.full(4, NAN), np.full((4, 2), NAN)])
def test_nothing_defined_has_no_mean(values: np.ndarray) -> None:
    found = interval(values, seed=0)
    assert all(map(math.isnan, (found.mean, found.low, found.high)))
    assert (found.n, found.undefined) == (0, len(values))


def test_the_seed_decides_and_nothing_else() -> None:
    rows = np.random.default_rng(3).random(50)
    state = np.random.get_state()[1].copy()
    first = interval(rows, seed=5)
    np.random.default_rng(0).random(10)
    assert interval(rows, seed=5) == first != interval(rows, seed=6)
    assert (np.random.get_state()[1] == state).all()


def test_memory_does_not_grow_with_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.statistics._DRAWS_AT_ONCE", 1000)
    rows = np.random.default_rng(4).random(300)
    found = interval(rows, seed=0)
    assert found.low < rows.mean() < found.high


def test_calibrated() -> None:
    assert calibrated(0.1, chance=0.1, oracle=1.0) == 0
    assert calibrated(1.0, chance=0.1, oracle=1.0) == 1
    assert calibrated(0.0, chance=0.5, oracle=1.0) == -1
    assert math.isnan(calibrated(0.5, chance=1.0, oracle=1.0))
    assert math.isnan(calibrated(NAN, chance=0.0, oracle=1.0))
