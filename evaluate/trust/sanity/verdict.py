"""Whether a method passes: how alike its maps of a trained and of a random model are, on a scale of its own.

On that scale 0 is as unlike as maps of different images that the same method makes of the same trained model, and 1 is
the same map. Methods differ in what unrelated maps share (smooth maps in the middle of the image are alike whatever
they explain), so that no similarity as such can be called high or low.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ...results.statistics.intervals import interval
from ...seeds import seed_of
from .similarity import SIMILARITIES, ComparedMaps, similarities

Outcome = Literal["pass", "fail", "undecided"]
THRESHOLD = 0.5  # half of what tells maps of different images apart
MEETINGS = 4  # with how many other rows' maps each is compared
IDENTICAL = 1 - 1e-9
HEADLINE = "spearman_abs"


@dataclass(frozen=True)
class SimilarityVerdict:
    """A similarity between the maps of two models, and what follows from it."""

    outcome: Outcome
    mean: float  # similarity of the two models' maps of the same image
    unrelated: float  # similarity of the trained model's maps of different images
    calibrated: float  # 0: as unlike as those; 1: the same
    low: float  # 95 % interval of `calibrated`, over rows
    high: float
    n: int  # rows with a value
    undefined: int
    reason: str  # why it is undecided, else empty


def compare_unrelated(original: ComparedMaps) -> dict[str, float]:
    """Mean similarity of a method's maps of different images, by similarity; NaN where there is only one."""
    order, count = np.arange(len(original)), len(original)
    met = [similarities(original, original.pick(np.roll(order, shift))) for shift in range(1, min(MEETINGS + 1, count))]
    return {name: mean([likeness[name] for likeness in met]) for name in SIMILARITIES}


def mean(values: Any) -> float:
    """The mean of what is defined; NaN where nothing is."""
    flat = np.ravel(values).astype(np.float64)
    known = flat[~np.isnan(flat)]
    return float(known.mean()) if known.size else float("nan")


def on_scale(similarity: np.ndarray, unrelated: float) -> np.ndarray:
    """Similarities where those of unrelated maps are 0 and those of the same maps 1.

    Where unrelated maps are the same too, only sameness can be told: 1 where it holds, NaN else.

    >>> on_scale(np.array([0.25, 1.0]), 0.25)
    array([0., 1.])
    """
    same = np.where(similarity >= IDENTICAL, 1.0, np.nan)
    if not unrelated < IDENTICAL:
        return same
    return np.where(similarity >= IDENTICAL, 1.0, (similarity - unrelated) / (1 - unrelated))


def judge_similarity(similarity: np.ndarray, unrelated: float, *seed: str | int) -> SimilarityVerdict:
    """The verdict on similarities (N,) or (N, draws) of the maps of two models.

    It passes where the whole interval lies below 0.5 and fails where it lies above. It is undecided in between, and
    where half of the rows, or more, have no value.
    """
    calibrated = interval(on_scale(similarity, unrelated), seed=seed_of("verdict", *seed))
    outcome, reason = outcome_of(calibrated.low, calibrated.high, calibrated.n, calibrated.undefined)
    numbers = (calibrated.mean, calibrated.low, calibrated.high, calibrated.n, calibrated.undefined)
    return SimilarityVerdict(outcome, mean(similarity), unrelated, *numbers, reason)


def outcome_of(low: float, high: float, n: int, undefined: int) -> tuple[Outcome, str]:
    """Pass, fail or undecided, and why the latter."""
    if n <= undefined:
        return "undecided", f"{undefined} of {n + undefined} rows have no value: {NO_VALUE}"
    if low > THRESHOLD:
        return "fail", ""
    if high < THRESHOLD:
        return "pass", ""
    return "undecided", f"the interval holds {THRESHOLD}: take more rows"


NO_VALUE = "one of the two maps is constant, or those of different images are the same"


def overall(verdicts: dict[str, SimilarityVerdict]) -> Outcome:
    """Fail where any similarity does; else what the rank correlation of absolute maps says.

    That one is what the literature averages. The others see structure that it does not, so that each may object; but
    where one of them leaves it open, a method is not held back.
    """
    if any(verdict.outcome == "fail" for verdict in verdicts.values()):
        return "fail"
    return verdicts[HEADLINE].outcome


def describe_verdicts(verdicts: dict[str, SimilarityVerdict]) -> dict[str, Any]:
    """The verdicts by all similarities as a document describes them."""
    return {"outcome": overall(verdicts), "similarities": {name: asdict(verdict) for name, verdict in verdicts.items()}}
