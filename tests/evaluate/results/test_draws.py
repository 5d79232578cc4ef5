"""Statistics whose unit is the draw: closed forms, a slow second version, coverage, and outcomes that do not flip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from an8flower.evaluate.results.sanity_outcomes import EARLY, outcome_shown, settle
from an8flower.evaluate.results.statistics.draws import (
    Estimate,
    estimate_on_scale,
    interval_over_draws,
    place_on_scale,
)
from an8flower.evaluate.results.wording import failed_tests


def test_the_interval_of_a_mean_is_students_over_the_means_of_draws() -> None:
    random = np.random.default_rng(0)
    values, draws = random.normal(size=23), np.arange(23) % 5
    values[[3, 8]] = np.nan
    means = [np.nanmean(values[draws == draw]) for draw in range(5)]
    expected = ttest_1samp(means, 0).confidence_interval()
    interval = interval_over_draws(values, draws)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert (interval.mean, interval.n, interval.undefined) == (pytest.approx(np.mean(means)), 21, 2)
    one = interval_over_draws(values, np.zeros(23, int))
    assert one.mean == pytest.approx(np.nanmean(values))
    assert np.isnan(one.low)
    assert np.isnan(interval_over_draws(np.full(4, np.nan), np.arange(4)).mean)


def test_with_a_constant_beside_it_the_scale_moves_the_interval_alone() -> None:
    random = np.random.default_rng(1)
    values, draws = random.uniform(0.2, 0.9, 30), np.arange(30) % 6
    estimate = estimate_on_scale(values, np.full((30, 30), 0.2), draws)
    means = place_on_scale(np.array([values[draws == draw].mean() for draw in range(6)]), 0.2)
    expected = ttest_1samp(means, 0.5)
    assert estimate.value == pytest.approx(means.mean())
    assert estimate.p_against(0.5) == pytest.approx(expected.pvalue)
    assert estimate.reach == pytest.approx(expected.confidence_interval().high - means.mean())


def leave_out(similarity: np.ndarray, unrelated: np.ndarray, draws: np.ndarray) -> float:
    """The value on the scale, written with loops."""
    means = [np.nanmean(similarity[draws == draw]) for draw in sorted(set(draws.tolist()))]
    count = len(draws)
    pairs = [unrelated[i, j] for i in range(count) for j in range(count) if i != j and not np.isnan(unrelated[i, j])]
    return float((np.mean(means) - np.mean(pairs)) / (1 - np.mean(pairs)))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**31))
def test_the_error_is_that_of_a_jackknife_written_with_loops(draws: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    count = draws * rows + int(random.integers(0, draws))
    dealt = random.permutation(np.arange(count) % draws)
    similarity, unrelated = random.uniform(0, 0.95, count), random.uniform(-0.2, 0.8, (count, count))
    unrelated[random.random((count, count)) < 0.2] = np.nan
    np.fill_diagonal(unrelated, 1)
    estimate = estimate_on_scale(similarity, unrelated, dealt)
    left = [
        leave_out(similarity[keep], unrelated[np.ix_(keep, keep)], dealt[keep])
        for keep in (dealt != draw for draw in range(draws))
    ]
    assert estimate.value == pytest.approx(leave_out(similarity, unrelated, dealt))
    spread = (draws - 1) / draws * ((np.array(left) - np.mean(left)) ** 2).sum()
    assert estimate.error == pytest.approx(np.sqrt(spread), abs=1e-12)


def test_what_is_the_same_is_1_and_what_vanished_is_0() -> None:
    draws, between = np.arange(10) % 5, np.full((10, 10), 0.3)
    same = estimate_on_scale(np.full(10, 1 - 1e-12), between, draws)
    assert (same.value, same.error, same.p_against(0.5)) == (1, 0, 0)
    gone = estimate_on_scale(np.full(10, np.nan), between, draws)
    assert (gone.value, gone.p_against(0.5)) == (pytest.approx(0), 0)
    assert np.isnan(estimate_on_scale(np.full(10, np.nan), np.full((10, 10), np.nan), draws).value)
    assert estimate_on_scale(np.ones(10), np.ones((10, 10)), draws).value == 1
    assert np.isnan(estimate_on_scale(np.full(10, 0.9), np.ones((10, 10)), draws).value)
    assert np.isnan(Estimate(0.3, float("nan"), 1).p_against(0.5))


def simulate(random: np.random.Generator, rows: int, draws: int, skewed: bool = False) -> tuple[Any, ...]:
    """Similarities that depend on row, draw and both, beside pairs that depend on both rows; 0.45 on the scale."""
    shift = (random.exponential(0.12, draws) - 0.12) if skewed else random.normal(0, 0.12, draws)
    dealt, own = np.arange(rows) % draws, random.normal(0, 0.08, rows)
    similarity = 0.67 + 0.3 * own + shift[dealt] + random.normal(0, 0.1, rows)
    unrelated = 0.4 + (own[:, None] + own) / 2 + random.normal(0, 0.05, (rows, rows))
    return similarity, unrelated, dealt


@pytest.mark.parametrize(
    ("rows", "draws", "skewed", "least"), [(60, 10, False, 0.93), (12, 6, False, 0.93), (60, 10, True, 0.88)]
)
def test_intervals_hold_the_value_as_often_as_they_say(rows: int, draws: int, skewed: bool, least: float) -> None:
    """Within three standard errors of 0.95 for normal draws; skewed draws cost some percent, as with any t-interval."""
    random, held, times = np.random.default_rng(0), 0, 1000
    for _ in range(times):
        estimate = estimate_on_scale(*simulate(random, rows, draws, skewed))
        held += abs(estimate.value - 0.45) <= estimate.reach
    assert least <= held / times <= 0.975


def test_a_verdict_near_the_threshold_does_not_flip_between_seeds() -> None:
    """Five checks each of a method at 0.45: one draw with an interval over rows flips, ten draws as the unit do not."""
    random, flips = np.random.default_rng(0), {1: 0, 10: 0}
    for draws in flips:
        for _ in range(100):
            signs = set()
            for _ in range(5):
                similarity, unrelated, dealt = simulate(random, 60, draws)
                estimate = estimate_on_scale(similarity, unrelated, np.arange(60) if draws == 1 else dealt)
                signs.add(np.sign(estimate.value - 0.5) if estimate.p_against(0.5) < 0.05 else 0)
            flips[draws] += {-1, 1} <= signs
    assert flips[1] > 30
    assert flips[10] <= 1


def verdict(p: float | None, value: float = 0.9, **changes: Any) -> dict[str, Any]:
    similar = {"mean": value, "unrelated": 0.1, "calibrated": value, "low": value - 0.1, "high": value + 0.1}
    open_ = {"outcome": "no verdict", "reason": "one model", "p": p, "adjusted": p, "tests": 1, "draws": 10}
    return {**open_, "similarities": {"spearman_abs": similar}, **changes}


def document(**tests: dict[str, Any]) -> dict[str, Any]:
    return {"results": [{"method": "lrp", "text": "lrp", "parameters": {}, "verdicts": tests}]}


def test_outcomes_are_corrected_over_all_tests_of_a_method_on_all_models() -> None:
    documents = [
        document(logits=verdict(0.01), model=verdict(0.001, 0.1)),
        document(logits=verdict(0.04), labels=verdict(None)),
    ]
    first, second = (entry["results"][0]["verdicts"] for entry in settle(documents))
    assert [first["model"]["adjusted"], first["logits"]["adjusted"]] == pytest.approx([0.003, 0.02])
    assert (first["model"]["outcome"], first["logits"]["outcome"]) == ("pass", "fail")
    assert (second["logits"]["outcome"], second["logits"]["tests"]) == ("fail", 3)
    assert (second["labels"]["outcome"], second["labels"]["reason"]) == ("no verdict", "one model")
    assert documents[0]["results"][0]["verdicts"]["logits"]["outcome"] == "no verdict"  # what came is left alone
    more = [document(logits=verdict(0.02)) for _ in range(3)]
    outcomes = [entry["results"][0]["verdicts"]["logits"] for entry in settle(more)]
    assert {entry["outcome"] for entry in outcomes} == {"undecided"}
    assert "among 3 tests" in outcomes[0]["reason"]


def test_sentences_name_the_test_the_models_and_the_draws() -> None:
    documents = settle(
        [document(logits=verdict(0.001)), document(logits=verdict(0.001, 0.1)), document(logits=verdict(0.5))]
    )
    assert failed_tests(documents) == {("a random last layer", "1 of 3 models, 10 draws each"): ["lrp"]}


def test_verdicts_of_earlier_versions_are_not_read_as_these() -> None:
    early = {"outcome": "fail", "similarities": {"spearman_abs": {"outcome": "fail", "calibrated": 0.9}}}
    assert outcome_shown(early) == ("no verdict", EARLY)
    assert not failed_tests([document(logits=early)])
    settle([document(logits=early)])
