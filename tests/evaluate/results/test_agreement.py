"""Agreement of maps: closed forms, SciPy's correlation, and what follows from the limits of an interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from an8flower.evaluate.results.statistics.agreement import (
    MapPair,
    decide_stability,
    measure_agreement,
    rank_similarity,
    top_overlap,
    top_weights,
)

ROWS, PIXELS = 12, 60


def maps_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, PIXELS))


def pair_of(first: np.ndarray, second: np.ndarray, included: np.ndarray | None = None) -> MapPair:
    return MapPair(first, second, np.full(ROWS, 9), np.ones(ROWS, bool) if included is None else included)


def test_the_rank_correlation_is_that_of_scipy() -> None:
    first, second = maps_of(0).round(1), maps_of(1).round(1)
    table = rank_similarity(first, second)
    for row in range(ROWS):
        for other in range(ROWS):
            assert table[row, other] == pytest.approx(spearmanr(first[row], second[other]).statistic)


@given(hnp.arrays(np.int8, 12, elements=st.integers(-3, 3)), st.integers(1, 12))
def test_the_largest_pixels_are_as_many_as_asked(values: np.ndarray, count: int) -> None:
    weights = top_weights(values.astype(float), count)
    assert weights.sum() == pytest.approx(count)
    assert (weights[values > np.sort(values)[-count]] == 1).all()
    assert (weights[values < np.sort(values)[-count]] == 0).all()


def test_the_overlap_is_that_of_sets() -> None:
    first, second = maps_of(2), maps_of(3)
    table = top_overlap(first, second, np.full(ROWS, 9))
    for row in range(ROWS):
        for other in range(ROWS):
            common = set(np.argsort(-first[row])[:9].tolist()) & set(np.argsort(-second[other])[:9].tolist())
            assert table[row, other] == pytest.approx(len(common) / 9)
    assert np.isnan(top_overlap(np.zeros((1, 4)), np.arange(4.0)[None], np.array([2]))).all()


def test_the_same_maps_are_stable_and_noise_is_not() -> None:
    maps = maps_of(4)
    same = measure_agreement([pair_of(maps, maps)], seed=0)
    assert (same["outcome"], same["rank"]["mean"], same["scaled"]["mean"]) == ("stable", 1, 1)
    assert same["overlap"]["mean"] == 1
    other = measure_agreement([pair_of(maps, maps_of(5))], seed=0)
    assert other["outcome"] == "unstable"
    assert abs(other["scaled"]["mean"]) < 0.15
    assert other["overlap"]["others"] == pytest.approx(9 / PIXELS, abs=0.05)


def test_what_all_pictures_share_is_no_agreement() -> None:
    """A large common pattern makes all maps alike; on the scale, only what is of the row counts."""
    common = 10 * maps_of(6)[:1]
    first, second = common + maps_of(7), common + maps_of(8)
    found = measure_agreement([pair_of(first, second)], seed=0)
    assert found["rank"]["mean"] > 0.9
    assert found["outcome"] == "unstable"
    assert abs(found["scaled"]["mean"]) < 0.2


def test_a_map_that_is_the_same_for_all_rows_cannot_be_judged() -> None:
    center = np.tile(maps_of(9)[:1], (ROWS, 1))
    found = measure_agreement([pair_of(center, center)], seed=0)
    assert (found["outcome"], found["scaled"]["mean"], found["rows"]) == ("unknown", None, ROWS)


def test_only_included_rows_with_a_map_count_and_pairs_are_averaged() -> None:
    first, second = maps_of(10), maps_of(10)
    first[0] = 0
    included = np.arange(ROWS) < 8
    found = measure_agreement([pair_of(first, second, included)], seed=0)
    assert found["rows"] == 7
    both = measure_agreement([pair_of(first, second, included), pair_of(first, maps_of(11), included)], seed=0)
    assert 0.3 < both["scaled"]["mean"] < 0.7
    none = measure_agreement([pair_of(first, second, included & False)], seed=0)
    assert (none["rows"], none["outcome"], none["rank"]["mean"]) == (0, "unknown", None)


@given(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted))
def test_limits_decide_and_not_the_mean(ends: list[float]) -> None:
    low, high = ends
    assert (decide_stability(low, high) == "stable") == (low >= 0.5)
    assert (decide_stability(low, high) == "unstable") == (high < 0.5)
