"""The values of one metric as arrays, with what a summary has to know of the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .statistics.intervals import known_mean, rows_of
from .statistics.scores import CHANCE, ORACLE, ScoreArrays, Select


class MetricKind(NamedTuple):
    """The properties of a metric that a summary needs."""

    select: Select | None = None
    family: str = ""
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)


class Values(NamedTuple):
    """The values of one metric for some methods and models, and those of chance and the truth."""

    methods: np.ndarray  # (methods, rows, models); NaN is undefined
    chance: np.ndarray  # (rows, models)
    oracle: np.ndarray  # (rows, models)
    architectures: Sequence[str]  # of each model

    def where(self, known: np.ndarray) -> Values:
        """The same values, undefined where `known` (..., rows, models) is false."""
        return self._replace(methods=np.where(known, self.methods, np.nan))


def values_of(scores: ScoreArrays, metric: str, methods: list[str], models: Sequence[int] | None = None) -> Values:
    """The values of a metric for methods, on all models or on those with the given numbers."""
    chosen = list(range(len(scores.models)) if models is None else models)
    chance, oracle = (scores.of(metric, name)[:, chosen] for name in (CHANCE, ORACLE))
    names = [scores.architectures[model] for model in chosen]
    return Values(scores.all_of(metric, methods)[..., chosen], chance, oracle, names)


def order_of(values: np.ndarray, kind: MetricKind, architectures: Sequence[str]) -> list[int]:
    """The methods of values (methods, rows, models) that have a mean, best first."""
    means = known_mean(rows_of(values, architectures), axis=1) * (-1 if kind.higher_is_better else 1)
    return [method for method in np.argsort(means, kind="stable").tolist() if not np.isnan(means[method])]
