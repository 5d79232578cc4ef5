"""Does the map lie where the evidence is? Ways to ask that are read off one ranking of the pixels per map.

M is a map (larger = more evidence), G the set of its mask's pixels, evidence of all kinds alike, and N the number of
pixels. Pixels that are void are left out of all of them: whatever a map says there changes nothing. The docstring of
each metric is the definition on its card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..registry import register_metric
from . import chance
from .metric import Metric, Reading, Score, sentence
from .ranking import Ranking, dilate, nan_where_empty, nan_where_silent, share, tolerance

RankingScore = Callable[[Ranking], Tensor]
T = TypeVar("T", bound=Callable[..., Any])

EMPTY = "the mask is empty"
EMPTY_OR_CONSTANT = "the mask is empty or the map is constant"
SILENT = "undefined: it says nothing, and counts as chance"
LIKE_CHANCE = "scores exactly what chance does"
POSITIVE = f"if positive, it {LIKE_CHANCE}; zeros and negative values are {SILENT}"
RANKED = "read by rank: only the order of the values counts, whatever their sign"
SHIFTED = "the map is range-normalised: its minimum becomes 0, whatever its sign"
THRESHOLDED = "pixels of one value are above or below a threshold together"
SHARED = "tied pixels count by their share inside the mask"
VEBI = "Oramas, Wang, Tuytelaars: Visual Explanation by Interpretation, ICLR 2019 (protocol of the thresholds: ours)"
CLEVR = "Arras, Osman, Samek: CLEVR-XAI, Information Fusion 81 (2022) 14-40"
VOID = (
    "pixels that evidence covers in part, or changes without covering them, count for nothing: neither for the map nor "
    "for chance; with strict=true they count as the mask has them"
)
RANGE = "n_range(M) = (M - min) / (max - min) per map; a constant map becomes zeros"
ORACLE = "1: the mask taken as the map (a mask that covers the whole image is a constant map)"
COMMON = {"oracle": ORACLE, "resize": "none: maps are scored at the size of the masks"}


def register_localisation(
    name: str,
    score: Score,
    definition: str,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    unit: str = "share",
    higher_is_better: bool = True,
    constant: str,
    version: int = 2,
    further: dict[str, str],
    **card: Any,
) -> None:
    """Register a metric of the family `localisation`; by default a share that is best at 1.

    Args:
        constant: what a map of one value scores.
    """
    metric = Metric(
        name=name,
        family="localisation",
        score=score,
        unit=unit,
        bounds=bounds,
        higher_is_better=higher_is_better,
        definition=definition,
        further={**COMMON, **further, "constant": constant},
        version=version,
        **card,
    )
    register_metric(metric)


def register_ranking(
    name: str, *, constant: str, undefined: str = "", further: dict[str, str], **card: Any
) -> Callable[[T], T]:
    """Register what is read off a ranking, (B,) or (B, T), as a metric of this family; NaN for empty masks.

    A metric with options is the class of them, a frozen dataclass whose instances are called with a ranking.

    Args:
        constant: what a map of one value scores; if it is `SILENT`, rows with such a map get NaN.
    """
    undefined = undefined or (EMPTY_OR_CONSTANT if constant == SILENT else EMPTY)

    def file(read: T) -> T:
        silence = nan_where_silent if constant == SILENT else _nan_where_empty
        score = Reading(Ranking.of, read() if isinstance(read, type) else _with_choice(name, read, silence))
        about = {"void": VOID, **further}
        register_localisation(
            name, score, sentence(read), constant=constant, undefined=undefined, further=about, **card
        )
        return read

    return file


@dataclass(frozen=True)
class RimChoice:
    """The option of all localisation metrics: whether void pixels count as the mask has them (`strict`)."""

    strict: bool = False

    def choose(self, ranking: Ranking) -> Ranking:
        """The ranking of the pixels that count."""
        return ranking.strict if self.strict else ranking


def _nan_where_empty(values: Tensor, ranking: Ranking) -> Tensor:
    """Values (B,) or (B, T) in float32, with NaN in the rows whose mask is empty."""
    return nan_where_empty(values, ranking.size)


def _with_choice(name: str, read: RankingScore, silence: Callable[[Tensor, Ranking], Tensor]) -> RankingScore:
    """Give a score that option; it gives float32, with NaN in the rows that `silence` finds."""

    def score(options: RimChoice, ranking: Ranking) -> Tensor:
        ranking = options.choose(ranking)
        return silence(read(ranking), ranking)

    space = {"__call__": score, "__module__": __name__, "__doc__": sentence(read)}
    chosen: Any = type(f"Of_{name}", (RimChoice,), space)
    return chosen()


@register_ranking(
    "iou",
    constant=SILENT,
    version=3,
    chance=chance.iou,
    sign=SHIFTED,
    ties=THRESHOLDED,
    source=VEBI,
    further={
        "threshold": "0, 0.01, ..., 0.99, strictly above",
        "normalisation": RANGE,
        "quirks": "some write >= (a constant map then scores |G| / N), let a constant map score 0, or stop at the best "
        "threshold of each image",
    },
)
def _iou(ranking: Ranking) -> Tensor:
    """Mean over t = 0, 0.01, ..., 0.99 of the IoU of {n_range(M) > t} and G: the area under the IoU curve."""
    return ranking.iou.mean(1)


def best_threshold(curves: np.ndarray) -> np.ndarray:
    """The rows' values (n,) at the one threshold whose mean over the rows is largest: curves (n, T), NaN left out."""
    known = curves[~np.isnan(curves).all(1)]
    return curves[:, known.mean(0).argmax()] if len(known) else np.full(len(curves), np.nan)


