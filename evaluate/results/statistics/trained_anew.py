"""Which of two methods is better on models trained anew: the seeds of each architecture are a sample as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..scopes import LEAST_SEEDS
from .comparisons import ALPHA, holm
from .intervals import Interval, known_mean, row_means, rows_of


@dataclass(frozen=True)
class AnewComparison:
    """The comparison of two methods for models trained anew and other rows. NaN if nothing can be said."""

    first: int  # the number of a method
    second: int
    difference: Interval  # the first minus the second
    p: float  # two-sided
    adjusted: float  # p corrected by Holm over all pairs
    freedom: float  # degrees of freedom of the test

    @property
    def apart(self) -> bool:
        """Whether models trained anew would tell the two methods apart; wrong for any pair with probability ALPHA."""
        return self.adjusted < ALPHA

    def swap(self) -> AnewComparison:
        """The same comparison with its two methods swapped."""
        before = self.difference
        turned = replace(before, mean=-before.mean, low=-before.high, high=-before.low)
        return replace(self, first=self.second, second=self.first, difference=turned)


def seeds_of(architectures: Sequence[str]) -> dict[str, int]:
    """How many models there are of each architecture, in the order of their appearance."""
    names = list(architectures)
    return {name: names.count(name) for name in dict.fromkeys(names)}


def has_enough_seeds(architectures: Sequence[str]) -> bool:
    """Whether something can be said of models trained anew: every architecture has LEAST_SEEDS seeds or more."""
    return bool(architectures) and min(seeds_of(architectures).values()) >= LEAST_SEEDS


def compare_anew(
    values: np.ndarray, architectures: Sequence[str] | None = None, level: float = 0.95
) -> list[AnewComparison]:
    """Compare all pairs of methods by their values (methods, rows, models) for models trained anew.

    A difference is the mean over architectures, each of which weighs the same. Its error has two parts. One is the
    variance over seeds, which three seeds tell poorly: it is shrunk towards what is usual over all pairs (a moderated
    t). The other is the variance over rows. Satterthwaite's approximation gives the degrees of freedom of their sum;
    the interaction of rows and seeds is in both parts, so the test errs on the careful side. Holm's correction is over
    all pairs. NaN for fewer than LEAST_SEEDS seeds of an architecture.

    Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004) article 3; Satterthwaite,
    Biometrics Bulletin 2 (1946).
    """
    from scipy.stats import t  # here, as it takes a while to load

    names = list(architectures if architectures is not None else ["one"] * values.shape[2])
    pairs = np.array(list(combinations(range(len(values)), 2)), dtype=np.intp).reshape(-1, 2)
    apart = values[pairs[:, 0]] - values[pairs[:, 1]]
    rows = rows_of(apart, names)
    mean, n = known_mean(rows, axis=1), (~np.isnan(rows)).sum(1)
    error, freedom = _errors(apart, rows, names, len(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * t.sf(np.abs(mean) / error, freedom), np.where(mean == 0, 1.0, 0.0))
    p = np.where(np.isnan(error) | np.isnan(mean), np.nan, p)
    reach = t.ppf((1 + level) / 2, freedom) * error
    ends = zip(mean.tolist(), (mean - reach).tolist(), (mean + reach).tolist(), n.tolist(), strict=True)
    differences = [Interval(*numbers, undefined=rows.shape[1] - numbers[-1]) for numbers in ends]
    tests = np.stack([p, holm(p), freedom], axis=1).tolist()
    return [
        AnewComparison(first, second, difference, *numbers)
        for (first, second), difference, numbers in zip(pairs.tolist(), differences, tests, strict=True)
    ]


def _errors(apart: np.ndarray, rows: np.ndarray, names: Sequence[str], methods: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors (pairs,) of differences (pairs, rows, models) with row means (pairs, rows), and their freedom."""
    architectures, kinds = np.asarray(names), list(dict.fromkeys(names))
    n = (~np.isnan(rows)).sum(1)
    squares = np.nansum((rows - known_mean(rows, axis=1)[:, None]) ** 2, axis=1)
    parts = [(np.where(n > 1, squares / np.maximum(n - 1, 1) / np.maximum(n, 1), np.nan), np.maximum(n - 1.0, 1))]
    for name in kinds:
        variance, seeds = _variance_of_seeds(apart[:, :, architectures == name])
        shrunk, freedom = moderate(variance, seeds - 1, methods)
        parts.append((shrunk / seeds / len(kinds) ** 2, freedom))
    total = sum(variance for variance, _ in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total**2 / sum(variance**2 / freedom for variance, freedom in parts)
    return np.sqrt(total), np.where(total > 0, freedom, 1)


def _variance_of_seeds(alike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variance (pairs,) of differences (pairs, rows, models) over models of one architecture, and their number.

    NaN for fewer than LEAST_SEEDS. Models are compared on the rows that both have.
    """
    by_model = known_mean(alike - row_means(alike)[..., None], axis=1)
    seeds = (~np.isnan(by_model)).sum(1)
    squares = np.nansum((by_model - known_mean(by_model, axis=1)[:, None]) ** 2, axis=1)
    enough = seeds >= LEAST_SEEDS
    variance = np.where(enough, squares / np.maximum(seeds - 1, 1), np.nan)
    return variance, np.where(enough, seeds, LEAST_SEEDS).astype(np.float64)


def moderate(variance: np.ndarray, freedom: np.ndarray, methods: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (pairs,) shrunk towards a common one, with their degrees of freedom.

    Pairs share methods, so all of them together know no more than (methods - 1) times the freedom of one.
    """
    common, strength = fit_prior(variance, freedom)
    if not strength > 0:
        return variance, freedom
    if np.isinf(strength):
        shrunk = np.where(np.isnan(variance), np.nan, common)
    else:
        shrunk = (strength * common + freedom * variance) / (strength + freedom)
    return shrunk, np.minimum(freedom + strength, np.maximum(methods - 1, 1) * freedom)


def fit_prior(variance: np.ndarray, freedom: np.ndarray) -> tuple[float, float]:
    """The common variance of a scaled F distribution of variances, and its degrees of freedom.

    They are those for which the mean and the spread of the logarithms are as expected: (common, strength). The strength
    is infinite if the variances differ no more than by chance, and 0 for fewer than two of them.

    Source: Smyth (2004), section 6.2 and appendix.
    """
    from scipy.special import digamma, polygamma  # here, as it takes a while to load

    known = (variance > 1e-10 * np.nanmax(variance, initial=0)) & (variance > 0)
    if known.sum() < 2:
        return float("nan"), 0.0
    half = freedom[known] / 2
    logs = np.log(variance[known]) - digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - polygamma(1, half).mean()
    if excess <= 0:
        return float(np.exp(logs.mean())), float("inf")
    prior = inverse_trigamma(excess)
    return float(np.exp(logs.mean() + digamma(prior) - np.log(prior))), 2 * prior


def inverse_trigamma(value: float) -> float:
    """The x > 0 whose trigamma function has a value, by Newton's method, which always converges here.

    Source: Smyth (2004), appendix.

    >>> from scipy.special import polygamma
    >>> round(inverse_trigamma(float(polygamma(1, 2.5))), 9)
    2.5
    """
    from scipy.special import polygamma  # here, as it takes a while to load

    if value < 1e-7:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(100):
        slope = float(polygamma(1, x))
        step = slope * (1 - slope / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-12:
            break
    return x
