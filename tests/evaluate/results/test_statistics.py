"""Intervals: what they count, and that they cover the truth as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, t

from an8flower.evaluate.results.statistics import intervals as statistics
from an8flower.evaluate.results.statistics.intervals import (
    Interval,
    calibrate,
    calibrated_intervals,
    interval,
    intervals,
    resampled_means,
    share_interval,
)

NAN = float("nan")
REPEATS = 600
ERROR = math.sqrt(0.95 * 0.05 / REPEATS)  # of the share of covering intervals


def share_covering(found: list[Interval], truth: float) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in found]))


@pytest.mark.parametrize("rows", [60, 300])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random, shape: random.random(shape) < 0.3, 0.3),
        (lambda random, shape: random.random(shape), 0.5),
        (lambda random, shape: random.beta(0.5, 4, shape), 1 / 9),
        (lambda random, shape: 1 - random.beta(0.3, 8, shape), 80 / 83),
        (lambda random, shape: random.beta(2, 3, shape) * (random.random(shape) < 0.15), 0.06),
    ],
    ids=["Bernoulli", "uniform", "skewed", "near one", "mostly zero"],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(draw: Callable, truth: float, rows: int) -> None:
    values = draw(np.random.default_rng(0), (REPEATS, rows, 1))
    assert -3 * ERROR < share_covering(intervals(values, seed=0), truth) - 0.95 < 4 * ERROR  # 0/1 cannot hit 95 %


def crossed(random: np.random.Generator, repeats: int, rows: int, models: int, spread: tuple[float, ...]) -> np.ndarray:
    """Scores (repeats, rows, models) with mean 0: a skewed effect of the row, one of the model, and a residual."""
    by_row = random.exponential(size=(repeats, rows, 1)) - 1
    by_model = random.normal(size=(repeats, 1, models))
    return spread[0] * by_row + spread[1] * by_model + spread[2] * random.normal(size=(repeats, rows, models))


SPREADS = [(1, 0, 1), (1, 0.1, 1), (1, 0.5, 1), (0.2, 0.1, 1), (0.2, 1, 0.2)]


@pytest.mark.parametrize("spread", SPREADS, ids=str)
def test_it_covers_where_three_draws_are_a_sample(spread: tuple[float, ...]) -> None:
    """Never too narrow; wide where the draws happen to agree, since three cannot show that others would."""
    values = crossed(np.random.default_rng(1), REPEATS, 100, 3, spread)
    assert share_covering([interval(table, seed=0) for table in values], 0) > 0.95 - 3 * ERROR


def test_models_that_are_not_a_sample_are_not_generalised_from() -> None:
    """The interval is about these models, and would not cover if it were about others."""
    values = crossed(np.random.default_rng(1), REPEATS, 100, 3, (1, 0.5, 1))
    found = intervals(values, seed=0)
    assert share_covering(found, 0) < 0.6
    assert share_covering(found[:1], values[0].mean()) == 1


def test_why_models_are_not_resampled() -> None:
    """The two-way bootstrap draws the same model three times in a ninth of all cases; its percentiles are narrow."""
    random, covered = np.random.default_rng(2), []
    for values in crossed(random, 200, 100, 3, (1, 0.5, 1)):
        rows, models = random.multinomial(100, [0.01] * 100, 300) / 100, random.multinomial(3, [1 / 3] * 3, 300) / 3
        low, high = np.quantile((rows @ values * models).sum(1), (0.025, 0.975))
        covered.append(low <= 0 <= high)
    assert np.mean(covered) < 0.88


def test_three_models_alone_have_students_interval() -> None:
    """Where rows do not matter, the interval is that of three numbers."""
    models = np.array([0.2, 0.3, 0.7])
    found = interval(np.tile(models, (50, 1)), seed=0)
    reach = t.ppf(0.975, 2) * models.std(ddof=1) / math.sqrt(3)
    assert (found.low, found.mean, found.high) == pytest.approx((0.4 - reach, 0.4, 0.4 + reach))


def test_seeds_are_compared_within_their_architecture() -> None:
    """Two and two models: two degrees of freedom, and the distance of the architectures is no matter of seeds."""
    models = np.array([0.1, 0.3, 0.8, 0.9])
    found = interval(np.tile(models, (50, 1)), seed=0, groups=["a", "a", "b", "b"])
    error = math.sqrt((2 * 0.1**2 + 2 * 0.05**2) / 2 / 4)
    assert found.high - found.mean == pytest.approx(error * t.ppf(0.975, 2))


def test_the_bootstrap_is_scipys() -> None:
    rows = np.random.default_rng(3).beta(0.5, 4, 80)
    found = interval(rows, seed=0)
    widened = 1 - 2 * norm.sf(math.sqrt(80 / 79) * t.ppf(0.975, 79))
    limits = bootstrap(
        (rows,), np.mean, n_resamples=20000, confidence_level=widened, method="BCa", rng=np.random.default_rng(0)
    )
    assert found.low == pytest.approx(limits.confidence_interval.low, abs=0.05 * rows.std() / math.sqrt(80) * 3)
    assert found.high == pytest.approx(limits.confidence_interval.high, abs=0.05 * rows.std() / math.sqrt(80) * 3)


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


def test_undefined_rows_do_not_change_the_width() -> None:
    rows = np.random.default_rng(5).random(200)
    whole, thinned = interval(rows, seed=0), interval(np.insert(rows, range(0, 200, 2), NAN), seed=0)
    assert (thinned.n, thinned.undefined, thinned.mean) == (200, 100, pytest.approx(whole.mean))
    assert thinned.high - thinned.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_a_row_counts_by_the_models_that_have_a_value() -> None:
    found = interval(np.array([[0.2, NAN], [NAN, NAN], [0.6, 1.0]]), seed=0)
    assert (found.mean, found.n, found.undefined) == (pytest.approx(0.5), 2, 1)


def test_a_model_without_any_value_changes_nothing() -> None:
    values = np.random.default_rng(6).random((40, 3))
    more = np.concatenate([values, np.full((40, 1), NAN)], axis=1)
    assert interval(more, seed=0) == interval(values, seed=0)


@pytest.mark.parametrize("values", [np.full(7, 0.1), np.full((7, 3), 0.5), np.array([0.3]), np.array([NAN, 0.3])])
def test_equal_rows_have_an_interval_of_no_width(values: np.ndarray) -> None:
    found = interval(values, seed=0)
    assert found.low == found.mean == found.high == np.nanmax(values)


@pytest.mark.parametrize("values", [np.empty(0), np.empty((0, 3)), np.full(4, NAN), np.full((4, 2), NAN)])
def test_nothing_defined_has_no_mean(values: np.ndarray) -> None:
    found = interval(values, seed=0)
    assert all(map(math.isnan, (found.mean, found.low, found.high)))
    assert (found.n, found.undefined) == (0, len(values))


def test_two_rows_have_a_wide_interval_within_what_was_seen() -> None:
    found = interval(np.array([0.2, 0.6]), seed=0)
    assert (found.low, found.mean, found.high) == (pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.6))


def test_the_seed_decides_and_nothing_else() -> None:
    rows = np.random.default_rng(3).random(50)
    state = np.random.get_state()[1].copy()
    first = interval(rows, seed=5)
    np.random.default_rng(0).random(10)
    assert interval(rows, seed=5) == first != interval(rows, seed=6)
    assert (np.random.get_state()[1] == state).all()


def test_methods_do_not_know_of_each_other() -> None:
    values = np.random.default_rng(7).random((3, 50, 2))
    together = intervals(values, seed=0)
    for alone, found in zip(values, together, strict=True):
        assert vars(intervals(alone[None], seed=0)[0]) == pytest.approx(vars(found))


def test_memory_does_not_grow_with_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(4).random((1, 300))
    statistics._draws.cache_clear()
    whole = resampled_means(rows, 0)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 1000)
    statistics._draws.cache_clear()
    assert resampled_means(rows, 0) == pytest.approx(whole)


def test_calibrated() -> None:
    assert calibrate(0.1, chance=0.1, oracle=1.0) == 0
    assert calibrate(1.0, chance=0.1, oracle=1.0) == 1
    assert calibrate(0.0, chance=0.5, oracle=1.0) == -1
    assert math.isnan(calibrate(0.5, chance=1.0, oracle=1.0))
    assert math.isnan(calibrate(NAN, chance=0.0, oracle=1.0))


def test_the_interval_of_a_calibrated_score_is_scipys_of_the_ratio() -> None:
    random = np.random.default_rng(9)
    chance = random.beta(2, 8, (80, 1))
    values, oracle = chance + 0.2 * random.random((80, 1)), np.ones((80, 1))
    (found,) = calibrated_intervals(values[None], chance, oracle, seed=0)

    def ratio(values: np.ndarray, chance: np.ndarray, axis: int) -> np.ndarray:
        return (values.mean(axis) - chance.mean(axis)) / (1 - chance.mean(axis))

    widened = 1 - 2 * norm.sf(math.sqrt(80 / 79) * t.ppf(0.975, 79))
    limits = bootstrap(
        (values[:, 0], chance[:, 0]),
        ratio,
        paired=True,
        n_resamples=9999,
        confidence_level=widened,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.mean == pytest.approx(ratio(values[:, 0], chance[:, 0], axis=0))
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=0.002)
    (alone,) = intervals(values[None], seed=0)
    as_constant = (alone.high - alone.low) / (1 - chance.mean())
    assert found.high - found.low < 0.8 * as_constant


def test_a_calibrated_score_covers_the_truth() -> None:
    """Chance goes along with the score from row to row; as a constant it would make intervals half as wide again."""
    random = np.random.default_rng(10)
    chance = random.beta(2, 8, (REPEATS, 60, 1))
    values = chance + 0.3 * (1 - chance) + 0.05 * random.normal(size=chance.shape)
    found = [
        calibrated_intervals(value[None], floor, np.ones((60, 1)), seed=0)[0]
        for value, floor in zip(values, chance, strict=True)
    ]
    assert abs(share_covering(found, 0.3) - 0.95) < 3 * ERROR


def test_nothing_is_calibrated_where_chance_reaches_the_truth() -> None:
    values, chance = np.ones((1, 20, 1)), np.full((20, 1), 0.5)
    (alike,) = calibrated_intervals(values, chance, chance, seed=0)
    assert math.isnan(alike.mean)
    assert math.isnan(alike.low)
    (crossing,) = calibrated_intervals(values, chance, chance + np.linspace(-1, 1.1, 20)[:, None], seed=0)
    assert math.isnan(crossing.low)


@pytest.mark.parametrize(("rows", "low", "high"), [(np.ones(300), 0.98778, 1.0), (np.zeros(20), 0.0, 0.16843)])
def test_a_share_without_exception_leaves_room_for_one(rows: np.ndarray, low: float, high: float) -> None:
    """The rule of three and its exact form: 1 - 0.025 ** (1 / n)."""
    found = share_interval(rows, seed=0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_other_shares_have_their_usual_interval() -> None:
    rows = np.array([0.0, 1.0, np.nan, 0.4, 1.0, 1.0])
    assert share_interval(rows, seed=3) == interval(rows, seed=3)
