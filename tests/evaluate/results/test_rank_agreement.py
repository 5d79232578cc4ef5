"""How far two metrics agree on the order of methods: beside slow versions, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr

from an8flower.evaluate.results.statistics.intervals import Interval
from an8flower.evaluate.results.statistics.rank_agreement import (
    agree,
    agree_anew,
    compare_pairs,
    kendall,
    spearman,
    tau_b,
)

TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan])  # few values: many ties and gaps
COLUMNS = arrays(np.float64, (5, 4), elements=TIED)


def slow_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b by its definition, pair by pair."""
    known = [i for i in range(len(first)) if not np.isnan(first[i] + second[i])]
    if len(known) < 3:
        return np.nan
    agreeing = untied_first = untied_second = 0.0
    for place, i in enumerate(known):
        for j in known[place + 1 :]:
            a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
            agreeing, untied_first, untied_second = agreeing + a * b, untied_first + a * a, untied_second + b * b
    return agreeing / np.sqrt(untied_first * untied_second) if untied_first * untied_second else np.nan


def reference(first: np.ndarray, second: np.ndarray, statistic: object) -> float:
    """A statistic of SciPy of the pairs that are defined."""
    known = ~np.isnan(first + second)
    if known.sum() < 3 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return np.nan
    return float(statistic(first[known], second[known]).statistic)  # type: ignore[operator]


@settings(max_examples=25, deadline=None)
@given(COLUMNS, COLUMNS)
def test_columns_agree_as_by_definition_and_as_scipy_says(first: np.ndarray, second: np.ndarray) -> None:
    taus, rhos = tau_b(compare_pairs(first), compare_pairs(second)), spearman(first, second)
    for i in range(first.shape[1]):
        columns = first[:, i], second[:, i]
        np.testing.assert_allclose(taus[i], slow_tau(*columns), atol=1e-6)
        np.testing.assert_allclose(taus[i], reference(*columns, kendalltau), atol=1e-6)
        np.testing.assert_allclose(kendall(*columns), taus[i], atol=1e-6)
        np.testing.assert_allclose(rhos[i], reference(*columns, spearmanr), atol=1e-9)


def scores(methods: int = 6, rows: int = 40, models: int = 2, noise: float = 0.3) -> np.ndarray:
    """Scores (methods, rows, models) of methods that get better with their number."""
    random = np.random.default_rng(4)
    return np.arange(methods)[:, None, None] / methods + noise * random.normal(size=(methods, rows, models))


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    values = scores(noise=0.01)
    same, reverse = agree(values, 3 * values + 1, seed=0), agree(values, -values, seed=0)
    for agreement, value in ((same, 1.0), (reverse, -1.0)):
        for interval in (agreement.tau, agreement.row_tau, agreement.row_spearman):
            assert (interval.mean, interval.low, interval.high) == pytest.approx((value, value, value))
        assert agreement.methods == 6
    assert (same.tau.n, same.tau.undefined) == (40, 0)


def test_the_interval_is_that_of_rows_drawn_by_a_loop() -> None:
    """A slow bootstrap with draws of its own finds nearly the same limits, and both hold the estimate."""
    first, second = scores(noise=1.0), scores(noise=1.0)[:, ::-1] + scores(noise=0.4)
    interval, random = agree(first, second, seed=7).tau, np.random.default_rng(1)
    taus = []
    for _ in range(500):
        rows = random.integers(0, 40, 40)
        taus.append(kendalltau(first[:, rows].mean((1, 2)), second[:, rows].mean((1, 2))).statistic)
    assert interval.mean == pytest.approx(kendalltau(first.mean((1, 2)), second.mean((1, 2))).statistic)
    assert interval.low < interval.mean <= interval.high
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(taus, (0.025, 0.975)), atol=0.14)


def test_noise_agrees_with_nothing() -> None:
    random = np.random.default_rng(0)
    agreement = agree(scores(12), random.normal(size=(12, 40, 2)), seed=0)
    assert agreement.tau.low < 0 < agreement.tau.high
    assert agreement.row_tau.low < 0 < agreement.row_tau.high


def test_what_has_no_value_is_left_out() -> None:
    values = scores()
    gappy = values.copy()
    gappy[0] = np.nan  # a method without any value
    gappy[:, 3] = np.nan  # a row without any
    agreement = agree(values, gappy, seed=0)
    assert agreement.methods == 5
    assert (agreement.tau.n, agreement.tau.undefined) == (39, 1)
    assert (agreement.row_tau.n, agreement.row_tau.undefined) == (39, 1)
    few = agree(values[:2], values[:2], seed=0)
    assert np.isnan([few.tau.mean, few.tau.low, few.row_tau.mean, few.row_spearman.mean]).all()
    tied = agree(values, np.ones_like(values), seed=0)
    assert np.isnan([tied.tau.mean, tied.tau.low, tied.row_tau.mean, tied.row_spearman.mean]).all()


def test_models_trained_anew_vary_by_students_t() -> None:
    """With three models whose taus are known and rows that say nothing further, the closed form."""
    order = np.arange(4.0)
    swapped, reverse = order[[1, 0, 2, 3]], order[::-1]
    first = np.stack([order] * 3, axis=1)[:, None]
    second = np.stack([order, swapped, reverse], axis=1)[:, None]
    interval = agree_anew(first, second, Interval(0.5, 0.5, 0.5, 1, 0))
    taus = np.array([1, 4 / 6, -1])
    assert interval.mean == pytest.approx(taus.mean())
    assert interval.low == pytest.approx(max(-1, taus.mean() - 4.302653 * taus.std(ddof=1) / np.sqrt(3)))
    assert (interval.high, interval.n) == (1.0, 3)
    assert np.isnan(agree_anew(first[..., :1], second[..., :1], Interval(1, 1, 1, 1, 0)).low)
