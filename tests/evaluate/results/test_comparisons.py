"""Which methods can be told apart: the tests keep their level, and agree with SciPy and statsmodels."""

from __future__ import annotations

import math
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import permutation_test, rankdata
from statsmodels.stats.multitest import multipletests

from an8flower.evaluate.results.statistics import comparisons
from an8flower.evaluate.results.statistics.comparisons import (
    ALPHA,
    Comparison,
    compare,
    effect_sizes,
    groups,
    holm,
    rank_biserials,
    sign_flip_p,
)
from an8flower.evaluate.results.statistics.intervals import Interval

NAN = float("nan")
REPEATS = 200
REACH = 3 * math.sqrt(ALPHA * (1 - ALPHA) / REPEATS)


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis)


@pytest.mark.parametrize("digits", [1, 12], ids=["with ties", "without"])
def test_few_rows_are_tested_exactly_as_by_scipy(digits: int) -> None:
    rows = np.random.default_rng(0).normal(0.4, 1, (4, 10)).round(digits)
    expected = [permutation_test((own,), mean, permutation_type="samples").pvalue for own in rows]
    assert sign_flip_p(rows, seed=0) == pytest.approx(expected)


def test_many_rows_are_tested_as_by_scipy() -> None:
    rows = np.random.default_rng(1).exponential(size=(3, 60)) - np.array([[0.8], [0.9], [1.2]])
    expected = [
        permutation_test((own,), mean, permutation_type="samples", rng=np.random.default_rng(0)).pvalue for own in rows
    ]
    assert sign_flip_p(rows, seed=0) == pytest.approx(expected, abs=0.012)


def test_a_test_finds_no_zero_and_leaves_out_what_is_undefined() -> None:
    rows = np.array([[1.0] * 30, [0.0] * 30, [NAN] * 30])
    assert sign_flip_p(rows, seed=0) == pytest.approx([1e-4, 1, NAN], nan_ok=True)
    assert sign_flip_p(np.array([[1.0, 2.0, NAN], [1.0, -2.0, 3.0]]), seed=0) == pytest.approx([0.5, 0.75])


def test_more_pairs_are_tested_with_more_flips() -> None:
    """Else the smallest p that can be found, times the pairs, would never be small."""
    rows = np.ones((600, 30))
    assert holm(sign_flip_p(rows, seed=0)).max() < ALPHA


def test_memory_does_not_grow_with_the_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(2).normal(0.2, 1, (3, 64))
    whole = sign_flip_p(rows, seed=0)
    monkeypatch.setattr(comparisons, "_SIGNS_AT_ONCE", 64 * 100)
    assert sign_flip_p(rows, seed=0) == pytest.approx(whole)


