"""Whether maps of one method agree where models and evidence do: rank correlation and overlap, beside other rows' maps.

Maps are rows of pixels (n, P). Every number stands beside what the maps of *other* rows reach, which is the chance that
counts: maps of one method look alike wherever they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ..files import without_nan
from .intervals import Interval, calibrated_intervals, intervals

STEADY = 0.5  # on the scale on which maps of other rows have 0 and the same map 1
STABLE, UNSTABLE, UNDECIDED, UNKNOWN = "stable", "unstable", "undecided", "unknown"


class MapPair(NamedTuple):
    """Maps of the same rows that are to agree, and the rows in which they have to."""

    first: np.ndarray  # (n, P)
    second: np.ndarray  # (n, P)
    counts: np.ndarray  # (n,) int: how many of the largest pixels are compared, in each row
    included: np.ndarray  # (n,) bool: where models and evidence agree


def rank_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each map (n, P) with each other map (n, P): (n, n), NaN where one does not vary."""
    products = _standard_ranks(first) @ _standard_ranks(second).T
    return np.clip(products.round(12), -1, 1)  # so that a map has exactly 1 with itself


def _standard_ranks(maps: np.ndarray) -> np.ndarray:
    """The ranks of each map (n, P) with mean 0 and norm 1; NaN if it does not vary."""
    ranks = rankdata(maps.astype(np.float64), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(1, keepdims=True))
    return ranks / np.where(norms > 0, norms, np.nan)


def top_overlap(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The share of the `counts` largest pixels of each map (n, P) that is also among those of each other map: (n, n).

    Pixels tied at the cut belong to the largest by their share. NaN if a map does not vary, or nothing is counted.
    """
    varies = [np.ptp(maps.astype(np.float64), axis=1) > 0 for maps in (first, second)]
    shares = np.full((len(first), len(second)), np.nan)
    for row in np.flatnonzero(varies[0] & (counts > 0)):
        weights = top_weights(first[row], counts[row])
        for other in np.flatnonzero(varies[1]):
            shares[row, other] = np.minimum(weights, top_weights(second[other], counts[row])).sum() / counts[row]
    return shares


def top_weights(values: np.ndarray, count: int) -> np.ndarray:
    """How far each pixel (P,) belongs to the `count` largest, in [0, 1]: they sum to `count`.

    >>> top_weights(np.array([3.0, 1.0, 1.0, 0.0]), 2)
    array([1. , 0.5, 0.5, 0. ])
    """
    cut = np.partition(values, len(values) - count)[len(values) - count]
    above, tied = values > cut, values == cut
    return above + tied * ((count - above.sum()) / tied.sum())


def measure_agreement(pairs: Sequence[MapPair], seed: int) -> dict[str, Any]:
    """How far maps agree over all pairs, with intervals over rows, and what follows: a document with None for NaN.

    `scaled` is the rank correlation on the scale on which the maps of other rows have 0 and the same map 1; rows of
    value and chance are drawn together for its interval. Its limits decide: a method is stable if the lower one is
    at least STEADY, and unstable if the upper one is below.
    """
    ranks = _split([(rank_similarity(pair.first, pair.second), pair.included) for pair in pairs])
    overlaps = _split([(top_overlap(pair.first, pair.second, pair.counts), pair.included) for pair in pairs])
    (scaled,) = calibrated_intervals(ranks[0][None], ranks[1], np.where(np.isnan(ranks[1]), np.nan, 1.0), seed=seed)
    document = {
        "rank": {**_ends(intervals(ranks[0][None], seed=seed)[0]), "others": _mean(ranks[1])},
        "overlap": {**_ends(intervals(overlaps[0][None], seed=seed)[0]), "others": _mean(overlaps[1])},
        "scaled": _ends(scaled),
        "rows": int((~np.isnan(ranks[0])).any(1).sum()),
        "outcome": decide_stability(scaled.low, scaled.high),
    }
    return dict(without_nan(document))


def decide_stability(low: float, high: float) -> str:
    """The outcome by the ends of the interval of the scaled rank correlation; unknown if they are NaN.

    >>> decide_stability(0.6, 0.9), decide_stability(0.1, 0.4), decide_stability(0.4, 0.6)
    ('stable', 'unstable', 'undecided')
    """
    if np.isnan(low) or np.isnan(high):
        return UNKNOWN
    return STABLE if low >= STEADY else UNSTABLE if high < STEADY else UNDECIDED


def _split(tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """What maps of the same row have in common, and on average with maps of other rows: (n, pairs) each.

    Of tables (n, n), each with the rows (n,) that are included; NaN in all others.
    """
    same, others = [], []
    for table, included in tables:
        away = np.where(np.eye(len(table), dtype=bool) | ~included, np.nan, table)
        known = ~np.isnan(away)
        means = np.where(known, away, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
        usable = included & ~np.isnan(np.diag(table)) & ~np.isnan(means)
        same.append(np.where(usable, np.diag(table), np.nan))
        others.append(np.where(usable, means, np.nan))
    return np.stack(same, 1), np.stack(others, 1)


def _ends(of: Interval) -> dict[str, float]:
    return {"mean": of.mean, "low": of.low, "high": of.high}


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")
