"""Long rows, as a run files them: one row for each image and metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ..case import Truth
from ..metrics.interventions.reliance import WHY_UNDEFINED
from ..metrics.metric import Metric, MetricValues, reasons
from ..models.costs import Cost
from ..results.folder import METRIC_FAILED, SCHEMA


def rows_of_metrics(
    metrics: tuple[Metric, ...], scores: MetricValues, truth: Truth, about: dict[str, Any], reason: str | None = None
) -> pa.Table:
    """The scores of a batch as long rows.

    Args:
        about: further columns, each a value for all rows or an array (B,); a column without a value is null.
        reason: why no row has a value, where it is not for the metrics' own reasons.
    """
    if not metrics:
        return SCHEMA.empty_table()
    shared = {"row": truth.rows.cpu().numpy(), "label": truth.labels.cpu().numpy(), **about}
    return pa.concat_tables(
        _table({**shared, "metric": metric.name, **_values(metric, scores, truth, reason)}, len(truth.rows))
        for metric in metrics
    )


def rows_of_reliance(values: dict[str, np.ndarray], about: dict[str, Any]) -> pa.Table:
    """What a model relies on in each row, values (n,) by name, as long rows."""
    return pa.concat_tables(
        _table({**about, "metric": name, "value": column, "reason": _why_undefined(name, column)}, len(column))
        for name, column in values.items()
    )


def cost_per_image(cost: Cost, count: int) -> dict[str, float]:
    """The columns of what it cost to explain one image, if so many images cost this."""
    return {"seconds": cost.seconds / count, "forwards": cost.forwards / count, "backwards": cost.backwards / count}


def _table(columns: dict[str, Any], count: int) -> pa.Table:
    """A table of columns in the schema's order; a single value stands in every row."""
    arrays = []
    for field in SCHEMA:
        column = columns.get(field.name)
        whole = column if isinstance(column, pa.Array | list | np.ndarray) else [column] * count
        arrays.append(pa.array(whole, field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _values(metric: Metric, scores: MetricValues, truth: Truth, reason: str | None) -> dict[str, Any]:
    """The columns of a metric's values, curves or both, and of the reasons why rows have none."""
    values = scores.values[metric.name]
    missing = values.reshape(len(values), -1).isnan().any(1).tolist()
    why = reason or scores.undefined.get(metric.name)
    if isinstance(why, str):
        why = [why] * len(values)
    undefined = why or reasons(metric, truth)
    if metric.name in scores.failed:
        undefined = [METRIC_FAILED + scores.failed[metric.name]] * len(values)
    why_none = [cause if none else None for cause, none in zip(undefined, missing, strict=True)]
    columns = {"curve" if values.ndim == 2 else "value": values}
    if metric.name in scores.traces:
        columns["curve"] = scores.traces[metric.name]
    return {**{name: list(column.cpu().numpy()) for name, column in columns.items()}, "reason": why_none}


def _why_undefined(name: str, values: np.ndarray) -> list[str | None]:
    """Why rows have no value (NaN), and None for rows that have one."""
    return [WHY_UNDEFINED[name] if none else None for none in np.isnan(values)]
