"""The boards of a run: the methods that ran on the same models, ranked; for each architecture, and over all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .files import without_nan
from .scopes import ANEW, THESE, anew_sentence
from .statistics.comparisons import Comparison, compare
from .statistics.power import rows_needed
from .statistics.scores import ScoreArrays
from .statistics.trained_anew import AnewComparison, compare_anew, has_enough_seeds, seeds_of
from .summary import (
    MetricKind,
    best_first,
    comparisons_document,
    order_of,
    ranks_document,
    resampling_seed,
    summaries,
    values_of,
)

TOLERANCE = 0.005  # of the range of a metric: no value of equal maps may differ by more
ROUNDING = 1e-4  # of the range of a metric
MOSTLY = 0.9  # the share of values that may not differ by more than rounding


class BoardRanking(NamedTuple):
    """The methods, models and scores of one board."""

    scores: ScoreArrays
    models: list[int]
    methods: list[list[str]]  # explainers, each with those whose maps are equal
    missing: dict[str, int]  # on how many of the models the other explainers ran
    named: Mapping[str, str]
    controls: Collection[str]
    seed: int
    blind: Mapping[str, str]  # the controls that see no model, by their explainers

    @property
    def firsts(self) -> list[str]:
        """The explainers that stand for themselves and their equals."""
        return [equal[0] for equal in self.methods]

    @property
    def names(self) -> list[str]:
        """How these explainers are called in the document."""
        return [self.named[name] for name in self.firsts]

    @property
    def architectures(self) -> list[str]:
        """The architecture of each model."""
        return [self.scores.architectures[model] for model in self.models]


def boards(
    table: pa.Table,
    metrics: Mapping[str, MetricKind],
    named: Mapping[str, str],
    controls: Collection[str],
    seed: int,
    blind: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """A board for each architecture, and one over all if there are several, ready for JSON.

    A board ranks the methods that ran on all of its models; on the board over all, architectures weigh the same. What
    methods score on different models is never set side by side. Methods whose values are equal stand there once.

    Args:
        named: the explainers that are ranked, each with its name in the document.
        controls: the explainers that explain nothing.
        blind: those of them that skill is measured against, each with its name in the document.
    """
    scores = ScoreArrays(table, {name: kind.select for name, kind in metrics.items()})
    kinds = list(dict.fromkeys(scores.architectures))
    chosen = [[i for i, name in enumerate(scores.architectures) if name == kind] for kind in kinds]
    chosen += [list(range(len(scores.models)))] if len(kinds) > 1 else []
    rankings = [_ranking(scores, metrics, models, named, controls, seed, blind or {}) for models in chosen]
    return [_document(ranking, metrics) for ranking in rankings if ranking.methods]


def _ranking(
    scores: ScoreArrays,
    metrics: Mapping[str, MetricKind],
    models: list[int],
    named: Mapping[str, str],
    controls: Collection[str],
    seed: int,
    blind: Mapping[str, str],
) -> BoardRanking:
    methods = [name for name in scores.methods if name in named]
    ran = {
        name: sum(any(scores.has_rows(metric, name)[:, model].any() for metric in metrics) for model in models)
        for name in methods
    }
    complete = [name for name in methods if ran[name] == len(models)]
    missing = {name: count for name, count in ran.items() if count < len(models)}
    by_row = [name for name, kind in metrics.items() if kind.select is None]  # no threshold is chosen over all rows
    stacks = [scores.all_of(metric, complete)[:, :, models] for metric in by_row]
    merged = [[complete[method] for method in methods] for methods in find_equal(stacks, len(complete))]
    return BoardRanking(scores, models, merged, missing, named, controls, seed, blind)


def find_equal(stacks: Sequence[np.ndarray], count: int) -> list[list[int]]:
    """The numbers of `count` methods in sets of equal ones, most of them alone, in order.

    Methods are equal if they have the same values (methods, rows, models) by every metric but for rounding. Equal maps
    that were computed another way may sort pixels of nearly the same value in another order, so a few values may differ
    by TOLERANCE of the range of all.
    """
    sets: list[list[int]] = []
    scaled = [_scale(stack) for stack in stacks if not np.isnan(stack).all()]
    for method in range(count):
        equal = next((members for members in sets if scaled and _are_equal(scaled, members[0], method)), None)
        if equal is None:
            sets.append([method])
        else:
            equal.append(method)
    return sets


def _scale(stack: np.ndarray) -> np.ndarray:
    """Values divided by their range; as they are if all are the same."""
    reach = float(np.nanmax(stack) - np.nanmin(stack))
    return stack / reach if reach > 0 else stack


def _are_equal(stacks: Sequence[np.ndarray], first: int, second: int) -> bool:
    for stack in stacks:
        one, other = stack[first], stack[second]
        if (np.isnan(one) != np.isnan(other)).any():
            return False
        apart = np.abs(one - other)[~np.isnan(one)]
        if apart.size and (apart.max() > TOLERANCE or np.mean(apart <= ROUNDING) < MOSTLY):
            return False
    return True


def _document(ranking: BoardRanking, metrics: Mapping[str, MetricKind]) -> dict[str, Any]:
    return {
        "scope": THESE,
        "architectures": seeds_of(ranking.architectures),
        "models": [ranking.scores.models[model] for model in ranking.models],
        "methods": [
            {"text": ranking.named[first], "equal": [ranking.named[name] for name in others]}
            for first, *others in ranking.methods
        ],
        "missing": {ranking.named[name]: count for name, count in ranking.missing.items()},
        "metrics": {metric: _of_metric(ranking, metric, kind) for metric, kind in metrics.items()},
    }


def _of_metric(ranking: BoardRanking, metric: str, kind: MetricKind) -> dict[str, Any]:
    values = values_of(ranking.scores, metric, ranking.firsts, ranking.models).methods
    numbers = summaries(ranking.scores, metric, kind, ranking.firsts, ranking.seed, ranking.models, ranking.blind)
    names, architectures = ranking.names, ranking.architectures
    pairs = best_first(compare(values, seed=resampling_seed(ranking.seed), architectures=architectures), kind)
    order = order_of(values, kind, architectures)
    compared = comparisons_document(names, values, pairs, kind, architectures)
    for pair, document in zip(pairs, compared["pairs"], strict=True):
        document["rows"] = rows_needed(pair.effect)
    return {
        "results": dict(zip(names, numbers, strict=True)),
        **compared,
        "ranks": ranks_document(names, values, kind, architectures, ranking.seed),
        "better_than": dict(_better_than(ranking, order, pairs)),
        "trained_anew": _anew_document(names, values, kind, architectures),
    }


def _better_than(
    ranking: BoardRanking, order: Sequence[int], pairs: Sequence[Comparison]
) -> Iterator[tuple[str, dict[str, bool | None]]]:
    """For each method, whether it is known to be better than the best control, and than the next method.

    None for a control, and where there is no control or no next method.
    """
    names = ranking.names
    apart = {(pair.first, pair.second): pair.apart for pair in pairs}
    controls = [method for method in order if ranking.firsts[method] in ranking.controls]
    for place, method in enumerate(order):
        rivals = {"control": None if method in controls else next(iter(controls), None)}
        rivals["next"] = next(iter(order[place + 1 :]), None)
        yield (
            names[method],
            {key: None if rival is None else apart.get((method, rival), False) for key, rival in rivals.items()},
        )


def _anew_document(
    names: list[str], values: np.ndarray, kind: MetricKind, architectures: Sequence[str]
) -> dict[str, Any]:
    """What can be said of models trained anew: every pair, the better method first, if there are seeds enough."""
    pairs = best_first(compare_anew(values, architectures), kind) if has_enough_seeds(architectures) else []
    different = [pair for pair in pairs if pair.apart]
    return {
        "scope": ANEW,
        "sentence": anew_sentence(seeds_of(architectures), len(different), len(pairs)),
        "pairs": [_anew_pair(names, pair) for pair in pairs],
    }


def _anew_pair(names: list[str], pair: AnewComparison) -> dict[str, Any]:
    numbers = {
        "difference": pair.difference.mean,
        "low": pair.difference.low,
        "high": pair.difference.high,
        "p": pair.p,
        "p_holm": pair.adjusted,
        "freedom": pair.freedom,
    }
    return {"a": names[pair.first], "b": names[pair.second], **without_nan(numbers), "apart": pair.apart}
