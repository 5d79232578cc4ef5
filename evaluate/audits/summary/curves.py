"""The curves of a summary: IoU against the threshold, and the class's probability while pixels are changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ...metrics.metric import Metric
from ...metrics.ranking import THRESHOLDS
from ...results.files import without_nan
from ...results.statistics.intervals import intervals
from ...results.statistics.scores import ScoreArrays
from ...results.summary import CHANCE, ORACLE
from ...seeds import seed_of

IOU = "iou_best"  # the metric whose long rows hold the IoU at every threshold
REFERENCES = (CHANCE, ORACLE)


class Axes(NamedTuple):
    """The axes of a curve: its title, what stands on either axis, and where its points lie."""

    title: str
    x_title: str
    y_title: str
    x: list[float]


def curves(
    table: pa.Table, methods: Mapping[str, str], metrics: Iterable[Metric], size: int, seed: int
) -> dict[str, dict[str, Any]]:
    """The curves of every method: means over rows with 95 % intervals, point by point, ready for JSON.

    All points and methods are resampled by the same draws of rows, so that an interval is that of `score` at this
    point. Methods without a filed curve are left out, and curves without a method.

    Args:
        table: the long rows of a run.
        methods: the names of the methods in the result, by the repr of their explainers.
        metrics: the metrics of the run; those without a curve are passed over.
        size: side of the pictures in pixels.
    """
    scores = ScoreArrays(table, {})
    described = _describe_curves(metrics, size).items()
    by_name = {name: _curve(scores, metric, axes, methods=methods, seed=seed) for name, (metric, axes) in described}
    return {name: curve for name, curve in by_name.items() if curve["methods"]}


def _describe_curves(metrics: Iterable[Metric], size: int) -> dict[str, tuple[Metric, Axes]]:
    """The metrics that have curves, each with the axes of its curve, by the curve's name."""
    by_name = {}
    for metric in metrics:
        if metric.name == IOU:
            by_name["iou"] = metric, Axes("IoU against threshold", "threshold", "IoU", _decimals(THRESHOLDS.tolist()))
        elif metric.tracer:
            levels = _decimals(metric.tracer.levels(size * size))
            name, _, options = metric.name.partition(":")
            title = f"{name.capitalize()} curve" + (f" ({options.replace(',', ', ')})" if options else "")
            by_name[metric.name] = metric, Axes(title, "share of pixels changed", metric.unit, levels)
    return by_name


def _decimals(levels: list[float]) -> list[float]:
    """Round levels to the decimals that were meant: float32 gives 0.01 as 0.00999999977."""
    return [round(level, 6) for level in levels]


def _curve(scores: ScoreArrays, metric: Metric, axes: Axes, *, methods: Mapping[str, str], seed: int) -> dict[str, Any]:
    """The curve of every method and of the references, with its axes."""
    lines = {text: _line(scores, metric, name, seed) for name, text in methods.items()}
    references = {name: _line(scores, metric, name, seed) for name in REFERENCES}
    return {
        **axes._asdict(),
        "methods": {text: line for text, line in lines.items() if line},
        "references": {name: line for name, line in references.items() if line},
    }


def _line(scores: ScoreArrays, metric: Metric, explainer: str, seed: int) -> dict[str, list[float | None]] | None:
    """Mean and interval at each point of an explainer's curve; None if no curve of it is filed."""
    points = np.moveaxis(scores.curves(metric.name, explainer), 2, 0)  # (T, rows, models)
    if np.isnan(points).all():
        return None
    summaries = intervals(points, seed=seed_of(seed, "resampling"), architectures=scores.architectures)
    bounds = {"mean": None, "low": metric.bounds, "high": metric.bounds}
    return {name: _clip([getattr(point, name) for point in summaries], within) for name, within in bounds.items()}


def _clip(values: list[float], bounds: tuple[float, float] | None) -> list[float | None]:
    """Clip values to bounds, with None for NaN."""
    clipped = np.clip(values, *bounds) if bounds else np.array(values)
    return list(without_nan(clipped.tolist()))
