"""Metrics that see a map get worse, that do not, and that prefer another map: what is said of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from an8flower.evaluate.results.statistics.degradation import (
    compare_with_truth,
    follow_degradation,
    share_in_order,
)

SCORES = arrays(np.float64, (6, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@settings(max_examples=50, deadline=None)
@given(SCORES)
def test_the_share_of_steps_in_order_is_counted_by_hand(means: np.ndarray) -> None:
    for column, share in zip(means.T, share_in_order(means), strict=True):
        steps = [b - a for a, b in pairwise(column) if a != b]
        expected = sum(step < 0 for step in steps) / len(steps) if steps else np.nan
        np.testing.assert_equal(share, expected)


def falling(spread: float, rows: int = 50) -> np.ndarray:
    """Scores (11, rows, 2) that fall from 1 to 0 until step 6, and stay there."""
    random = np.random.default_rng(3)
    levels = np.maximum(1 - np.arange(11) / 6, 0)
    return levels[:, None, None] + spread * random.normal(size=(11, rows, 2))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_metric_that_falls_is_followed_until_it_is_lost(sign: int) -> None:
    curve = follow_degradation(sign * falling(0.05), higher_is_better=sign > 0, seed=0)
    assert curve.lost_at == 6
    assert curve.in_order.mean >= 0.6
    assert curve.means[0].mean == pytest.approx(sign, abs=0.02)
    assert curve.in_order.low <= curve.in_order.mean <= curve.in_order.high


def test_without_spread_the_steps_that_stay_do_not_count() -> None:
    curve = follow_degradation(falling(0), higher_is_better=True, seed=0)
    assert (curve.in_order.mean, curve.in_order.low, curve.in_order.high) == (1, 1, 1)
    assert curve.lost_at == 6
    assert follow_degradation(falling(0), higher_is_better=False, seed=0).lost_at == 0
    assert follow_degradation(falling(0), higher_is_better=False, seed=0).in_order.mean == 0


def test_a_metric_that_never_moves_has_no_order_and_is_lost_at_once() -> None:
    curve = follow_degradation(np.full((11, 5, 1), 0.3), higher_is_better=True, seed=0)
    assert np.isnan([curve.in_order.mean, curve.in_order.low]).all()
    assert curve.lost_at == 0
    nothing = follow_degradation(np.full((11, 5, 1), np.nan), higher_is_better=True, seed=0)
    assert nothing.lost_at is None
    assert nothing.in_order.undefined == 5


def test_adversaries_are_told_or_not_or_preferred() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(1, 0.2, size=(60, 2))
    worse, alike, better = truth - 0.3, truth + random.normal(0, 0.2, size=(60, 2)), truth + 0.3
    adversaries = np.stack([worse, alike, better, truth * (1 + 1e-9), np.full((60, 2), np.nan)])
    told, level, preferred, same, nothing = compare_with_truth(truth, adversaries, higher_is_better=True, seed=0)
    assert told.low > 0
    assert told.mean == pytest.approx(0.3)
    assert level.low < 0 < level.high
    assert preferred.high < 0
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert nothing.n == 0
    flipped = compare_with_truth(-truth, -adversaries, higher_is_better=False, seed=0)
    assert [interval.mean for interval in flipped[:4]] == [told.mean, level.mean, preferred.mean, 0]


def test_pairing_takes_what_rows_share_out_of_the_interval() -> None:
    """Rows differ much more than maps: a paired interval is as narrow as if they did not."""
    random = np.random.default_rng(2)
    easy = random.normal(0, 10, size=(60, 1))
    gain = random.normal(0.5, 0.1, size=(60, 1))
    (interval,) = compare_with_truth(easy + gain, easy[None], higher_is_better=True, seed=0)
    assert interval.low == pytest.approx(gain.mean() - 2.0 * gain.std(ddof=1) / np.sqrt(60), abs=0.02)
