"""How far two metrics agree on the order of methods: by the means over all rows, and row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, rankdata, t

from .intervals import Interval, intervals, known_mean, resampled_means, row_means

LEAST_METHODS = 3  # of two methods, a tau is 1 or -1 whatever the metrics
LEVEL = 0.95
DIGITS = 12  # to which means are rounded, so that equal scores stay tied however they were summed


class PairSigns(NamedTuple):
    """Which of the two methods of each pair has the larger value, for several orders of the methods."""

    signs: np.ndarray  # (pairs, orders) float32: 1 the first, -1 the second, 0 tied or undefined
    known: np.ndarray  # (pairs, orders) float32: 1 where both methods have a value, else 0


@dataclass(frozen=True)
class OrderAgreement:
    """How far two metrics order methods alike; NaN where that is undefined."""

    tau: Interval  # Kendall's tau-b of the means, for other rows and these models
    row_tau: Interval  # the mean over rows of the tau-b of the row's scores, likewise
    row_spearman: Interval  # the mean over rows of Spearman's correlation of the row's scores, likewise
    methods: int  # that have a mean by both metrics


def agree(first: np.ndarray, second: np.ndarray, *, seed: int) -> OrderAgreement:
    """How far two metrics agree on methods, by their values (methods, rows, models) on the same rows and models.

    Larger values have to be better by both metrics. NaN is undefined: methods without a mean by both metrics are left
    out, and in each row the methods without both values. A row counts by the mean of its models.

    The interval of tau is that of percentiles over redrawn rows, the same rows for both metrics. Redrawn orders are
    noisier than the order of all rows, so it may lie below the estimate, which it is then made to contain.

    Source: Kendall, Biometrika 33 (1945) (tau-b); Efron, Tibshirani: An Introduction to the Bootstrap (1993), ch. 13.
    """
    both = ~np.isnan(known_mean(row_means(first), axis=1) + known_mean(row_means(second), axis=1))
    first, second = first[both], second[both]
    return OrderAgreement(
        tau=_tau_of_means(row_means(first), row_means(second), seed),
        row_tau=_mean_of_rows(tau_b(compare_pairs(_columns(first)), compare_pairs(_columns(second))), first, seed),
        row_spearman=_mean_of_rows(spearman(_columns(first), _columns(second)), first, seed),
        methods=len(first),
    )


def agree_anew(first: np.ndarray, second: np.ndarray, of_these: Interval) -> Interval:
    """The mean tau of single models with an interval that holds for models trained anew, and for other rows.

    The standard error over models enters with Student's t; the reach of the interval for these models is added in
    squares. The limits are NaN if fewer than two models have a tau.

    Args:
        first: the values (methods, rows, models) by one metric, larger being better; `second` by the other one.
        of_these: the interval of tau for other rows and these models.

    Source: Zou, Donner, Statistics in Medicine 27 (2008) (adding the reaches).
    """
    by_model = zip(known_mean(first, axis=1).T, known_mean(second, axis=1).T, strict=True)
    taus = np.array([kendall(*means) for means in by_model])
    taus = taus[~np.isnan(taus)]
    mean = float(known_mean(taus, axis=0))
    error = taus.std(ddof=1) / np.sqrt(len(taus)) if len(taus) > 1 else np.nan
    reach = t.ppf((1 + LEVEL) / 2, len(taus) - 1) * error if len(taus) > 1 else np.nan
    low, high = np.hypot(of_these.mean - of_these.low, reach), np.hypot(of_these.high - of_these.mean, reach)
    ends = np.clip([mean - low, mean + high], -1, 1)
    return Interval(mean, float(ends[0]), float(ends[1]), len(taus), first.shape[2] - len(taus))


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two lists of means (methods,), in [-1, 1].

    NaN if fewer than LEAST_METHODS have both means, or if all are tied by one of the metrics.
    """
    both = ~np.isnan(first + second)
    if both.sum() < LEAST_METHODS:
        return float("nan")
    return float(kendalltau(first[both].round(DIGITS), second[both].round(DIGITS)).statistic)


