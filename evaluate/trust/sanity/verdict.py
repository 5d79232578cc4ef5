"""Whether a method passes: how alike its maps of a trained and of random models are, on a scale of its own.

On that scale 0 is as unlike as maps of different images that the same method makes of the same trained model, and 1 is
the same map. Methods differ in what unrelated maps share (smooth maps in the middle of the image are alike whatever
they explain), so that no similarity as such can be called high or low. The scale is cut at 0: less alike than maps of
different images is no stronger pass.

The threshold: let a map's ranks, with variance 1, be the sum of what all maps of the method have in common (u), of what
comes from the picture whatever the parameters (i), and of what comes from the parameters (m), so that u + i + m = 1.
Maps of different images then correlate by u, and maps of two models of the same image by u + i. On the scale this is
i / (i + m): the share of what is special to the map that the parameters do not explain. From 0.5 on the picture
explains more of it than the parameters do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...results.sanity_outcomes import LEAST_DRAWS, PRIMARY, THRESHOLD, settle_family
from ...results.statistics.draws import Estimate, estimate_on_scale, find_vanished, unrelated_means
from .similarity import SIMILARITIES, ComparedMaps, similarities

MEETINGS = 4  # with how many other rows' maps each is compared where all pairs would be dear
NO_VALUE = "the map of the trained model is constant, or those of different images are the same"


@dataclass(frozen=True)
class ScaledSimilarity:
    """A similarity between the maps of two models: as it is, beside that of other pictures, and on the scale."""

    mean: float  # similarity of the two models' maps of the same image, over draws
    unrelated: float  # similarity of the trained model's maps of different images
    calibrated: float  # 0: as unlike as those, or less alike; 1: the same
    low: float  # 95 % interval of `calibrated`, cut at 0 and 1 as well
    high: float
    n: int  # rows with a value
    undefined: int  # rows whose map is constant on the trained model
    vanished: int  # rows of `n` whose map is constant on the random model alone: 0 on the scale, not in `mean`


def compare_unrelated(original: ComparedMaps) -> dict[str, np.ndarray]:
    """Similarity of a method's maps of every two images, (N, N) by similarity; NaN where it is not defined.

    SSIM compares each map with the next MEETINGS alone.
    """
    unrelated = {
        "spearman_abs": pairwise(original.ranks_abs),
        "spearman": pairwise(original.ranks),
        "hog": pairwise(original.blocks),
        "ssim": meet_next(original),
    }
    alone = original.constant[:, None] | original.constant
    return {name: np.where(alone, np.nan, unrelated[name]) for name in SIMILARITIES}


def pairwise(standard: np.ndarray) -> np.ndarray:
    """Pearson's correlation (N, N) of every two standardised rows."""
    return np.clip(standard @ standard.T, -1, 1)


def meet_next(original: ComparedMaps) -> np.ndarray:
    """SSIM (N, N) of each map and the next MEETINGS, the first following the last; 1 with itself, NaN elsewhere."""
    count = len(original)
    order, values = np.arange(count), np.full((count, count), np.nan)
    np.fill_diagonal(values, 1)
    for shift in range(1, min(MEETINGS + 1, count)):
        others = np.roll(order, shift)
        values[order, others] = values[others, order] = similarities(original, original.pick(others), ("ssim",))["ssim"]
    return values


def judge(
    likeness: dict[str, np.ndarray], unrelated: dict[str, np.ndarray], draws: np.ndarray, *, single: bool = False
) -> dict[str, Any]:
    """The verdict on the similarities of the maps of two models, not yet corrected for the method's other tests.

    Args:
        likeness: (N,) by similarity, of the maps of the same image.
        unrelated: (N, N) by similarity, of the trained model's maps of two images.
        draws: (N,) int, the draw of the random model that each row was explained with.
        single: there is one other model for all rows. Then rows are the unit, and there is no verdict: what maps of
            another such model would be is not known.
    """
    units = np.arange(len(draws)) if single else draws
    estimates = {name: estimate_on_scale(likeness[name], unrelated[name], units) for name in SIMILARITIES}
    numbers = {
        name: asdict(cut_to_scale(estimates[name], likeness[name], unrelated[name], units)) for name in SIMILARITIES
    }
    models = 1 if single else estimates[PRIMARY].draws
    outcome, reason, p = first_outcome(estimates[PRIMARY], numbers[PRIMARY], models)
    verdict: dict[str, Any] = {"outcome": outcome, "reason": reason, "p": p, "adjusted": p, "tests": 1}
    verdict |= {"draws": models, "similarities": numbers}
    settle_family([verdict])
    return verdict


def cut_to_scale(
    estimate: Estimate, likeness: np.ndarray, unrelated: np.ndarray, units: np.ndarray
) -> ScaledSimilarity:
    """An estimate with its interval, cut to [0, 1], beside the similarities that it is made of."""
    value, reach = estimate.value, estimate.reach
    calibrated, low, high = np.clip([value, value - reach, value + reach], 0, 1).tolist()
    defined, lost = ~np.isnan(likeness), int(find_vanished(likeness, unrelated).sum())
    mean = float(likeness[defined].mean()) if defined.any() else float("nan")
    n = int(defined.sum()) + lost
    others = unrelated_means(unrelated, units)[0]
    return ScaledSimilarity(mean, others, calibrated, low, high, n, len(likeness) - n, lost)


def first_outcome(estimate: Estimate, numbers: dict[str, Any], models: int) -> tuple[str, str, float | None]:
    """What can be said before the test: nothing of few models, or of few rows; else the p of the test decides."""
    if models < LEAST_DRAWS and not numbers["undefined"]:
        return "no verdict", few_draws(models), None
    if numbers["n"] <= numbers["undefined"] or models < LEAST_DRAWS:
        rows = numbers["n"] + numbers["undefined"]
        return "undecided", f"{numbers['undefined']} of {rows} rows have no value: {NO_VALUE}", None
    p = estimate.p_against(THRESHOLD)
    if np.isnan(p):
        return "no verdict", NO_VALUE, None
    return "undecided", "", p


def few_draws(models: int) -> str:
    """Why there is no verdict on so few random models."""
    if models == 1:
        return "one model says nothing of others like it; the interval is over rows"
    return f"{models} draws say too little of others; a verdict wants {LEAST_DRAWS}"
