"""How models of two kinds differ: paired by row and by seed, in both scopes of inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..files import without_nan
from ..scopes import ANEW, LEAST_SEEDS, THESE
from .comparisons import ALPHA, holm, sign_flip_p, without_rounding
from .intervals import Interval, intervals, known_mean, row_means
from .trained_anew import compare_anew


def describe_differences(values: np.ndarray, others: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Values less others, both (methods, rows, seeds) float64, a document for each method; NaN is undefined.

    A row and a seed of the one are those of the other, so tests are paired. `these`: rows are drawn again, each with
    all of its models (BCa bootstrap, sign flips). `anew`: seeds as well, by Student's t with Satterthwaite's degrees of
    freedom; None for fewer than LEAST_SEEDS seeds. The spread over seeds is that of each method alone, since all
    methods see the same few models. Holm's correction is over the methods.

    Source: as of `intervals`, `sign_flip_p` and `compare_anew`.
    """
    rows = without_rounding(row_means(values - others), np.concatenate([values, others]))
    of_rows = intervals(values - others, seed=seed)
    of_seeds = [compare_anew(np.stack(pair))[0] for pair in zip(values, others, strict=True)]
    these = _in_scope(THESE, of_rows, sign_flip_p(rows, seed))
    anew = _in_scope(ANEW, [test.difference for test in of_seeds], np.array([test.p for test in of_seeds]))
    enough = values.shape[2] >= LEAST_SEEDS
    return [
        {**without_nan({"difference": limits.mean}), "n": limits.n, "these": first, "anew": second if enough else None}
        for limits, first, second in zip(of_rows, these, anew, strict=True)
    ]


def _in_scope(scope: str, limits: list[Interval], p: np.ndarray) -> list[dict[str, Any]]:
    """Intervals with their p-values, corrected by Holm, as documents of one scope."""
    tests = zip(limits, p.tolist(), holm(p).tolist(), strict=True)
    numbers = [({"low": it.low, "high": it.high, "p": plain, "p_holm": adjusted}) for it, plain, adjusted in tests]
    return [{"scope": scope, **without_nan(entry), "apart": entry["p_holm"] < ALPHA} for entry in numbers]


def describe_paired_means(values: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """The means of values and of others, (seeds,) float64 each, and the 95 % interval of their paired difference.

    Interval and p are by Student's t; None for fewer than LEAST_SEEDS pairs, and if the differences do not vary, since
    equal differences tell no spread. NaN is left out with its pair.
    """
    from scipy.stats import ttest_rel  # here, as it takes a while to load

    known = ~np.isnan(values - others)
    first, second = values[known], others[known]
    mean, low, high, p = float(known_mean(first - second, axis=0)), np.nan, np.nan, np.nan
    if len(first) >= LEAST_SEEDS and np.ptp(first - second) > 1e-12:
        test = ttest_rel(first, second)
        p, (low, high) = float(test.pvalue), map(float, test.confidence_interval(0.95))
    numbers = {"with": float(known_mean(first, axis=0)), "without": float(known_mean(second, axis=0))}
    return {**without_nan({**numbers, "difference": mean, "low": low, "high": high, "p": p}), "seeds": len(first)}
