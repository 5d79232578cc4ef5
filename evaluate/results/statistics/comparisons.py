"""Which of two methods is better: every pair on the same rows and models, corrected for how many pairs there are.

Holm's correction and the largest sets of tied methods are written here, in 5 and 9 lines, and not taken from
statsmodels and networkx, whose imports alone take 3.4 s and 0.6 s, and which nothing else at run time needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .intervals import Interval, intervals, known_mean, rows_of

ALPHA = 0.05
FLIPS = 9999
ROUNDING = 1e-6
FLIPS_PER_PAIR = 50  # so that the smallest possible p, times the number of pairs, stays below alpha
_SIGNS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Comparison:
    """The comparison of two methods on the rows and models where both have a value. NaN where nothing can be said."""

    first: int  # the number of a method
    second: int
    difference: Interval  # the first minus the second, for other rows and these models
    p: float  # two-sided, likewise
    adjusted: float  # p corrected by Holm over all pairs
    effect: float  # mean of the rows' differences over their standard deviation (d_z)
    rank_biserial: float  # (ranks of rows for the first - ranks of rows for the second) / all ranks; -1 to 1

    @property
    def compared(self) -> bool:
        """Whether the two methods have a row and a model in common. If not, they are neither apart nor tied."""
        return self.difference.n > 0

    @property
    def apart(self) -> bool:
        """Whether these models tell the two methods apart: the choice of rows does not explain the difference.

        Over all pairs, the rows mislead with probability ALPHA at most. It says nothing of models trained anew.
        """
        return self.adjusted < ALPHA

    def swap(self) -> Comparison:
        """The same comparison with its two methods swapped."""
        before = self.difference
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=replace(before, mean=-before.mean, low=-before.high, high=-before.low),
            effect=-self.effect,
            rank_biserial=-self.rank_biserial,
        )


def compare(values: np.ndarray, *, seed: int, architectures: Sequence[str] | None = None) -> list[Comparison]:
    """Compare all pairs of methods by their values (methods, rows, models); NaN is undefined.

    The test flips the signs of the rows' differences, a row with all its models. It is exact if a row's difference is
    as likely to be positive as negative, and holds for means of many rows in any case. Holm's correction keeps the
    probability of any wrong claim over all pairs of the metric below ALPHA.

    Source: Fisher: The Design of Experiments (1935), section 21; Holm, Scandinavian Journal of Statistics 6 (1979);
    Cohen: Statistical Power Analysis (1988) (d_z); Kerby, Comprehensive Psychology 3 (2014) (ranks).
    """
    pairs = np.array(list(combinations(range(len(values)), 2)), dtype=np.intp).reshape(-1, 2)
    apart = values[pairs[:, 0]] - values[pairs[:, 1]]
    rows = without_rounding(rows_of(apart, architectures), values)
    p = sign_flip_p(rows, seed)
    differences = intervals(apart, seed=seed, architectures=architectures)
    numbers = np.stack([p, holm(p), effect_sizes(rows), rank_biserials(rows)], axis=1).tolist()
    return [
        Comparison(first, second, difference, *row)
        for (first, second), difference, row in zip(pairs.tolist(), differences, numbers, strict=True)
    ]


def without_rounding(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Differences of rows with 0 where they are no more than rounding beside the values (single precision).

    Signs alone decide a test by signs: twelve differences of 1e-17 of one sign would be no chance.
    """
    return np.where(np.abs(rows) <= ROUNDING * np.nanmax(np.abs(values), initial=0), 0, rows)


def sign_flip_p(rows: np.ndarray, seed: int, tests: int | None = None) -> np.ndarray:
    """Two-sided p (pairs,) of differences (pairs, rows): the share of sign flips with at least so large a mean.

    NaN is left out. For few rows every choice of signs is tried; for more, FLIPS or more choices are drawn, and the
    observed one counts as one of them.

    Args:
        tests: how many tests are corrected together; as many as there are pairs where None.
    """
    known = ~np.isnan(rows)
    filled = np.where(known, rows, 0).T.astype(np.float32)
    observed = np.abs(filled.sum(0, dtype=np.float64)) - 1e-6 * np.abs(filled).sum(0)  # equal sums may round apart
    wanted = max(FLIPS, FLIPS_PER_PAIR * (tests or len(rows)))
    exact = 2 ** min(len(filled), 62) <= wanted
    beyond, tried = np.zeros(len(rows)), 0
    for signs in _all_signs(len(filled)) if exact else _drawn_signs(len(filled), wanted, seed):
        beyond += (np.abs(signs @ filled) >= observed).sum(0)
        tried += len(signs)
    return np.where(known.any(1), (beyond + (not exact)) / (tried + (not exact)), np.nan)


