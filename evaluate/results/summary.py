"""Summarises the long rows of a run: means with intervals, comparisons of methods, ranks. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..seeds import seed_of
from .files import without_nan
from .metric_values import MetricKind as MetricKind
from .metric_values import Values as Values
from .metric_values import order_of as order_of
from .metric_values import values_of as values_of
from .scopes import THESE
from .skill import ceilings, of_this_picture, skills
from .statistics.comparisons import Comparison, compare, groups
from .statistics.intervals import Interval, calibrate, calibrated_intervals, intervals, known_mean, rows_of
from .statistics.power import rows_needed
from .statistics.ranks import RankStability, rank_stability
from .statistics.scores import CHANCE as CHANCE
from .statistics.scores import ORACLE as ORACLE
from .statistics.scores import RELIANCE as RELIANCE
from .statistics.scores import RELIES as RELIES
from .statistics.scores import ScoreArrays
from .statistics.trained_anew import AnewComparison
from .statistics.variance import variance_shares

Pair = TypeVar("Pair", Comparison, AnewComparison)


def summarise(
    table: pa.Table, metrics: Mapping[str, MetricKind], seed: int, blind: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """An entry per explainer, in the order of the table: every metric with interval and references, and mean cost.

    Args:
        blind: the controls that see no model by their explainers, each with its name in the document.
    """
    scores = ScoreArrays(table, {name: kind.select for name, kind in metrics.items()})
    costs = scores.costs()
    entries: dict[str, dict[str, Any]] = {name: {} for name in scores.methods}
    for metric, kind in metrics.items():
        numbers = summaries(scores, metric, kind, scores.methods, seed, blind=blind)
        for method, of_method in zip(scores.methods, numbers, strict=True):
            entries[method][metric] = of_method
    return [{"explainer": name, "metrics": entries[name], "cost": costs[name]} for name in scores.methods]


def contrasts(
    table: pa.Table, metrics: Mapping[str, MetricKind], named: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """How methods differ by each metric: `comparisons`, `ranks`, `variance` and `power`, ready for JSON.

    Pairs are compared on the rows and models that both have. Methods are ranked only if they ran on every model.

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
            pairs = best_first(compare(values, seed=resampling_seed(seed), architectures=scores.architectures), kind)
            document["comparisons"][metric] = comparisons_document(names, values, pairs, kind, scores.architectures)
            everywhere = np.array([scores.has_rows(metric, method).any(0).all() for method in methods])
            ranked = np.where(everywhere[:, None, None], values, np.nan)
            document["ranks"][metric] = ranks_document(names, ranked, kind, scores.architectures, seed)
            document["power"][metric] = [_power_document(names, pair) for pair in pairs]
    return document


def resampling_seed(seed: int) -> int:
    """The one seed of all resampling of a run: methods differ by their scores and not by the rows that are drawn."""
    return seed_of(seed, "resampling")


