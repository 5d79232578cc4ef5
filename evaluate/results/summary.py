"""Summarises the long rows of a run: means with intervals, comparisons of methods, ranks. No torch in here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..seeds import seed_of
from .files import without_nan
from .statistics.comparisons import Comparison, compare, groups
from .statistics.intervals import Interval, calibrate, intervals, known_mean, row_means
from .statistics.power import rows_needed
from .statistics.ranks import RankStability, rank_stability
from .statistics.scores import CHANCE as CHANCE
from .statistics.scores import ORACLE as ORACLE
from .statistics.scores import RELIANCE as RELIANCE
from .statistics.scores import RELIES as RELIES
from .statistics.scores import ScoreArrays, Select
from .statistics.variance import variance_shares


class MetricKind(NamedTuple):
    """The properties of a metric that a summary needs."""

    select: Select | None = None
    family: str = ""
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)


def summarise(table: pa.Table, metrics: Mapping[str, MetricKind], seed: int) -> list[dict[str, Any]]:
    """An entry per explainer, in the order of the table: every metric with interval and references, and mean cost."""
    scores = ScoreArrays(table, {name: kind.select for name, kind in metrics.items()})
    costs = scores.costs()
    entries: dict[str, dict[str, Any]] = {name: {} for name in scores.methods}
    for metric, kind in metrics.items():
        for method, numbers in zip(scores.methods, _summaries(scores, metric, kind, seed), strict=True):
            entries[method][metric] = numbers
    return [{"explainer": name, "metrics": entries[name], "cost": costs[name]} for name in scores.methods]


def contrasts(
    table: pa.Table, metrics: Mapping[str, MetricKind], named: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """How methods differ by each metric: `comparisons`, `ranks`, `variance` and `power`, ready for JSON.

    Args:
        named: the explainers that are compared, each with its name in the document.
    """
    scores = ScoreArrays(table, {name: kind.select for name, kind in metrics.items()})
    methods = [name for name in scores.methods if name in named]
    names = [named[name] for name in methods]
    document: dict[str, dict[str, Any]] = {"comparisons": {}, "ranks": {}, "variance": {}, "power": {}}
    for metric, kind in metrics.items() if methods else ():
        values = scores.all_of(metric, methods)
        document["variance"][metric] = _variance_document(names, values)
        if len(methods) > 1:
            pairs = _best_first(compare(values, seed=_seed(seed), architectures=scores.architectures), kind)
            document["comparisons"][metric] = _comparisons_document(names, values, pairs, kind)
            document["ranks"][metric] = _ranks_document(names, values, kind, scores.architectures, seed)
            document["power"][metric] = [_power_document(names, pair) for pair in pairs]
    return document


def _seed(seed: int) -> int:
    """The one seed of all resampling of a run: methods differ by their scores and not by the rows that are drawn."""
    return seed_of(seed, "resampling")


def _summaries(scores: ScoreArrays, metric: str, kind: MetricKind, seed: int) -> list[dict[str, Any]]:
    """The numbers of a metric for every method, in the order of the methods."""
    values = scores.all_of(metric, scores.methods)
    entries = _means(scores, metric, kind, values, seed)
    for method, entry in zip(scores.methods, entries, strict=True):
        rows = scores.has_rows(metric, method).any(1).sum()  # fewer than in the table where a method skips a model
        entry |= {"n": int(rows), "undefined": int(rows - entry["n"])}
    if kind.family == "localisation" and RELIANCE in scores.explainers:
        relies = scores.of(RELIES, RELIANCE)
        relying = _means(scores, metric, kind, np.where(relies == 1, values, np.nan), seed)
        for method, entry, numbers in zip(scores.methods, entries, relying, strict=True):
            share = float(known_mean(relies[scores.has_rows(metric, method)], axis=0))
            shown = {key: numbers[key] for key in ("mean", "low", "high", "n", "calibrated")}
            entry["relying"] = {**without_nan({"share": share}), **shown}
    return entries


def _means(scores: ScoreArrays, metric: str, kind: MetricKind, values: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Means of values (methods, rows, models), each with the scores of chance and the truth on the same rows."""
    means = intervals(values, seed=_seed(seed), architectures=scores.architectures)
    return [_entry(scores, metric, kind, mean, ~np.isnan(value)) for mean, value in zip(means, values, strict=True)]


def _entry(scores: ScoreArrays, metric: str, kind: MetricKind, interval: Interval, where: np.ndarray) -> dict[str, Any]:
    chance, oracle = (scores.reference(metric, name, where) for name in (CHANCE, ORACLE))
    numbers = {
        "mean": interval.mean,
        "low": float(np.clip(interval.low, *kind.bounds)),
        "high": float(np.clip(interval.high, *kind.bounds)),
        "chance": chance,
        "oracle": oracle,
        "calibrated": calibrate(interval.mean, chance, oracle),
        "n": interval.n,
    }
    return dict(without_nan(numbers))


def _best_first(pairs: list[Comparison], kind: MetricKind) -> list[Comparison]:
    """The same pairs, each with the better of its two methods first."""
    sign = 1 if kind.higher_is_better else -1
    return [pair.swap() if sign * pair.difference.mean < 0 else pair for pair in pairs]


def _comparisons_document(
    names: list[str], values: np.ndarray, pairs: list[Comparison], kind: MetricKind
) -> dict[str, Any]:
    means = known_mean(row_means(values), axis=1) * (-1 if kind.higher_is_better else 1)
    order = [method for method in np.argsort(means, kind="stable").tolist() if not np.isnan(means[method])]
    together = groups(order, [pair for pair in pairs if {pair.first, pair.second} <= set(order)])
    return {
        "groups": [[names[method] for method in members] for members in together],
        "pairs": [_pair_document(names, pair) for pair in pairs],
    }


def _pair_document(names: list[str], pair: Comparison) -> dict[str, Any]:
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


def _power_document(names: list[str], pair: Comparison) -> dict[str, Any]:
    return {"a": names[pair.first], "b": names[pair.second], "rows": rows_needed(pair.effect)}


def _ranks_document(
    names: list[str], values: np.ndarray, kind: MetricKind, architectures: Sequence[str], seed: int
) -> dict[str, Any]:
    stability: RankStability = rank_stability(
        values, higher_is_better=kind.higher_is_better, seed=_seed(seed), architectures=architectures
    )
    standings = zip(names, stability.standings, strict=True)
    methods = {name: vars(standing) if standing else None for name, standing in standings}
    taus = {"tau_seeds": stability.seeds, "tau_architectures": stability.architectures}
    return {"methods": methods, **without_nan({"agreement": stability.agreement, **taus})}


def _variance_document(names: list[str], values: np.ndarray) -> dict[str, Any]:
    by_name = {name: variance_shares(scores) for name, scores in zip(names, values, strict=True)}
    return {name: vars(shares) if shares else None for name, shares in by_name.items()}