p_values = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@pytest.mark.parametrize("count", [1, 2, 66])
def test_holm_is_that_of_statsmodels(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # which theirs calls each time, for a second of a long session
    p = np.random.default_rng(count).beta(0.3, 3, count).round(3)  # some are equal, some are 0
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(p_values, st.integers(0, 3))
def test_holm_keeps_the_order_and_never_lowers(p: np.ndarray, undefined: int) -> None:
    adjusted = holm(np.concatenate([np.full(undefined, NAN), p]))
    assert np.isnan(adjusted[:undefined]).all()
    adjusted = adjusted[undefined:]
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (adjusted <= 1).all()
    assert adjusted == pytest.approx(holm(p))


def test_effects_by_hand() -> None:
    rows = np.array([[1.0, 2.0, 3.0, NAN], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [NAN] * 4])
    assert effect_sizes(rows) == pytest.approx([2, NAN, NAN, NAN], nan_ok=True)
    assert rank_biserials(rows) == pytest.approx([1, 1, 0, NAN], nan_ok=True)
    assert rank_biserials(np.array([[1.0, -2.0, 3.0, 0.0]])) == pytest.approx([(1 + 3 - 2) / 6])


def test_ranks_of_rows_with_ties_count_by_their_mean() -> None:
    rows = np.random.default_rng(3).integers(-4, 6, (5, 40)).astype(float)
    for own, found in zip(rows, rank_biserials(rows), strict=True):
        left = own[own != 0]
        ranks = rankdata(np.abs(left))
        assert found == pytest.approx((ranks[left > 0].sum() - ranks[left < 0].sum()) / ranks.sum())


def null(random: np.random.Generator, methods: int, rows: int, models: int, seeds: float = 0) -> np.ndarray:
    """Scores (methods, rows, models) of methods that are equally good: effects of rows, of models, skewed residuals.

    `seeds` is the spread of what a method gains or loses on a model.
    """
    by_row, by_model = random.beta(0.5, 2, (rows, 1)), random.normal(size=models)
    residual = random.exponential(size=(methods, rows, models))
    return by_row + by_model + 0.3 * residual + seeds * random.normal(size=(methods, 1, models))


@pytest.mark.parametrize("models", [1, 3])
def test_the_family_of_all_pairs_keeps_its_level(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no difference between six methods, hardly any run may claim one; without Holm a third of them would."""
    monkeypatch.setattr(comparisons, "FLIPS", 999)
    random = np.random.default_rng(4)
    found = [compare(null(random, 6, 60, models), seed=0) for _ in range(REPEATS)]
    assert np.mean([any(pair.adjusted < ALPHA for pair in pairs) for pairs in found]) < ALPHA + REACH
    assert np.mean([any(pair.p < ALPHA for pair in pairs) for pairs in found]) > 0.2
    assert not any(pair.apart and pair.adjusted >= ALPHA for pairs in found for pair in pairs)


def test_these_models_are_told_apart_by_their_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds that disagree by how much do not hide that both prefer the first method."""
    monkeypatch.setattr(comparisons, "FLIPS", 999)
    random = np.random.default_rng(5)
    values = random.normal(size=(2, 60, 2)) * 0.1
    values[0] += [0.5, 3.0]
    (pair,) = compare(values, seed=0)
    assert pair.apart
    assert pair.difference.low > 1.5


def test_what_is_different_is_found() -> None:
    random = np.random.default_rng(6)
    values = null(random, 3, 200, 3) + np.array([0, 0.15, 0.3])[:, None, None]
    found = compare(values, seed=0)
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (0, 2), (1, 2)]
    for pair in found:
        assert pair.apart
        assert pair.difference.low <= -0.15 * (pair.second - pair.first) <= pair.difference.high
        assert pair.effect < 0
        assert pair.rank_biserial < 0


def test_pairs_are_compared_on_the_rows_and_models_that_both_have() -> None:
    values = np.array([[[1.0, 5.0], [2.0, NAN], [NAN, NAN]], [[0.0, NAN], [0.0, 7.0], [3.0, 3.0]]])
    (pair,) = compare(values, seed=0)
    assert (pair.difference.mean, pair.difference.n, pair.difference.undefined) == (1.5, 2, 1)


def test_nothing_in_common_is_nothing_to_say() -> None:
    (pair,) = compare(np.array([[[1.0], [NAN]], [[NAN], [1.0]]]), seed=0)
    assert np.isnan([pair.p, pair.adjusted, pair.effect, pair.rank_biserial, pair.difference.mean]).all()
    assert not pair.apart
    assert not pair.compared
    assert groups([0, 1], [pair]) == [[0], [1]]  # nobody asked, so they are not tied
    assert compare(np.zeros((1, 5, 1)), seed=0) == []


def test_rounding_is_no_difference() -> None:
    """Equal maps that were computed another way."""
    values = np.random.default_rng(9).random((2, 30, 1))
    values[1] = values[0] + 1e-8
    (pair,) = compare(values, seed=0)
    assert (pair.p, pair.apart) == (1, False)


def test_architectures_weigh_the_same() -> None:
    """Two seeds of one architecture are no reason to count it twice."""
    values = np.stack([np.tile([1.0, 1.0, 4.0], (9, 1)), np.zeros((9, 3))])
    (pair,) = compare(values, seed=0, architectures=["net", "net", "vit"])
    assert pair.difference.mean == 2.5


@given(st.permutations(range(4)), st.integers(0, 5))
def test_the_order_of_methods_does_not_matter(order: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).random((4, 12, 2)) + np.arange(4)[:, None, None] / 8
    known = {frozenset((pair.first, pair.second)): pair for pair in compare(values, seed=0)}
    for pair in compare(values[order], seed=0):
        other = known[frozenset((order[pair.first], order[pair.second]))]
        other = other if order[pair.first] == other.first else other.swap()
        for one, two in ((vars(pair.difference), vars(other.difference)), (numbers(pair), numbers(other))):
            # limits of a pair that is turned lie at the other end of the same draws
            assert one == pytest.approx(two, rel=1e-6, abs=2e-3)


def numbers(pair: Comparison) -> dict[str, float]:
    return {name: getattr(pair, name) for name in ("p", "adjusted", "effect", "rank_biserial")}


@given(st.permutations(range(10)))
def test_the_order_of_rows_does_not_matter_to_an_exact_test(order: list[int]) -> None:
    rows = np.random.default_rng(8).normal(0.5, 1, (3, 10))
    for measure in (lambda rows: sign_flip_p(rows, seed=0), effect_sizes, rank_biserials):
        assert measure(rows[:, order]) == pytest.approx(measure(rows))


def apart(first: int, second: int) -> Comparison:
    return Comparison(first, second, Interval(1, 0.5, 1.5, 9, 0), 0.001, 0.001, 1, 1)


def test_groups_by_hand() -> None:
    """A chain: each is tied with its neighbour, the ends are apart."""
    assert groups([2, 1, 0], [apart(0, 2)]) == [[2, 1], [1, 0]]
    assert groups([0, 1, 2], []) == [[0, 1, 2]]
    assert groups([1, 0], [apart(0, 1)]) == [[1], [0]]
    assert groups([], []) == [[]]


@given(st.integers(1, 7), st.randoms(use_true_random=False))
def test_groups_are_the_largest_sets_of_ties(count: int, random: object) -> None:
    pairs = [pair for pair in combinations(range(count), 2) if random.random() < 0.5]  # type: ignore[attr-defined]
    found = groups(range(count), [apart(*pair) for pair in pairs])
    graph = nx.complement(nx.Graph([*pairs, *((i, i) for i in range(count))]))
    assert {frozenset(each) for each in found} == set(map(frozenset, nx.find_cliques(graph)))
    assert found[0][0] == 0
    assert found == sorted(found)