def summaries(
    scores: ScoreArrays,
    metric: str,
    kind: MetricKind,
    methods: list[str],
    seed: int,
    models: Sequence[int] | None = None,
    blind: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The numbers of a metric for methods, in their order, on all models or on those with the given numbers.

    Args:
        blind: the controls that see no model by their explainers, each with its name in the document.
    """
    chosen = list(range(len(scores.models)) if models is None else models)
    values = values_of(scores, metric, methods, chosen)
    gaps = np.array([scores.gaps(metric, method)[:, chosen] for method in methods]).reshape(values.methods.shape)
    entries = _numbers(values, kind, seed)
    defined = _numbers(values.where(~gaps), kind, seed) if gaps.any() else entries
    for method, entry, missing, without in zip(methods, entries, gaps, defined, strict=True):
        rows = scores.has_rows(metric, method)[:, chosen].any(1).sum()  # fewer where a method skips a model
        entry |= {"n": int(rows), "undefined": int(rows - entry["n"]), "scope": THESE}
        if missing.any():
            counts = zip(np.array(scores.models)[chosen].tolist(), missing.sum(0).tolist(), strict=True)
            entry["gaps"] = {model: count for model, count in counts if count}
            entry["defined_only"] = {key: without[key] for key in ("mean", "low", "high", "n", "calibrated")}
    if kind.family == "localisation" and RELIANCE in scores.explainers:
        relies = scores.of(RELIES, RELIANCE)[:, chosen]
        has_rows = [scores.has_rows(metric, method)[:, chosen] for method in methods]
        shares = [float(known_mean(relies[rows], axis=0)) for rows in has_rows]
        _add_relying(entries, shares, _numbers(values.where(relies == 1), kind, seed))
    resampled = resampling_seed(seed)
    skill = skills(scores, metric, kind, values, chosen, blind or {}, resampled)
    pictures = of_this_picture(scores, metric, methods, values, chosen, resampled)
    at_grid = ceilings(scores, metric, methods, values, chosen)
    for entry, above_control, above_others, ceiling in zip(entries, skill, pictures, at_grid, strict=True):
        entry |= {**above_control, **above_others, **ceiling}
    return entries


def _add_relying(entries: list[dict[str, Any]], shares: list[float], relying: list[dict[str, Any]]) -> None:
    """Add to the numbers of every method those of the rows in which the models rely on the designed evidence."""
    for entry, share, numbers in zip(entries, shares, relying, strict=True):
        shown = {key: numbers[key] for key in ("mean", "low", "high", "n", "calibrated")}
        entry["relying"] = {**without_nan({"share": share}), **shown}


def _numbers(values: Values, kind: MetricKind, seed: int) -> list[dict[str, Any]]:
    """Means of values with their intervals, beside the scores of chance and the truth on the same rows."""
    resampled, names = resampling_seed(seed), values.architectures
    means = intervals(values.methods, seed=resampled, architectures=names)
    scaled = calibrated_intervals(values.methods, values.chance, values.oracle, seed=resampled, architectures=names)
    return [
        _entry(values, kind, mean, calibrated, ~np.isnan(method))
        for mean, calibrated, method in zip(means, scaled, values.methods, strict=True)
    ]


def _entry(
    values: Values, kind: MetricKind, interval: Interval, calibrated: Interval, where: np.ndarray
) -> dict[str, Any]:
    chance, oracle = (_reference(values, reference, where) for reference in (values.chance, values.oracle))
    numbers = {
        "mean": interval.mean,
        "low": float(np.clip(interval.low, *kind.bounds)),
        "high": float(np.clip(interval.high, *kind.bounds)),
        "chance": chance,
        "oracle": oracle,
        "calibrated": calibrate(interval.mean, chance, oracle),
        "calibrated_low": calibrated.low,
        "calibrated_high": calibrated.high,
        "n": interval.n,
    }
    return dict(without_nan(numbers))


def _reference(values: Values, reference: np.ndarray, where: np.ndarray) -> float:
    """The mean score of a reference (rows, models) over the rows and models for which `where` is true."""
    return float(known_mean(rows_of(np.where(where, reference, np.nan), values.architectures), axis=0))


def best_first(pairs: list[Pair], kind: MetricKind) -> list[Pair]:
    """The same pairs, each with the better of its two methods first."""
    sign = 1 if kind.higher_is_better else -1
    return [pair.swap() if sign * pair.difference.mean < 0 else pair for pair in pairs]


def comparisons_document(
    names: list[str], values: np.ndarray, pairs: list[Comparison], kind: MetricKind, architectures: Sequence[str]
) -> dict[str, Any]:
    """The pairs of methods, and the largest sets that cannot be told apart, for these models, ready for JSON."""
    order = order_of(values, kind, architectures)
    together = groups(order, [pair for pair in pairs if {pair.first, pair.second} <= set(order)])
    return {
        "scope": THESE,
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
    named = {"a": names[pair.first], "b": names[pair.second]}
    return {**named, **without_nan(numbers), "compared": pair.compared, "apart": pair.apart}


def _power_document(names: list[str], pair: Comparison) -> dict[str, Any]:
    return {"a": names[pair.first], "b": names[pair.second], "rows": rows_needed(pair.effect)}


def ranks_document(
    names: list[str], values: np.ndarray, kind: MetricKind, architectures: Sequence[str], seed: int
) -> dict[str, Any]:
    """How stable the order of the methods is, for these models, ready for JSON; None for a method without a value."""
    stability: RankStability = rank_stability(
        values, higher_is_better=kind.higher_is_better, seed=resampling_seed(seed), architectures=architectures
    )
    standings = zip(names, stability.standings, strict=True)
    methods = {name: vars(standing) if standing else None for name, standing in standings}
    taus = {"tau_seeds": stability.seeds, "tau_architectures": stability.architectures}
    return {"scope": THESE, "methods": methods, **without_nan({"agreement": stability.agreement, **taus})}


def _variance_document(names: list[str], values: np.ndarray) -> dict[str, Any]:
    by_name = {name: variance_shares(scores) for name, scores in zip(names, values, strict=True)}
    return {name: vars(shares) if shares else None for name, shares in by_name.items()}
