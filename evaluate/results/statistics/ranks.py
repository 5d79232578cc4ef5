"""How stable the order of the methods is: on other rows, and on other models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .intervals import known_mean, resampled_means, rows_of


@dataclass(frozen=True)
class Standing:
    """The rank of a method among the others when the rows are drawn again; 1 is best, tied methods share a rank."""

    rank: float  # the mean over the draws
    low: float  # 95 % of the ranks lie from low to high
    high: float
    first: float  # share of the draws in which it is the best


@dataclass(frozen=True)
class RankStability:
    """How stable an order of methods is. NaN if there is nothing to compare."""

    standings: list[Standing | None]  # None for a method without a value
    agreement: float  # Kendall's W of the orders of redrawn rows: 1 where they are all the same, 0 without any order
    seeds: float  # mean Kendall tau-b between the orders by two models of one architecture
    architectures: float  # mean Kendall tau-b between the orders by models of two architectures


def rank_stability(
    values: np.ndarray, *, higher_is_better: bool, seed: int, architectures: Sequence[str] | None = None
) -> RankStability:
    """How stable the order of methods is, by the means of their values (methods, rows, models); NaN is undefined.

    Source: Kendall, Babington Smith, Annals of Mathematical Statistics 10 (1939) (W, with its correction for ties);
    Goldstein, Spiegelhalter, Journal of the Royal Statistical Society A 159 (1996) (intervals of ranks).
    """
    from scipy.stats import rankdata  # here, as it takes a while to load

    better = values if higher_is_better else -values
    rows = rows_of(better, architectures)
    known = ~np.isnan(rows).all(1)
    ranks = rankdata(-resampled_means(rows[known], seed).round(12), axis=0)
    names = list(architectures if architectures is not None else ["one"] * values.shape[2])
    standings = iter(_standings(ranks))
    taus = taus_between(known_mean(better, axis=1), names)
    return RankStability([next(standings) if ranked else None for ranked in known], agreement(ranks), *taus)


def _standings(ranks: np.ndarray) -> list[Standing]:
    """The standing of each method, from its ranks (methods, draws)."""
    if not len(ranks):
        return []
    low, high = np.quantile(ranks, (0.025, 0.975), axis=1, method="nearest")
    best = ranks == ranks.min(0)
    columns = (ranks.mean(1), low, high, (best / best.sum(0)).mean(1))
    return [Standing(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def agreement(ranks: np.ndarray) -> float:
    """Kendall's W of ranks (methods, orders); NaN for fewer than two methods, or if all are tied in every order."""
    methods, orders = ranks.shape
    spread = ((ranks.sum(1) - orders * (methods + 1) / 2) ** 2).sum()
    ordered = np.sort(ranks, axis=0)  # the correction for ties is the sum over ties of t**3 - t
    sizes = (ordered[None] == ordered[:, None]).sum(0)  # of the tie that each rank is part of
    largest = orders * (orders * (methods**3 - methods) - (sizes**2 - 1).sum()) / 12
    return float(spread / largest) if largest > 0 else float("nan")


def taus_between(means: np.ndarray, architectures: Sequence[str]) -> tuple[float, float]:
    """Mean Kendall tau-b of means (methods, models): between models of one architecture, and of two architectures."""
    from scipy.stats import kendalltau  # here, as it takes a while to load

    within: list[float] = []
    across: list[float] = []
    for first, second in combinations(range(means.shape[1]), 2):
        both = ~np.isnan(means[:, first] + means[:, second])
        if both.sum() > 1:
            tau = kendalltau(means[both, first], means[both, second]).statistic
            (within if architectures[first] == architectures[second] else across).append(float(tau))
    return float(known_mean(np.array(within), axis=0)), float(known_mean(np.array(across), axis=0))
