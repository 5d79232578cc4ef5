"""What a search for the values of a method's parameters found: its trials, what was chosen, and the gain. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .files import without_nan
from .metric_values import MetricKind, values_of
from .statistics.comparisons import compare
from .statistics.intervals import calibrated_differences, calibrated_intervals
from .statistics.scores import ScoreArrays
from .summary import resampling_seed

SPLIT = "val"  # the rows that a search sees


def calibrated_score(table: pa.Table, metric: str, kind: MetricKind, explainer: str, seed: int) -> dict[str, Any]:
    """The calibrated score of an explainer in long rows with those of chance and the truth; None where undefined."""
    scores = ScoreArrays(table, {metric: kind.select})
    values = values_of(scores, metric, [explainer])
    (interval,) = calibrated_intervals(
        values.methods,
        values.chance,
        values.oracle,
        seed=resampling_seed(seed),
        architectures=values.architectures,
    )
    return dict(
        without_nan(
            {"calibrated": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n},
        )
    )


def gain(table: pa.Table, metric: str, kind: MetricKind, tuned: str, untuned: str, seed: int) -> dict[str, Any]:
    """What an explainer gains over another on the same rows, on the scale from chance (0) to the truth (1).

    `calibrated` has the 95 % interval `low` to `high`, for which rows are drawn with both scores; `p` is that of the
    paired permutation test of the scores themselves. None where undefined.
    """
    scores = ScoreArrays(table, {metric: kind.select})
    values = values_of(scores, metric, [tuned, untuned])
    (interval,) = calibrated_differences(
        values.methods[:1],
        values.methods[1],
        values.chance,
        values.oracle,
        seed=resampling_seed(seed),
        architectures=values.architectures,
    )
    (pair,) = compare(values.methods, seed=resampling_seed(seed), architectures=values.architectures)
    p = float("nan") if np.isnan(interval.mean) else pair.p
    ends = {"calibrated": interval.mean + 0.0, "low": interval.low + 0.0, "high": interval.high + 0.0}
    return dict(without_nan({**ends, "p": p, "n": interval.n}))


def gain_words(gain: Mapping[str, Any]) -> str:
    """A gain in words: whether the tuned method is better on the test rows, as far as its interval tells.

    >>> gain_words({"calibrated": 0.1, "low": 0.05, "high": 0.15})
    'better'
    >>> gain_words({"calibrated": 0.1, "low": -0.05, "high": 0.15}), gain_words({"calibrated": None, "low": None})
    ('not known to be better', 'unknown')
    """
    if gain["low"] is None or gain["high"] is None:
        return "unknown"
    if gain["low"] > 0:
        return "better"
    return "worse" if gain["high"] < 0 else "not known to be better"


def with_best(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trials of a search in their order, each with the best score up to then: `best`, None before the first."""
    curve: list[dict[str, Any]] = []
    best: float | None = None
    for trial in trials:
        score = trial["calibrated"]
        best = score if best is None else best if score is None else max(best, score)
        curve.append({**trial, "best": best})
    return curve
