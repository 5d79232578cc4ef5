"""Means and similarities whose unit is the draw of a random model: other draws would give other numbers.

Rows are dealt among the draws, so that a draw has rows of its own. What rows and draws contribute to the error then
comes together in the differences between draws, and nothing has to be assumed of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .intervals import Interval, known_mean, row_means

IDENTICAL = 1 - 1e-9  # similarities from here on are those of the same map
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error over draws; NaN where it is not defined."""

    value: float
    error: float  # NaN if fewer than two draws have a value
    draws: int  # with a value

    @property
    def reach(self) -> float:
        """Half the width of the 95 % interval, by Student's t."""
        return float(student_quantile(self.draws - 1) * self.error) if self.draws > 1 else float("nan")

    def p_against(self, threshold: float) -> float:
        """Two-sided p of Student's test against a threshold; NaN where there is no error to hold it against."""
        from scipy.stats import t  # here, as it takes a while to load

        apart = abs(self.value - threshold)
        if np.isnan(self.error) or np.isnan(apart):
            return float("nan")
        if self.error == 0:
            return float(apart == 0)
        return float(2 * t.sf(apart / self.error, self.draws - 1))


@cache
def student_quantile(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to each side, by Student's t with these degrees of freedom."""
    from scipy.stats import t  # here, as it takes a while to load

    return float(t.ppf((1 + LEVEL) / 2, freedom))


def interval_over_draws(values: np.ndarray, draws: np.ndarray) -> Interval:
    """The mean of values (rows,) or (rows, steps), rows averaged within their draw, with its 95 % interval.

    `draws` (rows,) int numbers the draw of each row. The limits are NaN if fewer than two draws have a value.
    """
    table = np.asarray(values, np.float64)
    rows = table if table.ndim == 1 else row_means(table)
    means = means_by_draw(rows, draws)
    known = means[~np.isnan(means)]
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.nan
    estimate = Estimate(float(known_mean(means, 0)), float(error), len(known))
    n = int((~np.isnan(rows)).sum())
    low, high = estimate.value - estimate.reach, estimate.value + estimate.reach
    return Interval(estimate.value, low, high, n, len(rows) - n)


def means_by_draw(rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The mean of the defined rows of each draw, (draws,); NaN where a draw has none."""
    known = ~np.isnan(rows)
    sums = np.bincount(draws, np.where(known, rows, 0))
    counts = np.bincount(draws, known)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def estimate_on_scale(similarity: np.ndarray, unrelated: np.ndarray, draws: np.ndarray) -> Estimate:
    """A similarity on the scale on which maps of other pictures have 0 and the same map 1, with its error over draws.

    The value is (s - u) / (1 - u): s is the mean over draws of the mean over their rows, u the mean over pairs of rows.
    Its error is that of the jackknife which leaves out a draw with its rows, in s and in u alike, so that u is drawn
    together with s. A map that was there and is constant on the random model has 0 on the scale: it says nothing, but
    it is not the same. Where u is 1 only sameness can be told: 1 where all maps are the same, NaN else.

    Args:
        similarity: (rows,) of the map of the trained model to that of the random one.
        unrelated: (rows, rows) of the trained model's maps of two pictures; NaN where they were not compared. The
            diagonal is NaN where the map of the trained model is constant.
        draws: (rows,) int, the number of each row's draw.

    Source: Shao, Tu: The Jackknife and Bootstrap (1995), section 2.3 (groups); Student's t with one degree of freedom
    less than there are draws.
    """
    whole, parts = unrelated_means(unrelated, draws)
    lost = find_vanished(similarity, unrelated)
    rows = np.where(similarity >= IDENTICAL, 1.0, np.where(lost & (whole < IDENTICAL), whole, similarity))
    means = means_by_draw(rows, draws)
    used = np.flatnonzero(~np.isnan(means))
    if not len(used):
        return Estimate(float("nan"), float("nan"), 0)
    if not whole < IDENTICAL:
        same = bool((means[used] >= IDENTICAL).all()) and not lost.any()
        return Estimate(1.0 if same else float("nan"), 0.0 if same and len(used) > 1 else float("nan"), len(used))
    value = float(place_on_scale(means[used].mean(), whole))
    if len(used) == 1:
        return Estimate(value, float("nan"), 1)
    others = (means[used].sum() - means[used]) / (len(used) - 1)
    left = place_on_scale(others, parts[used])
    spread = ((left - left.mean()) ** 2).sum() * (len(used) - 1) / len(used)
    return Estimate(value, float(np.sqrt(spread)), len(used))


def place_on_scale(similarity: np.ndarray, unrelated: np.ndarray | float) -> np.ndarray:
    """Similarities where those of other pictures are 0 and the same map is 1; not cut.

    >>> place_on_scale(np.array([0.25, 1.0]), 0.25)
    array([0., 1.])
    """
    same = np.asarray(similarity) >= IDENTICAL
    span = np.where(np.asarray(unrelated) < IDENTICAL, 1 - np.asarray(unrelated), np.nan)
    return np.where(same, 1.0, (similarity - unrelated) / span)


def find_vanished(similarity: np.ndarray, unrelated: np.ndarray) -> np.ndarray:
    """Whether a row has a map on the trained model and a constant one on the random model, (rows,) bool."""
    return np.isnan(similarity) & ~np.isnan(np.diag(unrelated))


def unrelated_means(unrelated: np.ndarray, draws: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean over pairs (rows, rows) of different rows, and those without the rows of each draw, (draws,).

    NaN where no pair is left.
    """
    known = ~np.isnan(unrelated) & ~np.eye(len(unrelated), dtype=bool)
    members = np.eye(draws.max() + 1)[draws]
    sums, counts = (members.T @ table @ members for table in (np.where(known, unrelated, 0), known.astype(np.float64)))
    without = [table.sum() - table.sum(0) - table.sum(1) + np.diag(table) for table in (sums, counts)]
    whole = float(sums.sum() / counts.sum()) if counts.sum() else float("nan")
    return whole, np.where(without[1] > 0, without[0] / np.maximum(without[1], 1), np.nan)
