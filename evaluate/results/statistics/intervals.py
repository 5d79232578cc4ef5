"""Confidence intervals of means over rows and models, and the scale from chance to the truth.

BCa limits are computed here and not by `scipy.stats.bootstrap`, which knows no missing values and draws anew at every
call: for 20 methods on 300 rows it takes 40 times as long as these limits, whose draws all methods share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.stats import binomtest, norm, t

RESAMPLES = 2000
_DRAWS_AT_ONCE = 2**21  # values held at a time while resampling: 16 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, and how many rows it covers. NaN if no row has a value."""

    mean: float
    low: float
    high: float
    n: int  # rows with a value
    undefined: int  # rows without a value


def interval(
    values: np.ndarray, *, seed: int, architectures: Sequence[str] | None = None, level: float = 0.95
) -> Interval:
    """The interval of values (rows,) or (rows, models); see `intervals`."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    return intervals(table[None], seed=seed, architectures=architectures, level=level)[0]


def share_interval(rows: np.ndarray, *, seed: int, level: float = 0.95) -> Interval:
    """The interval of a share, from values (rows,) in [0, 1]; if all are 0 or all are 1, the exact binomial interval.

    Resampling rows that agree finds no spread, but 300 rows without an exception do not rule out one in a hundred.

    Source: Clopper, Pearson, Biometrika 26 (1934) 404-413.
    """
    resampled = interval(rows, seed=seed, level=level)
    if resampled.mean not in (0.0, 1.0):
        return resampled
    exact = binomtest(round(resampled.mean) * resampled.n, resampled.n).proportion_ci(level, method="exact")
    return replace(resampled, low=float(exact.low), high=float(exact.high))


def intervals(
    values: np.ndarray, *, seed: int, architectures: Sequence[str] | None = None, level: float = 0.95
) -> list[Interval]:
    """Means of values (methods, rows, models) with intervals that hold for other rows and for models trained anew.

    The scores of several models on one row are not independent: a row counts by the mean of its models and is drawn
    with all of them. NaN is undefined and left out; a row is undefined if no model has a value for it.

    For the rows, this is the BCa bootstrap, widened to the quantiles of Student's t for few rows. For the models,
    `architectures` has a name per model (None: all have the same), and models of one architecture differ by their seed.
    Three seeds are too few to resample (the two-way bootstrap then covers 70 to 80 % where it says 95 %), so their
    standard error enters with Student's t. The two reaches add in squares. The interaction of rows and models is part
    of both, so the interval errs on the wide side. With one model per architecture nothing is known of seeds, and the
    interval holds for these models. Rows that are all equal have no spread to resample.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), section 14.3; Hesterberg: What Teachers Should
    Know About the Bootstrap, The American Statistician 69 (2015) (widening); Owen: The Pigeonhole
    Bootstrap, Annals of Applied Statistics 1 (2007) (both ways, each in full); Zou, Donner, Statistics in Medicine 27
    (2008) (adding the reaches).
    """
    rows = row_means(values)
    known = ~np.isnan(rows)
    mean = _exact_means(rows)
    low, high = _bca(rows, mean, seed, level)
    reach = _reach_of_seeds(np.asarray(values, dtype=np.float64), architectures, level)
    low, high = mean - np.hypot(mean - low, reach), mean + np.hypot(high - mean, reach)
    counts = known.sum(1)
    columns = zip(mean.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return [Interval(*numbers, undefined=rows.shape[1] - numbers[-1]) for numbers in columns]


def calibrate(mean: float, chance: float, oracle: float) -> float:
    """A mean on the scale where a random map has 0 and the truth has 1; NaN if chance and truth score the same.

    >>> calibrate(0.5, chance=0.25, oracle=0.75)
    0.5
    """
    return (mean - chance) / (oracle - chance) if oracle != chance else float("nan")


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of the defined values along an axis, float64; NaN where no value is defined."""
    table = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(table)
    counts = known.sum(axis)
    return np.where(counts > 0, np.where(known, table, 0).sum(axis) / np.maximum(counts, 1), np.nan)


def row_means(values: np.ndarray) -> np.ndarray:
    """The mean of each row over the models that have a value: (..., rows, models) -> (..., rows) float64.

    NaN where no model has a value.
    """
    return known_mean(values, axis=-1)


def resampled_means(rows: np.ndarray, seed: int) -> np.ndarray:
    """Bootstrap means (methods, RESAMPLES) of values (methods, rows), NaN left out; rows are drawn with replacement.

    All methods get the same draws, and so does every call with as many rows and the same seed.
    """
    known = ~np.isnan(rows)
    filled = np.where(known, rows, 0)
    sums, counts = np.empty((2, len(rows), RESAMPLES))
    for block, draws in _blocks(rows.shape[1], seed):
        sums[:, block] = filled @ draws
        counts[:, block] = rows.shape[1] if known.all() else known.astype(np.float64) @ draws
    means = known_mean(rows, axis=1)[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), means)  # a draw without any value says nothing