def _all_signs(rows: int) -> Iterator[np.ndarray]:
    """Every choice of signs, (2**rows, rows) float32 of +1 and -1."""
    yield 1 - 2 * ((np.arange(2**rows)[:, None] >> np.arange(rows)) & 1).astype(np.float32)


def _drawn_signs(rows: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Random choices of signs, (count, rows) float32 of +1 and -1, yielded in blocks."""
    random, step = np.random.default_rng(seed), max(1, _SIGNS_AT_ONCE // rows)
    for start in range(0, count, step):
        shape = (min(step, count - start), rows)
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-shape[0] * rows // 8)), np.uint8), count=shape[0] * rows)
        yield 1 - 2 * bits.reshape(shape).astype(np.float32)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values (pairs,) corrected by Holm for how many there are; NaN is not counted and stays NaN."""
    order = np.argsort(p)  # NaN comes last
    left = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.maximum(left, 1)), 1)
    return adjusted


def effect_sizes(rows: np.ndarray) -> np.ndarray:
    """Cohen's d_z (pairs,) of differences (pairs, rows): mean over standard deviation; NaN if they do not vary."""
    mean = known_mean(rows, axis=1)
    n = (~np.isnan(rows)).sum(1)
    spread = np.sqrt(np.nansum((rows - mean[:, None]) ** 2, axis=1) / np.maximum(n - 1, 1))
    varied = (n > 1) & (spread > 1e-12 * np.abs(mean))
    return np.where(varied, mean / np.where(varied, spread, 1), np.nan)


def rank_biserials(rows: np.ndarray) -> np.ndarray:
    """Matched-pairs rank-biserial correlation (pairs,) of differences (pairs, rows); 0 if all differences are 0."""
    from scipy.stats import rankdata  # here, as it takes a while to load

    sizes = np.where(rows == 0, np.nan, np.abs(rows))
    ranks = np.nan_to_num(rankdata(sizes, axis=1, nan_policy="omit")) if sizes.size else np.zeros(sizes.shape)
    favour = np.where(np.isnan(rows), 0, np.sign(rows))
    total = ranks.sum(1)
    shares = (ranks * favour).sum(1) / np.where(total > 0, total, 1)
    return np.where(np.isnan(rows).all(1), np.nan, shares)


def groups(best_first: Sequence[int], comparisons: Sequence[Comparison]) -> list[list[int]]:
    """The largest sets of methods of which no two can be told apart; the set of the best method comes first.

    A method may be in several sets; two methods that share a set are tied. Methods that were never compared share none.
    With a letter per set, this is the compact letter display.

    Source: Piepho, Journal of Computational and Graphical Statistics 13 (2004).
    """
    place = {method: i for i, method in enumerate(best_first)}
    tied: dict[int, set[int]] = {method: set(best_first) - {method} for method in best_first}
    for pair in comparisons:
        if pair.apart or not pair.compared:
            tied[pair.first].discard(pair.second)
            tied[pair.second].discard(pair.first)
    sets = [sorted(members, key=place.__getitem__) for members in _largest(set(), set(best_first), set(), tied)]
    return sorted(sets, key=lambda members: [place[method] for method in members])


def _largest(members: set[int], left: set[int], done: set[int], tied: dict[int, set[int]]) -> Iterator[set[int]]:
    """The maximal sets of tied methods: no further method is tied with all members.

    Source: Bron, Kerbosch, Communications of the ACM 16 (1973), with a pivot.
    """
    if not left and not done:
        yield members
        return
    pivot = max(left | done, key=lambda method: len(tied[method] & left))
    for method in sorted(left - tied[pivot]):
        yield from _largest(members | {method}, left & tied[method], done & tied[method], tied)
        left, done = left - {method}, done | {method}
