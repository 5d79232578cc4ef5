"""Metrics under guard: a metric that fails, or gives no scores, is missing with the reason, and no other is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal

from ..case import Case, Query, Truth
from ..models.networks.guard import guard
from ..registry import is_ours
from ..resources import is_out_of_memory
from .metric import Asking, Metric, MetricValues, Reading, score_and_trace

LARGEST = 1e18  # of a value, whatever the bounds: squares of larger ones leave single precision
TOLERANCE = 1e-4  # beyond a bound, as a share of the range, or of the bound where the other one is infinite


class Group(NamedTuple):
    """Metrics that share their preparation, and are scored together."""

    metrics: tuple[Metric, ...]
    ours: bool


def score_guarded(metrics: Iterable[Metric], maps: Tensor, case: Case) -> MetricValues:
    """Score one batch as `score_and_trace` does; a metric that fails has NaN in every row, and a reason in `failed`.

    A stranger's metric gets copies, so that no other metric sees what it does to maps, masks and pictures.

    Raises:
        NotApplicable: a metric does not apply to the model.
        MemoryError, torch.OutOfMemoryError: memory ran out, which is no fault of a metric's.
    """
    return merge([score_group(group, maps, case) for group in groups_of(metrics)])


def merge(parts: Iterable[MetricValues]) -> MetricValues:
    """The scores of several groups of metrics as one."""
    whole = MetricValues({}, {}, {})
    for part in parts:
        failed, undefined = {**whole.failed, **part.failed}, {**whole.undefined, **part.undefined}
        whole = MetricValues(whole.values | part.values, whole.traces | part.traces, failed, undefined)
    return whole


def groups_of(metrics: Iterable[Metric]) -> list[Group]:
    """All metrics of ours in a group, and those of strangers by what they share."""
    metrics = list(metrics)
    ours = tuple(metric for metric in metrics if is_own(metric))
    foreign: dict[object, list[Metric]] = {}
    for metric in metrics:
        if metric not in ours:
            shared = metric.score.prepare if isinstance(metric.score, Reading | Asking) else metric.name
            foreign.setdefault(shared, []).append(metric)
    groups = [Group(ours, ours=True)] if ours else []
    return groups + [Group(tuple(group), ours=False) for group in foreign.values()]


def is_own(metric: Metric) -> bool:
    """Whether all code of a metric is part of this package."""
    score = metric.score
    parts = (score.prepare, score.read) if isinstance(score, Reading | Asking) else (score,)
    return all(is_ours(part) for part in (*parts, *filter(None, (metric.chance, metric.select))))


def score_group(group: Group, maps: Tensor, case: Case) -> MetricValues:
    """Score a group; where one of it fails, each by itself, so that the fault is the right one's."""
    try:
        scores = score_lent(group, maps, case)
        for metric in group.metrics:
            check_scores(metric, scores, maps)
        return scores
    except NotApplicable:
        raise
    except Exception as error:  # foreign code raises whatever it likes
        if is_out_of_memory(error):
            raise
        if len(group.metrics) == 1:
            return missing(group.metrics[0], len(maps), error)
    return merge([score_group(Group((metric,), group.ours), maps, case) for metric in group.metrics])


def score_lent(group: Group, maps: Tensor, case: Case) -> MetricValues:
    """Score a group, that of strangers on copies and with the model under guard."""
    if group.ours:
        return score_and_trace(group.metrics, maps, case)
    network: nn.Module = nn.Identity() if case.classifier is None else case.classifier
    names = " and ".join(metric.name for metric in group.metrics)
    try:
        with guard(network, f"the metric {names}", gradients=False):
            scores = score_and_trace(group.metrics, maps.clone(), copy_case(case))
    finally:
        if case.classifier is not None:
            case.classifier.forget_halves()
    values, traces = (
        {name: detach(tensor) for name, tensor in part.items()} for part in (scores.values, scores.traces)
    )
    return MetricValues(values, traces)


