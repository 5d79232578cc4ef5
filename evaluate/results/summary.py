"""What lies on disk after a run: parts of long rows, what failed, one table, a summary. No torch in here.

A part is a Parquet file of one cell, written beside its name and moved into place: presence means complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..seeds import seed_of
from .files import without_nan
from .statistics.comparisons import Comparison, compare, groups
from .statistics.intervals import Interval, calibrated, intervals, known_mean, row_means
from .statistics.power import rows_needed
from .statistics.ranks import Stability, stability
from .statistics.scores import CHANCE as CHANCE
from .statistics.scores import ORACLE as ORACLE
from .statistics.scores import RELIANCE as RELIANCE
from .statistics.scores import RELIES as RELIES
from .statistics.scores import Scores, Select
from .statistics.variance import shares


class Kind(NamedTuple):
    """What a summary has to know of a metric."""

    select: Select | None = None
    family: str = ""
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)


def summarise(table: pa.Table, metrics: Mapping[str, Kind], seed: int) -> list[dict[str, Any]]:
    """One entry per explainer, in the order of the table: every metric with interval and references, mean cost."""
    scores = Scores(table, {name: kind.select for name, kind in metrics.items()})
    costs = scores.costs()
    entries: dict[str, dict[str, Any]] = {name: {} for name in scores.methods}
    for metric, kind in metrics.items():
        for method, numbers in zip(scores.methods, _summaries(scores, metric, kind, seed), strict=True):
            entries[method][metric] = numbers
    return [{"explainer": name, "metrics": entries[name], "cost": costs[name]} for name in scores.methods]


def contrasts(
    table: pa.Table, metrics: Mapping[str, Kind], named: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """How methods differ by each metric: `comparisons`, `ranks`, `variance` and `power`, ready for JSON.

    `named` says which explainers are compared, and how they are called in what comes out.
    """
    scores = Scores(table, {name: kind.select for name, kind in metrics.items()})
    methods = [name for name in scores.methods if name in named]
    names = [named[name] for name in methods]
    found: dict[str, dict[str, Any]] = {"comparisons": {}, "ranks": {}, "variance": {}, "power": {}}
    for metric, kind in metrics.items() if methods else ():
        values = scores.all_of(metric, methods)
        found["variance"][metric] = _told_shares(names, values)
        if len(methods) > 1:
            pairs = _best_first(compare(values, seed=_seed(seed), architectures=scores.architectures), kind)
            found["comparisons"][metric] = _told_comparisons(names, values, pairs, kind)
            found["ranks"][metric] = _told_ranks(names, values, kind, scores.architectures, seed)
            found["power"][metric] = [_told_power(names, pair) for pair in pairs]
    return found


def _seed(seed: int) -> int:
    """Every interval of a run draws the same rows, so that what is drawn does not part two methods."""
    return seed_of(seed, "resampling")


def _summaries(scores: Scores, metric: str, kind: Kind, seed: int) -> list[dict[str, Any]]:
    """The numbers of a metric for every method, in their order."""
    values = scores.all_of(metric, scores.methods)
    entries = _means(scores, metric, kind, values, seed)
    for method, entry in zip(scores.methods, entries, strict=True):
        rows = scores.asked(metric, method).any(1).sum()  # fewer than in the table where a method skips a model
        entry |= {"n": int(rows), "undefined": int(rows - entry["n"])}
    if kind.family == "localisation" and RELIANCE in scores.explainers:
        relies = scores.of(RELIES, RELIANCE)
        relying = _means(scores, metric, kind, np.where(relies == 1, values, np.nan), seed)
        for method, entry, told in zip(scores.methods, entries, relying, strict=True):
            share = float(known_mean(relies[scores.asked(metric, method)], axis=0))
            kept = {key: told[key] for key in ("mean", "low", "high", "n", "calibrated")}
            entry["relying"] = {**without_nan({"share": share}), **kept}
    return entries


def _means(scores: Scores, metric: str, kind: Kind, values: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Means of values (methods, rows, models), with what chance and the truth score where they are defined."""
    found = intervals(values, seed=_seed(seed), architectures=scores.architectures)
    return [_entry(scores, metric, kind, own, ~np.isnan(value)) for own, value in zip(found, values, strict=True)]


def _entry(scores: Scores, metric: str, kind: Kind, found: Interval, where: np.ndarray) -> dict[str, Any]:
    chance, oracle = (scores.reference(metric, name, where) for name in (CHANCE, ORACLE))
    numbers = {
        "mean": found.mean,
        "low": float(np.clip(found.low, *kind.bounds)),
        "high": float(np.clip(found.high, *kind.bounds)),
        "chance": chance,
        "oracle": oracle,
        "calibrated": calibrated(found.mean, chance, oracle),
        "n": found.n,
    }
    return dict(without_nan(numbers))


def _best_first(pairs: list[Comparison], kind: Kind) -> list[Comparison]:
    """The same pairs, each with the better of the two as its first."""
    sign = 1 if kind.higher_is_better else -1
    return [pair.turned() if sign * pair.difference.mean < 0 else pair for pair in pairs]


def _told_comparisons(names: list[str], values: np.ndarray, pairs: list[Comparison], kind: Kind) -> dict[str, Any]:
    means = known_mean(row_means(values), axis=1) * (-1 if kind.higher_is_better else 1)
    order = [each for each in np.argsort(means, kind="stable").tolist() if not np.isnan(means[each])]
    together = groups(order, [pair for pair in pairs if {pair.first, pair.second} <= set(order)])
    return {
        "groups": [[names[each] for each in members] for members in together],
        "pairs": [_told_pair(names, pair) for pair in pairs],
    }


def _told_pair(names: list[str], pair: Comparison) -> dict[str, Any]:
    numbers = {
        "difference": pair.difference.mean,
        "low": pair.difference.low,
        "high": pair.difference.high,
        "n": pair.difference.n,
        "p": pair.p,
        "p_holm": pair.adjusted,
        "effect": pair.effect,
        "rank_biserial": pair.rank_biserial,
    }
    return {"a": names[pair.first], "b": names[pair.second], **without_nan(numbers), "apart": pair.apart}


def _told_power(names: list[str], pair: Comparison) -> dict[str, Any]:
    return {"a": names[pair.first], "b": names[pair.second], "rows": rows_needed(pair.effect)}


def _told_ranks(
    names: list[str], values: np.ndarray, kind: Kind, architectures: Sequence[str], seed: int
) -> dict[str, Any]:
    found: Stability = stability(
        values, higher_is_better=kind.higher_is_better, seed=_seed(seed), architectures=architectures
    )
    methods = {name: vars(own) if own else None for name, own in zip(names, found.standings, strict=True)}
    taus = {"tau_seeds": found.seeds, "tau_architectures": found.architectures}
    return {"methods": methods, **without_nan({"agreement": found.agreement, **taus})}


def _told_shares(names: list[str], values: np.ndarray) -> dict[str, Any]:
    found = {name: shares(own) for name, own in zip(names, values, strict=True)}
    return {name: vars(own) if own else None for name, own in found.items()}
