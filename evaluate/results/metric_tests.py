"""What metrics make of maps of known worth: the truth, its ranks mixed with those of noise, and adversaries. No torch.

The maps are made in `audits/known_maps.py`; here stand their names, and what is concluded from their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .certified import CertifiedModels
from .metric_agreement import NONE_CERTIFIED, to_share
from .scopes import THESE
from .statistics.degradation import DegradationCurve, compare_with_truth, follow_degradation
from .statistics.intervals import Interval
from .summary import resampling_seed

LEVELS = tuple(step / 10 for step in range(11))
"""The shares of noise in the maps from the truth, 0, to noise, 1."""
ADVERSARIES = {
    "shifted": "the truth moved by half the picture's side, down and to the right; what leaves on one side comes back "
    "on the other",
    "blurred": "the truth blurred by a Gaussian whose standard deviation is a twentieth of the picture's side",
    "eroded": "the half of the truth's pixels that lies deepest within it",
    "dilated": "the truth and as many pixels around it, the nearest first",
    "inverted": "everything but the truth",
    "edges": "the magnitude of the brightness's gradient, whatever the class",
    "other_class": "the truth of a picture of another class",
}
"""The maps that a metric should not take for the truth, each in words."""
TRUTH = "truth"  # the mask as it is: 1 on the evidence, 0 elsewhere
Outcome = Literal["told", "not told", "preferred"]


def degraded_name(level: float) -> str:
    """The name of the map with a share of noise.

    >>> degraded_name(0), degraded_name(0.3)
    ('noise-0', 'noise-30')
    """
    return f"noise-{round(100 * level)}"


DEGRADED = tuple(map(degraded_name, LEVELS))
MAPS = (TRUTH, *DEGRADED, *ADVERSARIES)
"""The names of all maps that are scored."""

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""The scores (rows,) of the maps of one model, by the map's name and the metric's; NaN is undefined."""


def describe_tests(
    scores: Mapping[str, Scores],
    certified: Sequence[CertifiedModels],
    higher_is_better: Mapping[str, bool],
    seed: int,
) -> list[dict[str, Any]]:
    """An entry for each architecture: the degradation curve and the adversaries of every metric, ready for JSON.

    Args:
        scores: by the names of the models; a model that lacks a map is left out.
        higher_is_better: by the names of the metrics that are described.
    """
    entries = []
    for group in certified:
        complete = [scores[name] for name in group.models if set(MAPS) <= scores.get(name, {}).keys()]
        about = {**group.to_document(), "scope": THESE}
        if not complete:
            reason = "it failed for every model" if group.models else NONE_CERTIFIED
            entries.append({**about, "reason": reason, "rows": 0, "metrics": {}})
            continue
        metrics = {
            name: _describe_metric(_stack(complete, name), higher, seed) for name, higher in higher_is_better.items()
        }
        rows = len(next(iter(complete[0][MAPS[0]].values()), ()))
        entries.append({**about, "rows": rows, "metrics": metrics})
    return entries


def _stack(models: Sequence[Scores], metric: str) -> np.ndarray:
    """The scores (maps, rows, models) of a metric."""
    return np.stack([[scores[name][metric] for name in MAPS] for scores in models], axis=-1)


def _describe_metric(values: np.ndarray, higher_is_better: bool, seed: int) -> dict[str, Any]:
    truth, degraded, others = np.split(values, [1, 1 + len(DEGRADED)])
    how: dict[str, Any] = {"higher_is_better": higher_is_better, "seed": resampling_seed(seed)}
    curve = follow_degradation(degraded, **how)
    compared = compare_with_truth(truth[0], others, **how)
    adversaries = zip(ADVERSARIES, compared, strict=True)
    return {
        "higher_is_better": higher_is_better,
        "curve": [{"noise": level, **to_share(mean)} for level, mean in zip(LEVELS, curve.means, strict=True)],
        "in_order": to_share(curve.in_order),
        "lost_at": _lost_at(curve),
        "adversaries": {name: {**to_share(apart), "outcome": outcome_of(apart)} for name, apart in adversaries},
    }


def _lost_at(curve: DegradationCurve) -> float | None:
    """The share of noise from which a map cannot be told from noise; None if nothing is known."""
    return None if curve.lost_at is None else LEVELS[curve.lost_at]


def outcome_of(apart: Interval) -> Outcome | None:
    """Whether a metric tells an adversary from the truth, by the interval of the difference in favour of the truth.

    None if no row has both values.

    >>> outcome_of(Interval(0.2, 0.1, 0.3, 9, 0)), outcome_of(Interval(-0.2, -0.3, -0.1, 9, 0))
    ('told', 'preferred')
    """
    if not apart.n:
        return None
    return "told" if apart.low > 0 else "preferred" if apart.high < 0 else "not told"