def detach(values: Tensor) -> Tensor:
    """Values of their own, without a graph; what is no tensor stays as it is."""
    return values.detach().clone() if isinstance(values, Tensor) else values


def copy_case(case: Case) -> Case:
    """A case with tensors of its own."""
    query = Query(*(tensor.clone() for tensor in case.query))
    truth = Truth._make(None if values is None else values.clone() for values in case.truth)
    return case._replace(query=query, truth=truth)


def missing(metric: Metric, rows: int, error: Exception) -> MetricValues:
    """The values of a metric that failed."""
    said = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {' '.join(str(error).split())}"
    return MetricValues({metric.name: torch.full((rows,), torch.nan)}, {}, {metric.name: f"{metric.name}: {said}"})


def guard_chance(metric: Metric, truth: Truth) -> MetricValues:
    """What chance scores by the formula of a metric; missing with the reason if the formula fails."""
    assert metric.chance, "asked for only where there is a formula"
    masks = truth.counted if metric.leaves_void_out else truth.masks
    try:
        values = metric.chance(masks if is_own(metric) else masks.clone())
        check_values(metric, "its chance", values, len(masks))
    except Exception as error:  # foreign code raises whatever it likes
        if is_out_of_memory(error):
            raise
        return missing(metric, len(masks), error)
    return MetricValues({metric.name: values}, {})


def check_scores(metric: Metric, scores: MetricValues, maps: Tensor) -> None:
    """Check what every reader of scores may rely on.

    Raises Refusal where they are no scores of so many rows.
    """
    values = scores.values[metric.name]
    check_values(metric, "the metric", values, len(maps))
    if values.device != maps.device and not is_own(metric):
        raise Refusal(f"it returned values on {values.device}; expected them on {maps.device}, the maps' device")
    curves = scores.traces.get(metric.name)
    if curves is not None and (curves.ndim != 2 or len(curves) != len(maps) or bool(curves.isinf().any())):
        raise Refusal(f"it returned curves {tuple(curves.shape)}; expected finite ones or NaN, ({len(maps)}, T)")


def check_values(metric: Metric, what: str, values: Tensor, rows: int) -> None:
    """Check the type, shape, dtype and range of values; NaN stands for a row without a value."""
    expected = f"({rows}, T), since it has `select`" if metric.select else f"({rows},), one value a row"
    if not isinstance(values, Tensor):
        raise Refusal(f"{what} returned {type(values).__name__}; expected a tensor {expected}")
    if values.ndim != (2 if metric.select else 1) or len(values) != rows:
        raise Refusal(f"{what} returned {tuple(values.shape)}; expected {expected}")
    if values.dtype not in (torch.float32, torch.float64):
        raise Refusal(f"{what} returned {str(values.dtype).removeprefix('torch.')}; expected float32")
    check_range(metric, what, values)


def check_range(metric: Metric, what: str, values: Tensor) -> None:
    """Raise a Refusal unless all values but NaN lie within the bounds of the metric's card.

    Bounds are those of the rows' values, which for a metric with `select` are chosen from the curves later.
    """
    defined = values.detach()[~values.isnan()]
    if not len(defined):
        return
    least, most = (float(bound) for bound in defined.aminmax())
    low, high = (-LARGEST, LARGEST) if metric.select else widen(metric.bounds)
    if not (low <= least and most <= high):
        raise Refusal(
            f"{what} returned values from {least:.4g} to {most:.4g}; expected {metric.bounds[0]:g} to "
            f"{metric.bounds[1]:g}, the bounds of its card, and NaN in rows without a value"
        )


def widen(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds with some room for rounding; an infinite one becomes `LARGEST`."""
    low, high = bounds
    spread = high - low if math.isfinite(high - low) else max([1.0, *(abs(b) for b in bounds if math.isfinite(b))])
    room = TOLERANCE * spread
    return max(low - room, -LARGEST), min(high + room, LARGEST)
