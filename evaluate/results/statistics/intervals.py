"""Confidence intervals of means over rows, for these models, and the scale from chance to the truth.

BCa limits are computed here and not by `scipy.stats.bootstrap`, which knows no missing values and draws anew at every
call: for 20 methods on 300 rows it takes 40 times as long as these limits, whose draws all methods share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

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


def interval(values: np.ndarray, *, seed: int, groups: Sequence[str] | None = None, level: float = 0.95) -> Interval:
    """The interval of values (rows,) or (rows, draws), which holds for other rows and for draws made anew.

    The rows have the interval of `intervals`. Few draws are too few to resample, so their standard error enters with
    Student's t; the two reaches add in squares. `groups` has a name per draw (None: all have the same), and draws are
    compared within their group.

    Source: Owen: The Pigeonhole Bootstrap, Annals of Applied Statistics 1 (2007) (both ways, each in full); Zou,
    Donner, Statistics in Medicine 27 (2008) (adding the reaches).
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    of_rows = intervals(row_means(table)[None, :, None], seed=seed, level=level)[0]
    reach = float(_reach_of_draws(table[None], groups, level)[0])
    low, high = (np.hypot(of_rows.mean - of_rows.low, reach), np.hypot(of_rows.high - of_rows.mean, reach))
    return replace(of_rows, low=float(of_rows.mean - low), high=float(of_rows.mean + high))


def share_interval(rows: np.ndarray, *, seed: int, level: float = 0.95) -> Interval:
    """The interval of a share, from values (rows,) in [0, 1]; if all are 0 or all are 1, the exact binomial interval.

    Resampling rows that agree finds no spread, but 300 rows without an exception do not rule out one in a hundred.

    Source: Clopper, Pearson, Biometrika 26 (1934) 404-413.
    """
    from scipy.stats import binomtest  # here, as it takes a while to load

    resampled = interval(rows, seed=seed, level=level)
    if resampled.mean not in (0.0, 1.0):
        return resampled
    exact = binomtest(round(resampled.mean) * resampled.n, resampled.n).proportion_ci(level, method="exact")
    return replace(resampled, low=float(exact.low), high=float(exact.high))


def intervals(
    values: np.ndarray, *, seed: int, architectures: Sequence[str] | None = None, level: float = 0.95
) -> list[Interval]:
    """Means of values (methods, rows, models) with intervals that hold for other rows and for these very models.

    The scores of several models on one row are not independent: a row counts by the mean of its models and is drawn
    with all of them. `architectures` has a name per model (None: all have the same); architectures weigh the same,
    whatever their number of seeds. NaN is undefined and left out; a row is undefined if no model has a value for it.

    This is the BCa bootstrap, widened to the quantiles of Student's t for few rows. Rows that are all equal have no
    spread to resample. What would come of models trained anew is another question; see `trained_anew`.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), section 14.3; Hesterberg: What Teachers Should
    Know About the Bootstrap, The American Statistician 69 (2015) (widening).
    """
    rows = rows_of(values, architectures)
    mean = _exact_means(rows)
    return _as_intervals(mean, *_bca(rows, mean, seed, level), rows)


def calibrated_intervals(
    values: np.ndarray,
    chance: np.ndarray,
    oracle: np.ndarray,
    *,
    seed: int,
    architectures: Sequence[str] | None = None,
    level: float = 0.95,
) -> list[Interval]:
    """Intervals like `intervals`, on the scale where a random map has 0 and the truth has 1.

    A resample draws the rows of values (methods, rows, models) together with what chance and the truth (rows, models)
    score on them. They go up and down together, so the interval is narrower than if both were constants. NaN if chance
    and the truth score the same on average, in all rows or in some resample.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), sections 14.3 and 22.6 (acceleration of a ratio
    by its empirical influence).
    """
    known = ~np.isnan(values)
    floor, truth = (rows_of(np.where(known, reference, np.nan), architectures) for reference in (chance, oracle))
    above, span = rows_of(values, architectures) - floor, truth - floor
    return _ratio_intervals(above, span, seed, level)


def calibrated_differences(
    values: np.ndarray,
    others: np.ndarray,
    chance: np.ndarray,
    oracle: np.ndarray,
    *,
    seed: int,
    architectures: Sequence[str] | None = None,
    level: float = 0.95,
) -> list[Interval]:
    """Intervals of values less others (methods, rows, models), in units of the scale from chance (0) to the truth (1).

    Values, others and references (rows, models) are drawn together; a place counts where all four are defined. NaN as
    in `calibrated_intervals`.
    """
    known = ~np.isnan(values + others + chance + oracle)
    above, span = (
        rows_of(np.where(known, difference, np.nan), architectures) for difference in (values - others, oracle - chance)
    )
    return _ratio_intervals(above, span, seed, level)


