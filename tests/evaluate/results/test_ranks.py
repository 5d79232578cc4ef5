"""Orders of methods: how firm they are, against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, kendalltau, rankdata

from an8flower.evaluate.results.statistics.ranks import agreement, rank_stability, taus_between

NAN = float("nan")


def test_agreement_by_hand() -> None:
    orders = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    assert agreement(orders) == 1
    assert agreement(np.array([[1.0, 2.0], [2.0, 1.0]])) == 0
    assert agreement(np.array([[1.0, 1.0], [2.5, 2.5], [2.5, 2.5]])) == 1  # ties that all agree on
    assert math.isnan(agreement(np.full((3, 4), 2.0)))
    assert math.isnan(agreement(np.ones((1, 4))))
    assert math.isnan(agreement(np.ones((0, 4))))


@pytest.mark.parametrize("digits", [0, 9], ids=["with ties", "without"])
def test_agreement_is_friedmans_statistic_in_another_unit(digits: int) -> None:
    values = np.random.default_rng(0).normal(np.arange(5)[:, None] / 2, 1, (5, 30)).round(digits)
    expected = friedmanchisquare(*values).statistic / (30 * 4)
    assert agreement(rankdata(values, axis=0)) == pytest.approx(expected)


def test_a_firm_order() -> None:
    values = np.arange(3)[:, None, None] + np.random.default_rng(1).random((3, 100, 2)) / 2
    found = rank_stability(values, higher_is_better=True, seed=0)
    assert [each and (each.rank, each.low, each.high, each.first) for each in found.standings] == [
        (3, 3, 3, 0),
        (2, 2, 2, 0),
        (1, 1, 1, 1),
    ]
    assert (found.agreement, found.seeds) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(found.architectures)
    turned = rank_stability(values, higher_is_better=False, seed=0)
    assert [each and each.rank for each in turned.standings] == [1, 2, 3]


def test_equal_methods_share_their_ranks() -> None:
    values = np.tile(np.random.default_rng(2).random((1, 50, 1)), (4, 1, 1))
    found = rank_stability(values, higher_is_better=True, seed=0)
    assert [each and (each.rank, each.first) for each in found.standings] == [(2.5, 0.25)] * 4
    assert math.isnan(found.agreement)


def test_how_often_a_method_is_first_is_how_often_it_would_be() -> None:
    """Two methods whose difference is one standard error: the better one is first with probability norm.cdf(1)."""
    rows = np.random.default_rng(3).normal(size=400)
    rows = (rows - rows.mean()) / rows.std()
    found = rank_stability(np.stack([rows + 1 / 20, np.zeros(400)])[..., None], higher_is_better=True, seed=0)
    first, second = found.standings
    assert first
    assert second
    assert first.first == pytest.approx(0.841, abs=0.03)
    assert first.first + second.first == pytest.approx(1)
    assert first.rank == pytest.approx(2 - first.first)
    assert (first.low, first.high) == (1, 2)


def test_a_method_without_a_value_has_no_rank() -> None:
    values = np.random.default_rng(4).random((3, 20, 1))
    values[1] = NAN
    found = rank_stability(values, higher_is_better=True, seed=0)
    assert found.standings[1] is None
    assert sum(each.first for each in found.standings if each) == pytest.approx(1)
    nothing = rank_stability(np.full((2, 5, 1), NAN), higher_is_better=True, seed=0)
    assert nothing.standings == [None, None]
    assert math.isnan(nothing.agreement)


def test_seeds_and_architectures_are_told_apart() -> None:
    means = np.random.default_rng(5).random((6, 3))
    means[2, 2] = NAN
    within, across = taus_between(means, ["a", "b", "a"])
    left = [0, 1, 3, 4, 5]
    assert within == pytest.approx(kendalltau(means[left, 0], means[left, 2]).statistic)
    expected = [kendalltau(means[:, 0], means[:, 1]).statistic, kendalltau(means[left, 1], means[left, 2]).statistic]
    assert across == pytest.approx(np.mean(expected))
    assert np.isnan(taus_between(means[:, :1], ["a"])).all()


@given(st.permutations(range(4)), st.integers(0, 5))
def test_the_order_of_methods_does_not_matter(order: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).random((4, 30, 2))
    found, other = (rank_stability(each, higher_is_better=True, seed=0) for each in (values, values[order]))
    for method, standing in zip(order, other.standings, strict=True):
        assert standing == found.standings[method]
    assert other.agreement == pytest.approx(found.agreement)
    assert other.seeds == pytest.approx(found.seeds)
