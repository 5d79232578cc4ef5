"""Whether a metric sees that a right map gets worse: scores of maps from the truth to noise, and of adversaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .intervals import Interval, intervals, known_mean, resampled_means, row_means
from .rank_agreement import percentile_ends

ROUNDING = 1e-6  # of the largest score: smaller differences of single-precision scores are none


@dataclass(frozen=True)
class DegradationCurve:
    """The scores of maps that get worse step by step, the first being the truth and the last noise."""

    means: list[Interval]  # of each step, for other rows and these models
    in_order: Interval  # of the steps at which the mean moves, the share at which it moves to the worse
    lost_at: int | None  # the first step that cannot be told from noise; None if no row has both values


def follow_degradation(values: np.ndarray, *, higher_is_better: bool, seed: int) -> DegradationCurve:
    """Follow a metric from the truth to noise, by its values (steps, rows, models); NaN is undefined.

    A step is told from noise if the 95 % interval of the paired difference to noise lies on the better side of 0. The
    steps after one that is not told are not looked at. `in_order` is NaN if the mean never moves; its interval is that
    of percentiles over redrawn rows, made to contain the estimate.
    """
    better = values if higher_is_better else -values
    rows = row_means(better)
    noise = intervals(better[:-1] - better[-1], seed=seed)
    known = any(step.n for step in noise)
    distinct = [bool(step.low > 0) for step in noise]
    return DegradationCurve(
        means=intervals(values, seed=seed),
        in_order=_order_interval(rows, seed),
        lost_at=(distinct.index(False) if False in distinct else len(distinct)) if known else None,
    )


def compare_with_truth(
    truth: np.ndarray, adversaries: np.ndarray, *, higher_is_better: bool, seed: int
) -> list[Interval]:
    """How much better the truth scores (rows, models) than each adversary (adversaries, rows, models), row by row.

    Positive is in favour of the truth, whatever the direction of the metric. An interval that reaches 0 says that the
    metric cannot tell the two apart; one that lies below 0, that it prefers the adversary.
    """
    apart = (truth - adversaries) * (1 if higher_is_better else -1)
    rounding = ROUNDING * np.nanmax(np.abs([*adversaries, truth]), initial=0)
    return intervals(np.where(np.abs(apart) <= rounding, 0 * apart, apart), seed=seed)


def _order_interval(rows: np.ndarray, seed: int) -> Interval:
    """The share of steps in order of scores (steps, rows), larger being better, with its interval over rows."""
    known = ~np.isnan(rows).all(0)
    share = float(share_in_order(known_mean(rows, axis=1)[:, None])[0])
    n = int(known.sum())
    if np.isnan(share) or n < 2:
        return Interval(share, float("nan"), float("nan"), n, len(known) - n)
    return Interval(share, *percentile_ends(share_in_order(resampled_means(rows, seed)), share), n, len(known) - n)


def share_in_order(means: np.ndarray) -> np.ndarray:
    """The share of steps that fall, of those that move, in each column of scores (steps, columns), larger being better.

    NaN in a column that never moves.

    >>> share_in_order(np.array([[3.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.5, 1.0]]))
    array([0.5, nan])
    """
    steps = np.diff(means, axis=0)
    moves = np.abs(steps) > ROUNDING * np.nanmax(np.abs(means), axis=0, initial=0)
    counts = moves.sum(0)
    return np.where(counts > 0, (moves & (steps < 0)).sum(0) / np.maximum(counts, 1), np.nan)