def _blocks(rows: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """How often each row is drawn, (rows, resamples) float64, in blocks of resamples."""
    counts, step = _draws(rows, seed), max(1, _DRAWS_AT_ONCE // max(rows, 1))
    for start in range(0, RESAMPLES, step):
        block = slice(start, min(start + step, RESAMPLES))
        yield block, counts[block].T.astype(np.float64)


@lru_cache(maxsize=1)
def _draws(rows: int, seed: int) -> np.ndarray:
    """How often each resample draws each row, (RESAMPLES, rows) uint8; P(more than 255 times) is below 1e-500."""
    random, step = np.random.default_rng(seed), max(1, _DRAWS_AT_ONCE // max(rows, 1))
    counts = np.zeros((RESAMPLES, rows), np.uint8)
    for start in range(0, RESAMPLES if rows else 0, step):
        part = counts[start : start + step]
        drawn = random.integers(0, rows, part.shape) + np.arange(len(part))[:, None] * rows
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    counts.setflags(write=False)
    return counts


def _exact_means(rows: np.ndarray) -> np.ndarray:
    """Means (methods,) of the defined rows; if all are equal, exactly their value, since a computed mean rounds."""
    known = ~np.isnan(rows)
    low = np.where(known, rows, np.inf).min(1, initial=np.inf)
    high = np.where(known, rows, -np.inf).max(1, initial=-np.inf)
    return np.where(low == high, low, known_mean(rows, axis=1))


def _bca(rows: np.ndarray, mean: np.ndarray, seed: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated limits (methods,) of rows (methods, rows); the mean if the rows do not vary."""
    low, high = mean.copy(), mean.copy()
    apart = np.where(np.isnan(rows), 0, rows - mean[:, None])
    varied = np.flatnonzero((apart != 0).any(1))
    if not len(varied):
        return low, high
    rows, mean, apart = rows[varied], mean[varied, None], apart[varied]
    drawn = np.sort(resampled_means(rows, seed), axis=1)
    tie = 1e-9 * np.abs(apart).max(1, keepdims=True)  # sums of the same values in another order
    below = ((drawn < mean - tie).mean(1) + (drawn <= mean + tie).mean(1)) / 2
    bias = norm.ppf(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
    acceleration = (apart**3).sum(1) / (6 * (apart**2).sum(1) ** 1.5)
    reach = _student_reach((~np.isnan(rows)).sum(1), level)
    low[varied], high[varied] = (_percentile(drawn, _bca_share(z, bias, acceleration)) for z in (-reach, reach))
    return low, high


def _student_reach(n: np.ndarray, level: float) -> np.ndarray:
    """How many standard errors of the bootstrap, which divides by n, Student's interval of n > 1 rows reaches."""
    return np.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1)


def _bca_share(z: np.ndarray, bias: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """The share of resampled means below the limit that is z standard errors away.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), (14.10).
    """
    return norm.cdf(bias + (bias + z) / np.maximum(1 - acceleration * (bias + z), 1e-9))


def _percentile(drawn: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The value (methods,) with a share (methods,) of the sorted values (methods, n) below it, interpolated."""
    place = share * (drawn.shape[1] - 1)
    whole = np.minimum(place.astype(np.intp), drawn.shape[1] - 2)
    methods = np.arange(len(drawn))
    below, above = drawn[methods, whole], drawn[methods, whole + 1]
    return below + (place - whole) * (above - below)


def _reach_of_seeds(values: np.ndarray, architectures: Sequence[str] | None, level: float) -> np.ndarray:
    """How far the mean of values (methods, rows, models) may be off because of the choice of seeds, (methods,)."""
    names = np.asarray(architectures if architectures is not None else ["one"] * values.shape[2])
    by_model = known_mean(values - row_means(values)[..., None], axis=1)  # (methods, models), whatever the rows
    squares, freedom = np.zeros(len(values)), np.zeros(len(values))
    for name in np.unique(names):
        alike = by_model[:, names == name]
        squares += np.nansum((alike - known_mean(alike, axis=1)[:, None]) ** 2, axis=1)
        freedom += np.maximum((~np.isnan(alike)).sum(1) - 1, 0)
    models = (~np.isnan(by_model)).sum(1)
    error = np.sqrt(squares / np.maximum(freedom, 1) / np.maximum(models, 1))
    return np.where(freedom > 0, error * t.ppf((1 + level) / 2, np.maximum(freedom, 1)), 0)