def compare_pairs(values: np.ndarray) -> PairSigns:
    """Compare all pairs of methods by values (methods, orders); NaN is undefined."""
    first, second = np.triu_indices(len(values), 1)
    apart = values.round(DIGITS)[first] - values.round(DIGITS)[second]
    return PairSigns(np.sign(np.nan_to_num(apart)).astype(np.float32), (~np.isnan(apart)).astype(np.float32))


def tau_b(first: PairSigns, second: PairSigns) -> np.ndarray:
    """Kendall's tau-b of each order by one metric and the order by the other one, (orders,) float64.

    NaN if fewer than LEAST_METHODS have both values, or if all of these are tied by one of the metrics.
    """
    concordance = np.einsum("pn,pn->n", first.signs, second.signs)
    untied = np.einsum("pn,pn->n", first.signs**2, second.known) * np.einsum("pn,pn->n", second.signs**2, first.known)
    enough = np.einsum("pn,pn->n", first.known, second.known) >= LEAST_METHODS * (LEAST_METHODS - 1) / 2
    defined = enough & (untied > 0)
    return np.where(defined, concordance / np.sqrt(np.where(defined, untied, 1), dtype=np.float64), np.nan)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the columns of two tables (methods, orders), (orders,) float64.

    NaN if fewer than LEAST_METHODS have both values, or if all of these are tied by one of the metrics.
    """
    unknown = np.isnan(first + second)
    ranks = [_ranks(np.where(unknown, np.nan, values.round(DIGITS))) for values in (first, second)]
    apart = [np.where(unknown, 0, rank - known_mean(rank, axis=0)) for rank in ranks]
    spread = np.sqrt((apart[0] ** 2).sum(0) * (apart[1] ** 2).sum(0))
    defined = ((~unknown).sum(0) >= LEAST_METHODS) & (spread > 0)
    return np.where(defined, (apart[0] * apart[1]).sum(0) / np.where(defined, spread, 1), np.nan)


def _ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of each column of values (methods, orders); tied values share theirs, and NaN stays NaN."""
    return np.asarray(rankdata(values, axis=0, nan_policy="omit" if np.isnan(values).any() else "propagate"))


def _columns(values: np.ndarray) -> np.ndarray:
    """Values (methods, rows, models) as a table with a column for each row and model."""
    return values.reshape(len(values), -1)


def _mean_of_rows(by_column: np.ndarray, values: np.ndarray, seed: int) -> Interval:
    """The mean over rows of what was computed for each row and model, with the interval for other rows."""
    return intervals(by_column.reshape(1, *values.shape[1:]), seed=seed)[0]


def _tau_of_means(first: np.ndarray, second: np.ndarray, seed: int) -> Interval:
    """Kendall's tau-b of the means of values (methods, rows), with its interval over redrawn rows."""
    known = ~np.isnan(first).all(0) & ~np.isnan(second).all(0)
    tau = kendall(known_mean(first, axis=1), known_mean(second, axis=1))
    none = Interval(tau, np.nan, np.nan, int(known.sum()), int((~known).sum()))
    if np.isnan(tau) or known.sum() < 2:
        return none
    drawn = tau_b(*(compare_pairs(resampled_means(rows, seed)) for rows in (first, second)))
    low, high = percentile_ends(drawn, tau)
    return replace(none, low=low, high=high)


def percentile_ends(drawn: np.ndarray, estimate: float, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the percentile interval of redrawn estimates (draws,), widened to contain the estimate.

    >>> percentile_ends(np.arange(1.0, 5), 2.5, level=1), percentile_ends(np.array([1.0, 2.0]), 4.0, level=1)
    ((1.0, 4.0), (1.0, 4.0))
    """
    ends: Sequence[float] = np.nanquantile(drawn, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return min(ends[0], estimate), max(ends[1], estimate)
