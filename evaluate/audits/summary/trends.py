"""Whether the trends that authors saw in their numbers hold in ours: yes or no only if our rows can decide.

An order of methods is decided by the paired comparisons of a run: yes if every pair differs significantly as printed,
no if some pair differs significantly the other way. A difference is decided by its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import f

from .literature import PrintedTable, Trend

Answer = Literal["yes", "no", "cannot be told"]
UNDECIDED: Answer = "cannot be told"
ALPHA = 0.05


class Difference(NamedTuple):
    """How much larger one method's mean is than another's, in printed units."""

    mean: float
    low: float  # 95 % interval
    high: float
    apart: bool  # whether it is significant

    def reverse(self) -> Difference:
        """The same difference seen from the other method."""
        return Difference(-self.mean, -self.high, -self.low, self.apart)


@dataclass(frozen=True)
class Ours:
    """Our numbers beside one table, methods by the names that they have here, all in printed units."""

    better: Mapping[str, int]  # by metric: 1 if larger is better, -1 if smaller is
    means: Mapping[str, Mapping[str, float]]  # by metric and method
    by_model: Mapping[str, Mapping[str, np.ndarray]]  # the means (models,) likewise
    differences: Mapping[tuple[str, str, str], Difference]  # by metric and two methods, either way round

    def missing(self, metric: str, methods: Sequence[str]) -> list[str]:
        """The methods that have no number in a metric."""
        known = self.means.get(metric, {})
        return [method for method in methods if np.isnan(known.get(method, np.nan))]


class TrendPart(NamedTuple):
    """One comparison of a trend: whether it holds, and the numbers that decide."""

    answer: Answer
    why: str
    margin: float = 0.0  # size of the difference; the smallest of a trend is reported


def decide(trend: Trend, table: PrintedTable, ours: Ours) -> dict[str, str]:
    """Whether a trend of a table holds in our numbers, and why, ready for JSON."""
    parts = [part for metric in trend.metrics for part in _parts(trend, metric, table, ours)]
    answers = {part.answer for part in parts}
    holds: Answer = "no" if "no" in answers else UNDECIDED if UNDECIDED in answers or not parts else "yes"
    return {"statement": trend.statement, "holds": holds, "why": _why(parts, holds)}


def _parts(trend: Trend, metric: str, table: PrintedTable, ours: Ours) -> list[TrendPart]:
    if trend.widest:
        return _widest(trend.widest, metric, [line.ours for line in table.rows], ours)
    if trend.between:
        return [_between(metric, first, second, trend.between, ours) for first, second in trend.pairs]
    groups = trend.groups(table)
    pairs = [pair for better, worse in combinations(groups, 2) for pair in product(better, worse)]
    return [_better(metric, first, second, ours) for first, second in pairs]


def _better(metric: str, first: str, second: str, ours: Ours) -> TrendPart:
    """Whether the first method is better than the second."""
    difference = ours.differences.get((metric, first, second))
    if difference is None:
        return _absent(metric, [first, second], ours)
    lead = difference.mean * ours.better[metric]
    answer: Answer = UNDECIDED if not difference.apart else "yes" if lead > 0 else "no"
    return TrendPart(answer, f"{_numbers(metric, first, second, difference, ours)}, {_apart(difference)}", abs(lead))


def _apart(difference: Difference) -> str:
    return "apart" if difference.apart else "not to be told apart"


def _between(metric: str, first: str, second: str, limits: tuple[float, float], ours: Ours) -> TrendPart:
    """Whether the first method's mean less the second's lies between two limits."""
    difference = ours.differences.get((metric, first, second))
    if difference is None:
        return _absent(metric, [first, second], ours)
    low, high = limits[0] - 1e-9, limits[1] + 1e-9
    inside, outside = low <= difference.low and difference.high <= high, difference.high < low or difference.low > high
    answer: Answer = "yes" if inside else "no" if outside else UNDECIDED
    return TrendPart(answer, _numbers(metric, first, second, difference, ours))


def _widest(method: str, metric: str, methods: Sequence[str], ours: Ours) -> list[TrendPart]:
    """Whether a method's mean differs more from model to model than any other's: by F tests, two by two."""
    others = [other for other in methods if other != method]
    missing = ours.missing(metric, [method])
    if missing:
        return [_absent(metric, missing, ours)]
    return [_wider(metric, method, other, ours) for other in others]


def _wider(metric: str, first: str, second: str, ours: Ours) -> TrendPart:
    means = [ours.by_model.get(metric, {}).get(method, np.zeros(0)) for method in (first, second)]
    known = [values[~np.isnan(values)] for values in means]
    if min(map(len, known)) < 2:
        few = (
            f"{metric}: {first} and {second} were scored on {' and '.join(str(len(values)) for values in known)} models"
        )
        return TrendPart(UNDECIDED, f"{few}; a spread takes two")
    spreads = [float(values.std(ddof=1)) for values in known]
    text = f"{metric}: from model to model {first} differs by {spreads[0]:.2g}, {second} by {spreads[1]:.2g}"
    wide, narrow = (1, 0) if spreads[1] > spreads[0] else (0, 1)
    if not spreads[wide]:
        return TrendPart(UNDECIDED, text)
    ratio = (spreads[wide] / spreads[narrow]) ** 2 if spreads[narrow] else np.inf
    chance = float(f.sf(ratio, len(known[wide]) - 1, len(known[narrow]) - 1))
    answer: Answer = UNDECIDED if chance >= ALPHA else "yes" if wide == 0 else "no"
    return TrendPart(answer, f"{text} (F test: p = {chance:.2g})", abs(spreads[0] - spreads[1]))


def _absent(metric: str, methods: Sequence[str], ours: Ours) -> TrendPart:
    missing = ours.missing(metric, methods)
    return TrendPart(UNDECIDED, f"{metric}: {' and '.join(missing) or ' and '.join(methods)} without a number here")


def _numbers(metric: str, first: str, second: str, difference: Difference, ours: Ours) -> str:
    means = [f"{ours.means[metric][method]:.3g}" for method in (first, second)]
    interval = "" if np.isnan(difference.low) else f" (95 %: {difference.low + 0.0:.2g} to {difference.high + 0.0:.2g})"
    return f"{metric}: {first} {means[0]}, {second} {means[1]}, difference {difference.mean + 0.0:.2g}{interval}"


def _why(parts: Sequence[TrendPart], holds: Answer) -> str:
    """The counts of the comparisons, and the decisive one: the narrowest that holds, or the first that does not."""
    if not parts:
        return "there is nothing to compare"
    deciding = [part for part in parts if part.answer == holds]
    shown = min(deciding, key=lambda part: part.margin) if holds == "yes" else deciding[0]
    if len(parts) == 1:
        return shown.why
    counts = {answer: sum(part.answer == answer for part in parts) for answer in ("yes", "no", UNDECIDED)}
    counted = f"{counts['yes']} of {len(parts)} comparisons hold, {counts['no']} do not"
    which = "the narrowest" if holds == "yes" else "such as"
    return f"{counted}, {counts[UNDECIDED]} cannot be told; {which}: {shown.why}"
