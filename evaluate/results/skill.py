"""What a method's score is worth beside maps that see no model, and beside its own maps of other pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .files import without_nan
from .metric_values import MetricKind, Values, order_of, values_of
from .statistics.intervals import Interval, calibrate, calibrated_differences, calibrated_intervals, known_mean, rows_of
from .statistics.scores import AT_GRID, OTHER_ROWS, ScoreArrays

SKILL_CONTROLS = ("mean_mask", "center", "edges")
"""The methods that see no model and may still find evidence: the best of them has the skill 0."""
NOTHING = dict.fromkeys(("skill", "skill_low", "skill_high"))
NO_CONTROL = f"no control that sees no model has a value for all models: score {', '.join(SKILL_CONTROLS)} as well"
NO_ROOM = "the truth scores no better than the best control that sees no model"
NO_VALUE = "it has no value, or not on rows on which the control and the truth have one"
NO_OTHERS = "maps of other rows are scored only by metrics that need no further pass through the model for it"


def skills(
    scores: ScoreArrays,
    metric: str,
    kind: MetricKind,
    values: Values,
    models: Sequence[int],
    controls: Mapping[str, str],
    seed: int,
) -> list[dict[str, Any]]:
    """The skill of each method by a metric: `skill`, `skill_low`, `skill_high`, `skill_control`, or `skill_reason`.

    Skill is (score - best control) / (truth - best control): 0 is the control, 1 the truth. The rows of method, control
    and truth are drawn together. The best control is the one with the best mean over all rows that were scored; it
    stays the same when rows are drawn again.

    Args:
        values: those of the methods, on the models with these numbers.
        controls: the controls that see no model by their explainers, each with its name in the document.
    """
    everywhere = [name for name in controls if name in scores.explainers and _ran_on(scores, metric, name, models)]
    rivals = values_of(scores, metric, everywhere, models)
    order = order_of(rivals.methods, kind, rivals.architectures)
    if not order:
        return [{**NOTHING, "skill_reason": NO_CONTROL}] * len(values.methods)
    control, name = rivals.methods[order[0]], controls[everywhere[order[0]]]
    if not _leaves_room(control, values, kind):
        return [{**NOTHING, "skill_control": name, "skill_reason": NO_ROOM}] * len(values.methods)
    compared = np.where(np.isnan(control + values.oracle), np.nan, values.methods)  # where the control has a value too
    measured = calibrated_intervals(compared, control, values.oracle, seed=seed, architectures=values.architectures)
    return [{**_document("skill", interval, NO_VALUE), "skill_control": name} for interval in measured]


def _ran_on(scores: ScoreArrays, metric: str, explainer: str, models: Sequence[int]) -> bool:
    return bool(scores.has_rows(metric, explainer)[:, list(models)].any(axis=0).all())


def _leaves_room(control: np.ndarray, values: Values, kind: MetricKind) -> bool:
    """Whether the truth scores better on average than a control (rows, models), on the rows where both have a value."""
    room = known_mean(rows_of(values.oracle - control, values.architectures), axis=0)
    return bool(room > 0 if kind.higher_is_better else room < 0)


def of_this_picture(
    scores: ScoreArrays, metric: str, methods: Sequence[str], values: Values, models: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """How much of each calibrated score is about the picture itself: `of_this_picture`, its `_low`, `_high`, `_reason`.

    It is the calibrated score less that of the method's own maps of other rows: 0 if those do as well.
    """
    others = values_of(scores, metric, [OTHER_ROWS + name for name in methods], models).methods
    measured = calibrated_differences(
        values.methods, others, values.chance, values.oracle, seed=seed, architectures=values.architectures
    )
    return [_document("of_this_picture", interval, NO_OTHERS) for interval in measured]


def ceilings(
    scores: ScoreArrays, metric: str, methods: Sequence[str], values: Values, models: Sequence[int]
) -> list[dict[str, Any]]:
    """The calibrated score of the truth at each method's own grid, `ceiling`; nothing for methods without a grid.

    It is what the method could score if its coarse map were right: no bound, as other coarse maps may score more.
    """
    at_grid = values_of(scores, metric, [AT_GRID + name for name in methods], models).methods
    measured = [_calibrate_mean(truth, values) for truth in at_grid]
    return [{} if np.isnan(ceiling) else {"ceiling": ceiling} for ceiling in measured]


def _calibrate_mean(truth: np.ndarray, values: Values) -> float:
    """The calibrated mean of values (rows, models), on the rows and models on which they are defined."""
    means = [
        float(known_mean(rows_of(np.where(np.isnan(truth), np.nan, part), values.architectures), axis=0))
        for part in (truth, values.chance, values.oracle)
    ]
    return calibrate(means[0], *means[1:])


def _document(key: str, interval: Interval, reason: str) -> dict[str, Any]:
    ends = (interval.mean + 0.0, interval.low + 0.0, interval.high + 0.0)  # without negative zeros
    numbers = dict(zip((key, f"{key}_low", f"{key}_high"), ends, strict=True))
    why_none = {f"{key}_reason": reason} if np.isnan(interval.mean) else {}
    return {**without_nan(numbers), **why_none}
