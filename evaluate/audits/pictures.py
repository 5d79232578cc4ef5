"""The pictures of an audit: the maps of a method for a few rows, with the images and the true masks.

All methods of a data set are shown on the same gallery rows, and each on those that it explains best and worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import Tensor

from an8flower.backgrounds import describe_grounds

from ..data.selection import select_rows
from ..explaining.explain import explain
from ..explaining.methods import Method
from ..metrics.metric import Metric
from ..metrics.naming import parse_metric
from ..models.classifier import Classifier
from ..results.kept_maps import to_half_precision
from ..scoring.judge import Judge
from ..seeds import seed_of

Role = Literal["gallery", "best", "worst"]
ROLES: tuple[Role, ...] = get_args(Role)
FIELDS = ("rows", "roles", "labels", "predicted", "images", "masks", "maps", "iou", "grounds")
RANKED_BY = ("iou_best", "iou_mean")  # and then any other metric of localisation


def gallery_rows(labels: np.ndarray, seed: int, count: int = 6) -> list[int]:
    """Choose the rows that are shown of every method: `count` or all if there are fewer, one of every class first."""
    return [int(row) for row in select_rows(labels, min(count, len(labels)), seed_of("gallery", seed))]


def best_and_worst(table: pa.Table | pd.DataFrame, count: int = 3) -> dict[str, list[int]]:
    """The rows that a method explains best, the best first, and worst, the worst first; none is in both.

    `iou_best` decides, each row at its own best threshold, else `iou_mean`, else the first metric of localisation that
    has a value for every row. Rows without a value are in neither; of few rows, the best are named first.

    Args:
        table: the long rows of one method on one model.
    """
    values = _quality(table.to_pandas() if isinstance(table, pa.Table) else table).dropna()
    order = values.sort_index().sort_values(ascending=False, kind="stable").index.tolist()
    best = order[: min(count, (len(order) + 1) // 2)]
    return {"best": best, "worst": order[len(best) :][::-1][:count]}


def _quality(frame: pd.DataFrame) -> pd.Series:
    """How well each row is explained, by its number; larger is better."""
    for metric in _rank_metrics(frame["metric"].unique()):
        rows = frame[frame["metric"] == metric.name].set_index("row")
        if metric.name == RANKED_BY[0] and rows["curve"].notna().any():
            return rows["curve"].dropna().map(np.max)
        if rows["value"].notna().any():
            return rows["value"] * (1 if metric.higher_is_better else -1)
    return pd.Series(dtype=float)


def _rank_metrics(names: Iterable[str]) -> list[Metric]:
    """The metrics of localisation among the names, those of `RANKED_BY` first."""
    localising = [metric for metric in map(parse_metric, names) if metric.family == "localisation"]
    return sorted(localising, key=lambda metric: [metric.name != name for name in RANKED_BY])


def pictures_of(
    judge: Judge, classifier: Classifier, method: Method, rows: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Explain the rows of each role by a fitted method, and collect the arrays that a page shows.

    Each row is explained once, with the target and the seed that it is scored with.

    Returns:
        `rows` (K,) int64, `roles` (K,) str, `labels` (K,) and `predicted` (K,) int64, `images` (K, S, S, 3) uint8,
        `masks` (K, S, S) uint8 as stored, `maps` (K, S, S) float16, `iou` (K,) float32: at the threshold that is best
        for the row; NaN where undefined, `grounds` (K,) str: what lies behind the plant, see `describe_grounds`. Maps
        that float16 cannot hold are scaled by a power of two.
    """
    pairs = [(row, role) for role in ROLES for row in rows.get(role, ())]
    indices, back = np.unique(np.array([row for row, _ in pairs], np.int64), return_inverse=True)
    arrays = _explain_rows(judge, classifier, method, indices) if len(indices) else _empty_arrays(judge)
    roles = np.array([role for _, role in pairs], dtype="U7")
    return {"rows": indices[back], "roles": roles, **{name: values[back] for name, values in arrays.items()}}


def _explain_rows(judge: Judge, classifier: Classifier, method: Method, indices: np.ndarray) -> dict[str, np.ndarray]:
    predicted = judge.predict(classifier, indices)
    case = judge.case(classifier, indices, predicted)
    maps = explain(classifier, method.explainer, case.query, judge.resources.in_flight).maps
    # By the metric that defines it, as the page draws masks: every pixel counts.
    curves: Tensor = parse_metric(f"{RANKED_BY[0]}:strict=true").score(maps, case)
    shown = {
        "labels": case.truth.labels,
        "images": (case.query.images * 255).round().byte().permute(0, 2, 3, 1),
        "masks": case.truth.masks,
        "iou": curves.amax(1).float(),
    }
    arrays = {name: values.cpu().numpy() for name, values in shown.items()}
    grounds = describe_grounds(judge.split, judge.split.take(indices))
    return {**arrays, "predicted": predicted, "maps": to_half_precision(maps.cpu().numpy()), "grounds": grounds}


def _empty_arrays(judge: Judge) -> dict[str, np.ndarray]:
    """The arrays of `_explain_rows` for no row at all."""
    side = judge.split.store.size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "labels": ((0,), np.int64),
        "predicted": ((0,), np.int64),
        "images": ((0, side, side, 3), np.uint8),
        "masks": ((0, side, side), np.uint8),
        "maps": ((0, side, side), np.float16),
        "iou": ((0,), np.float32),
        "grounds": ((0,), "U16"),
    }
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()}
