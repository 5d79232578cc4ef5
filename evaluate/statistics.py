"""What may be said of a mean over rows: its interval, and where it lies between chance and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
_DRAWS_AT_ONCE = 2**21  # values held at a time while resampling: 16 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, and how many rows it covers. NaN where no row has a value."""

    mean: float
    low: float
    high: float
    n: int  # rows with a value
    undefined: int  # rows without one


def interval(values: np.ndarray, *, seed: int, level: float = 0.95) -> Interval:
    """Mean of values (rows,) or (rows, models) and its percentile bootstrap interval, resampled by row.

    The scores of several models on one row are not independent: a row is drawn with all its models, and counts by
    their mean. NaN is undefined and left out; a row is undefined when no model has a value for it. A single row, or
    rows that are all equal, cannot be told apart by resampling: the interval is then the mean itself.

    Source: Efron, Tibshirani: An Introduction to the Bootstrap (1993), chapter 13; clusters as in Davison, Hinkley:
    Bootstrap Methods and their Application (1997), section 3.8.
    """
    rows = _row_means(values)
    known = rows[~np.isnan(rows)]
    low, mean, high = _percentiles(known, seed, level)
    return Interval(mean, low, high, n=len(known), undefined=len(rows) - len(known))


def calibrated(mean: float, chance: float, oracle: float) -> float:
    """A mean on the scale where a random map has 0 and the truth has 1; NaN where chance and truth score the same.

    >>> calibrated(0.5, chance=0.25, oracle=0.75)
    0.5
    """
    return (mean - chance) / (oracle - chance) if oracle != chance else float("nan")


def _row_means(values: np.ndarray) -> np.ndarray:
    """(rows,) or (rows, models) -> (rows,) float64: the mean of what is defined, NaN where nothing is."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    known = ~np.isnan(table)
    counts = known.sum(1)
    return np.where(counts > 0, np.where(known, table, 0).sum(1) / np.maximum(counts, 1), np.nan)


def _percentiles(rows: np.ndarray, seed: int, level: float) -> tuple[float, float, float]:
    """Low, mean and high of defined rows (n,)."""
    if len(rows) == 0:
        return (float("nan"),) * 3
    if np.ptp(rows) == 0:
        return (float(rows[0]),) * 3  # not their mean, which rounds
    found = bootstrap(
        (rows,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _DRAWS_AT_ONCE // len(rows)),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(rows.mean()), float(found.high)
