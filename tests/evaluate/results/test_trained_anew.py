"""What may be said of models trained anew: the moderated t against closed forms and a slow second version."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import t, ttest_1samp

from an8flower.evaluate.results.scopes import anew_sentence
from an8flower.evaluate.results.statistics.trained_anew import (
    compare_anew,
    fit_prior,
    has_enough_seeds,
    inverse_trigamma,
    moderate,
)

NAN = float("nan")


@pytest.mark.parametrize("x", [0.01, 0.5, 1.0, 7.0, 300.0])
def test_the_trigamma_function_is_inverted(x: float) -> None:
    assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x)


def test_the_prior_of_many_variances_is_found() -> None:
    """Variances drawn as the model says: true ones from an inverse chi-square, seen with two degrees of freedom."""
    random = np.random.default_rng(0)
    true = 0.3 * 8 / random.chisquare(8, 200_000)
    common, strength = fit_prior(true * random.chisquare(2, true.shape) / 2, np.full(true.shape, 2.0))
    assert common == pytest.approx(0.3, rel=0.02)
    assert strength == pytest.approx(8, rel=0.1)


def test_variances_that_differ_by_chance_alone_are_taken_as_one() -> None:
    common, strength = fit_prior(np.full(10, 0.2), np.full(10, 2.0))
    assert math.isinf(strength)
    variance, freedom = moderate(np.full(10, 0.2), np.full(10, 2.0), methods=5)
    assert variance == pytest.approx(np.full(10, common))
    assert freedom == pytest.approx(np.full(10, 8.0))  # no more than five methods on three seeds can know


def test_nothing_to_borrow_from_leaves_a_variance_as_it_is() -> None:
    for variance in (np.array([0.2]), np.array([0.0, 0.0]), np.array([NAN, NAN, 0.1])):
        shrunk, freedom = moderate(variance, np.full(len(variance), 2.0), methods=3)
        np.testing.assert_array_equal(shrunk, variance)
        assert (freedom == 2).all()


def test_where_rows_do_not_matter_two_methods_have_students_test() -> None:
    by_seed = np.array([0.1, 0.3, 0.35, 0.2])
    values = np.stack([np.tile(by_seed, (50, 1)), np.zeros((50, 4))])
    (pair,) = compare_anew(values)
    expected = ttest_1samp(by_seed, 0)
    assert pair.p == pytest.approx(expected.pvalue)
    assert pair.freedom == pytest.approx(3)
    assert (pair.difference.low, pair.difference.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_where_seeds_do_not_matter_rows_have_students_test() -> None:
    rows = np.random.default_rng(1).normal(0.3, 1, 40)
    values = np.stack([np.tile(rows[:, None], 3), np.zeros((40, 3))])
    (pair,) = compare_anew(values)
    assert pair.p == pytest.approx(ttest_1samp(rows, 0).pvalue)


def test_both_errors_add_by_hand() -> None:
    """Two architectures weigh the same; Satterthwaite's freedom of three variances."""
    random = np.random.default_rng(2)
    values = np.stack([random.normal(0.2, 1, (30, 7)), np.zeros((30, 7))])
    (pair,) = compare_anew(values, ["a"] * 3 + ["b"] * 4)
    first, second = values[0, :, :3], values[0, :, 3:]
    rows = (first.mean(1) + second.mean(1)) / 2
    parts = [(rows.var(ddof=1) / 30, 29)]
    parts += [(first.mean(0).var(ddof=1) / 3 / 4, 2), (second.mean(0).var(ddof=1) / 4 / 4, 3)]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / df for part, df in parts)
    assert pair.freedom == pytest.approx(freedom)
    assert pair.p == pytest.approx(2 * t.sf(abs(rows.mean()) / math.sqrt(total), freedom))


def test_fewer_than_three_seeds_of_an_architecture_say_nothing() -> None:
    values = np.random.default_rng(3).random((3, 20, 5)) + np.arange(3)[:, None, None]
    names = ["a", "a", "a", "b", "b"]
    assert not has_enough_seeds(names)
    assert has_enough_seeds(names[:3])
    for pair in compare_anew(values, names):
        assert np.isnan([pair.p, pair.adjusted, pair.difference.low]).all()
        assert not pair.apart


def test_equal_methods_and_missing_rows() -> None:
    values = np.random.default_rng(4).random((2, 20, 3))
    values[1] = values[0]
    values[0, 3] = NAN
    (pair,) = compare_anew(values)
    assert (pair.p, pair.apart, pair.difference.mean, pair.difference.n) == (1, False, 0, 19)


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(6, 100, 5)) + 0.2 * random.normal(size=(6, 1, 5))
    values[0] += 1
    pairs = compare_anew(values)
    assert all(pair.apart for pair in pairs if pair.first == 0)
    assert pairs[0].swap().difference.mean == -pairs[0].difference.mean


def test_the_sentence_says_how_many_seeds_would_do() -> None:
    assert "that takes three seeds of an architecture; a has one and b has 12" in anew_sentence({"a": 1, "b": 12}, 0, 0)