def _ratio_intervals(above: np.ndarray, span: np.ndarray, seed: int, level: float) -> list[Interval]:
    """Intervals of the means of `above` (methods, rows) over those of `span`, both drawn together."""
    mean, whole = _exact_means(above), known_mean(span, axis=1)
    usable = np.abs(whole) > 0
    ratio = np.where(usable, mean / np.where(usable, whole, 1), np.nan)
    influence = (above - ratio[:, None] * span) / np.where(usable, whole, 1)[:, None]
    rounding = 1e-12 * (np.abs(above) + np.abs(span)) / np.where(usable, np.abs(whole), 1)[:, None]
    influence[np.abs(influence) <= rounding] = 0
    spans = resampled_means(span, seed)
    usable &= (np.sign(spans) == np.sign(whole)[:, None]).all(1)
    drawn = resampled_means(above, seed) / np.where(usable[:, None], spans, 1)
    low, high = (np.where(usable, end, np.nan) for end in _limits(drawn, ratio, influence, level))
    return _as_intervals(ratio, low, high, above)


def _as_intervals(mean: np.ndarray, low: np.ndarray, high: np.ndarray, rows: np.ndarray) -> list[Interval]:
    """Intervals of means (methods,) of values (methods, rows), with the number of rows that have a value."""
    counts = (~np.isnan(rows)).sum(1)
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


def by_architecture(values: np.ndarray, architectures: Sequence[str] | None) -> np.ndarray:
    """The means over the seeds of each architecture: (..., rows, models) -> (..., rows, architectures) float64."""
    names = np.asarray(architectures if architectures is not None else ["one"] * values.shape[-1])
    return np.stack([row_means(values[..., names == name]) for name in dict.fromkeys(names.tolist())], axis=-1)


def rows_of(values: np.ndarray, architectures: Sequence[str] | None) -> np.ndarray:
    """The mean of each row over the architectures that have a value: (..., rows, models) -> (..., rows) float64."""
    return row_means(by_architecture(values, architectures)) if values.shape[-1] else row_means(values)


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
    return _limits(resampled_means(rows, seed), mean, rows - mean[:, None], level)


def _limits(
    drawn: np.ndarray, estimate: np.ndarray, influence: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated limits (methods,) of an estimate (methods,); the estimate if no row moves it.

    `drawn` are the estimates (methods, resamples) of redrawn rows, `influence` says how much each row moves the
    estimate (methods, rows), NaN for a row without a value.
    """
    from scipy.stats import norm  # here, as it takes a while to load

    low, high = estimate.copy(), estimate.copy()
    moves = np.where(np.isnan(influence), 0, influence)
    counts, moved = (~np.isnan(influence)).sum(1), (moves != 0).any(1)
    low[moved & (counts < 2)] = high[moved & (counts < 2)] = np.nan  # of one row nothing more is known
    varied = np.flatnonzero(moved & (counts > 1))
    if not len(varied):
        return low, high
    n, moves, centre = counts[varied], moves[varied], estimate[varied, None]
    drawn = np.sort(drawn[varied], axis=1)
    tie = 1e-9 * np.abs(moves).max(1, keepdims=True)  # sums of the same values in another order
    below = ((drawn < centre - tie).mean(1) + (drawn <= centre + tie).mean(1)) / 2
    bias = norm.ppf(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
    acceleration = (moves**3).sum(1) / (6 * (moves**2).sum(1) ** 1.5)
    reach = _student_reach(n, level)
    low[varied], high[varied] = (_percentile(drawn, _bca_share(z, bias, acceleration)) for z in (-reach, reach))
    return low, high


def _student_reach(n: np.ndarray, level: float) -> np.ndarray:
    """How many standard errors of the bootstrap, which divides by n, Student's interval of n > 1 rows reaches."""
    from scipy.stats import t  # here, as it takes a while to load

    return np.sqrt(n / (n - 1)) * t.ppf((1 + level) / 2, n - 1)


def _bca_share(z: np.ndarray, bias: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """The share of resampled means below the limit that is z standard errors away.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), (14.10).
    """
    from scipy.stats import norm  # here, as it takes a while to load

    return norm.cdf(bias + (bias + z) / np.maximum(1 - acceleration * (bias + z), 1e-9))


def _percentile(drawn: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The value (methods,) with a share (methods,) of the sorted values (methods, n) below it, interpolated."""
    place = share * (drawn.shape[1] - 1)
    whole = np.minimum(place.astype(np.intp), drawn.shape[1] - 2)
    methods = np.arange(len(drawn))
    below, above = drawn[methods, whole], drawn[methods, whole + 1]
    return below + (place - whole) * (above - below)


def _reach_of_draws(values: np.ndarray, groups: Sequence[str] | None, level: float) -> np.ndarray:
    """How far the mean of values (methods, rows, draws) may be off because of the choice of draws, (methods,)."""
    from scipy.stats import t  # here, as it takes a while to load

    names = np.asarray(groups if groups is not None else ["one"] * values.shape[2])
    by_draw = known_mean(values - row_means(values)[..., None], axis=1)  # (methods, draws), whatever the rows
    squares, freedom = np.zeros(len(values)), np.zeros(len(values))
    for name in np.unique(names):
        alike = by_draw[:, names == name]
        squares += np.nansum((alike - known_mean(alike, axis=1)[:, None]) ** 2, axis=1)
        freedom += np.maximum((~np.isnan(alike)).sum(1) - 1, 0)
    draws = (~np.isnan(by_draw)).sum(1)
    error = np.sqrt(squares / np.maximum(freedom, 1) / np.maximum(draws, 1))
    return np.where(freedom > 0, error * t.ppf((1 + level) / 2, np.maximum(freedom, 1)), 0)