@register_ranking(
    "iou_best",
    constant=SILENT,
    version=3,
    chance=chance.iou_curve,
    select=best_threshold,
    sign=SHIFTED,
    ties=THRESHOLDED,
    source=VEBI,
    further={
        "threshold": "one for the whole data set, of 0, 0.01, ..., 0.99, strictly above: a row alone has no value",
        "normalisation": RANGE,
        "quirks": "a best threshold per image, which needs the truth to be chosen, is another and larger number",
    },
)
def _iou_best(ranking: Ranking) -> Tensor:
    """IoU of {n_range(M) > t} and G at the one t with the largest mean over all rows of the data set."""
    return ranking.iou


@register_ranking(
    "iou_mean",
    constant=SILENT,
    version=3,
    chance=chance.iou_above_mean,
    sign="read as they are: negative values lower the mean",
    ties=THRESHOLDED,
    source="Zhang et al.: Opti-CAM, CVIU 2024, and Chefer, Gur, Wolf, CVPR 2021 (binarisation)",
    further={"threshold": "the map's mean, strictly above", "quirks": "TIBAV sums both areas over the data set first"},
)
def _iou_mean(ranking: Ranking) -> Tensor:
    """IoU of {M > mean of M} and G."""
    both, above = ranking.confusion
    return both / (above + ranking.size - both)


@register_ranking(
    "iou_area",
    constant="|G| / (2 N - |G|), a little less than chance",
    chance=chance.iou_same_area,
    sign=RANKED,
    ties=SHARED,
    source="equals A / (2 - A) of the relevance rank accuracy A; " + CLEVR,
    further={"threshold": "as many pixels as the mask has"},
)
def _iou_area(ranking: Ranking) -> Tensor:
    """IoU of the |G| largest pixels of M and G."""
    return ranking.top / (2 * ranking.size - ranking.top)


@register_ranking(
    "pointing",
    constant=LIKE_CHANCE,
    chance=chance.area,
    sign=RANKED,
    ties="the share of the tied maxima that lies inside the mask",
    source="Zhang et al.: Top-down Neural Attention by Excitation Backprop, IJCV 126 (2018), without tolerance",
    further={
        "quirks": "Quantus and the code of Opti-CAM count a hit when any tied maximum is inside: constant maps win"
    },
)
def _pointing(ranking: Ranking) -> Tensor:
    """Whether the largest pixel of M lies in G."""
    return share(ranking.peaks, ranking.masks)


@register_ranking(
    "pointing_tol",
    constant=LIKE_CHANCE,
    chance=chance.dilated_area,
    sign=RANKED,
    ties="the share of the tied maxima that lies within the tolerance",
    source="Zhang et al.: Top-down Neural Attention by Excitation Backprop, IJCV 126 (2018)",
    further={
        "threshold": "15 px at 500 px, scaled to the longer side; Euclidean, strictly below",
        "quirks": "TorchRay takes the first maximum in raster order, and smooths some maps first",
    },
)
def _pointing_tol(ranking: Ranking) -> Tensor:
    """Whether a pixel of G lies closer to the largest pixel of M than 3 % of the image's longer side."""
    return share(ranking.peaks, dilate(ranking.masks, tolerance(ranking.masks)))


@register_ranking(
    "energy_pointing",
    chance=chance.area,
    sign=SHIFTED,
    ties="none: every pixel counts by its value",
    constant=SILENT,
    source="Wang et al.: Score-CAM, CVPR workshops 2020",
    further={"normalisation": RANGE, "quirks": "the code of Opti-CAM reads boxes with rows and columns exchanged"},
)
def _energy_pointing(ranking: Ranking) -> Tensor:
    """Part of the sum of n_range(M) that lies in G."""
    inside, whole = ranking.mass
    return inside / whole


@register_ranking(
    "relevance_mass",
    constant=POSITIVE,
    chance=chance.area,
    sign="negative values count as 0",
    ties="none: every pixel counts by its value",
    undefined="the mask is empty or the map has no positive value",
    source=CLEVR,
    further={"quirks": "Quantus does not rectify: signed maps can leave [0, 1]"},
)
def _relevance_mass(ranking: Ranking) -> Tensor:
    """Part of the sum of max(M, 0) that lies in G."""
    return share(ranking.positive, ranking.masks)


@register_ranking(
    "relevance_rank",
    constant=LIKE_CHANCE,
    chance=chance.area,
    sign=RANKED,
    ties=SHARED,
    source=CLEVR,
    further={"quirks": "an argsort breaks ties by position: in a constant map the corner wins"},
)
def _relevance_rank(ranking: Ranking) -> Tensor:
    """Part of the |G| largest pixels of M that lies in G."""
    return ranking.top / ranking.size


@register_ranking(
    "auroc",
    constant=LIKE_CHANCE,
    chance=chance.half,
    sign=RANKED,
    ties="a tied pair counts half",
    undefined="the mask is empty or covers the whole image",
    source="Mann, Whitney, Ann. Math. Statist. 18 (1947) 50-60; Fawcett, Pattern Recognition Letters 27 (2006) 861-874",
    further={"quirks": "none known"},
)
def _auroc(ranking: Ranking) -> Tensor:
    """Probability that a random pixel of G is larger than a random pixel outside: the area under the ROC curve."""
    pairs = ranking.size * (ranking.pixels - ranking.size)
    return (1 + ranking.lead.double() / pairs) / 2
