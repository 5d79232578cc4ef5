"""Which of two methods is better: every pair on the same rows and models, corrected for how many pairs there are.

Holm's correction and the largest sets of tied methods are written here, in 5 and 9 lines, and not taken from
statsmodels and networkx, whose imports alone take 3.4 s and 0.6 s, and which nothing else at run time needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from .intervals import Interval, intervals, known_mean, row_means

ALPHA = 0.05
FLIPS = 9999
_FLIPS_PER_PAIR = 50  # so that the smallest p that can be found stays below alpha when it is multiplied by the pairs
_SIGNS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Comparison:
    """Two methods, by their numbers, on the rows and models where both have a value. NaN where nothing can be said."""

    first: int
    second: int
    difference: Interval  # of the first less the second, for other rows and for models trained anew
    p: float  # two-sided, rows being the sample: of the models at hand
    adjusted: float  # the same, by Holm, over all pairs
    effect: float  # mean of the rows' differences over their standard deviation
    rank_biserial: float  # ranks of rows that favour the first less those that favour the second, over all; -1 to 1

    @property
    def apart(self) -> bool:
        """Whether they can be told apart: not by chance of the rows, nor by chance of the seeds.

        Over all pairs, rows mislead with probability ALPHA at most. Seeds are asked pair by pair, by the interval:
        Holm's correction of a test on two degrees of freedom would find nothing.
        """
        return self.adjusted < ALPHA and not self.difference.low <= 0 <= self.difference.high

    def turned(self) -> Comparison:
        """The same with the second as the first."""
        was = self.difference
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=replace(was, mean=-was.mean, low=-was.high, high=-was.low),
            effect=-self.effect,
            rank_biserial=-self.rank_biserial,
        )


def compare(values: np.ndarray, *, seed: int, architectures: Sequence[str] | None = None) -> list[Comparison]:
    """All pairs of methods, of their values (methods, rows, models); NaN is undefined.

    The test flips the signs of the rows' differences, a row with all its models: exact where a row's difference is as
    likely to be positive as negative, and right for means of many rows wherever. Holm's correction keeps the
    probability of any wrong claim over all pairs of the metric below ALPHA.

    Source: Fisher: The Design of Experiments (1935), section 21; Holm, Scandinavian Journal of Statistics 6 (1979);
    Cohen: Statistical Power Analysis (1988) (d_z); Kerby, Comprehensive Psychology 3 (2014) (ranks).
    """
    pairs = np.array(list(combinations(range(len(values)), 2)), dtype=np.intp).reshape(-1, 2)
    apart = values[pairs[:, 0]] - values[pairs[:, 1]]
    rows = row_means(apart)
    p = flipped(rows, seed)
    differences = intervals(apart, seed=seed, architectures=architectures)
    numbers = np.stack([p, holm(p), standardised(rows), by_rank(rows)], axis=1).tolist()
    return [
        Comparison(first, second, difference, *each)
        for (first, second), difference, each in zip(pairs.tolist(), differences, numbers, strict=True)
    ]


def flipped(rows: np.ndarray, seed: int) -> np.ndarray:
    """Two-sided p (pairs,) of differences (pairs, rows), NaN left out: would other signs give so large a mean?

    Every choice of signs is tried where there are few rows, else FLIPS or more are drawn and the one that was found
    counts as one of them.
    """
    known = ~np.isnan(rows)
    filled = np.where(known, rows, 0).T.astype(np.float32)
    found = np.abs(filled.sum(0, dtype=np.float64)) - 1e-6 * np.abs(filled).sum(0)  # sums of the same values round
    wanted = max(FLIPS, _FLIPS_PER_PAIR * len(rows))
    exact = 2 ** min(len(filled), 62) <= wanted
    beyond, tried = np.zeros(len(rows)), 0
    for signs in _all_signs(len(filled)) if exact else _drawn_signs(len(filled), wanted, seed):
        beyond += (np.abs(signs @ filled) >= found).sum(0)
        tried += len(signs)
    return np.where(known.any(1), (beyond + (not exact)) / (tried + (not exact)), np.nan)


def _all_signs(rows: int) -> Iterator[np.ndarray]:
    """(2**rows, rows) float32 of +1 and -1."""
    yield 1 - 2 * ((np.arange(2**rows)[:, None] >> np.arange(rows)) & 1).astype(np.float32)


def _drawn_signs(rows: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """(count, rows) float32 of +1 and -1, some at a time."""
    random, step = np.random.default_rng(seed), max(1, _SIGNS_AT_ONCE // rows)
    for start in range(0, count, step):
        shape = (min(step, count - start), rows)
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-shape[0] * rows // 8)), np.uint8), count=shape[0] * rows)
        yield 1 - 2 * bits.reshape(shape).astype(np.float32)


def holm(p: np.ndarray) -> np.ndarray:
    """p corrected for how many there are; NaN counts as none and stays NaN."""
    order = np.argsort(p)  # NaN comes last
    left = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.maximum(left, 1)), 1)
    return adjusted


def standardised(rows: np.ndarray) -> np.ndarray:
    """Mean over standard deviation (pairs,) of differences (pairs, rows); NaN where they do not vary."""
    mean = known_mean(rows, axis=1)
    n = (~np.isnan(rows)).sum(1)
    spread = np.sqrt(np.nansum((rows - mean[:, None]) ** 2, axis=1) / np.maximum(n - 1, 1))
    varied = (n > 1) & (spread > 1e-12 * np.abs(mean))
    return np.where(varied, mean / np.where(varied, spread, 1), np.nan)


def by_rank(rows: np.ndarray) -> np.ndarray:
    """Matched-pairs rank-biserial correlation (pairs,) of differences (pairs, rows); 0 where all differences are 0."""
    sizes = np.where(rows == 0, np.nan, np.abs(rows))
    ranks = np.nan_to_num(rankdata(sizes, axis=1, nan_policy="omit")) if sizes.size else np.zeros(sizes.shape)
    favour = np.where(np.isnan(rows), 0, np.sign(rows))
    total = ranks.sum(1)
    shares = (ranks * favour).sum(1) / np.where(total > 0, total, 1)
    return np.where(np.isnan(rows).all(1), np.nan, shares)


def groups(best_first: Sequence[int], comparisons: Sequence[Comparison]) -> list[list[int]]:
    """The largest sets of methods of which no two can be told apart; the set of the best method comes first.

    A method may be in several: two methods that share a set are tied. Written with a letter per set this is the
    compact letter display.

    Source: Piepho, Journal of Computational and Graphical Statistics 13 (2004).
    """
    place = {method: i for i, method in enumerate(best_first)}
    tied: dict[int, set[int]] = {method: set(best_first) - {method} for method in best_first}
    for each in comparisons:
        if each.apart:
            tied[each.first].discard(each.second)
            tied[each.second].discard(each.first)
    found = [sorted(members, key=place.__getitem__) for members in _largest(set(), set(best_first), set(), tied)]
    return sorted(found, key=lambda members: [place[method] for method in members])


def _largest(members: set[int], left: set[int], done: set[int], tied: dict[int, set[int]]) -> Iterator[set[int]]:
    """The sets that no further method fits into. Bron, Kerbosch, Communications of the ACM 16 (1973), with a pivot."""
    if not left and not done:
        yield members
        return
    pivot = max(left | done, key=lambda method: len(tied[method] & left))
    for method in sorted(left - tied[pivot]):
        yield from _largest(members | {method}, left & tied[method], done & tied[method], tied)
        left, done = left - {method}, done | {method}
