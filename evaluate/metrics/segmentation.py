"""Is the map a good segmentation of the evidence? Pixels are told apart by a threshold, or taken by their values.

Foreground is G, the pixels of the mask; background is all the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from an8flower.names import check_known

from ..maps import normalise_range
from . import chance
from .localisation import RANGE, RANKED, SHIFTED, SILENT, THRESHOLDED, RimChoice, register_ranking
from .ranking import Ranking, nan_where_empty, nan_where_silent

BINS = 256
TIBAV = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"
BY_MEAN = "read as they are: negative values lower the mean"
CUT = "the map's mean, strictly above"


@register_ranking(
    "iou_otsu",
    constant=SILENT,
    version=3,
    sign="only differences of values count, whatever their sign",
    ties=THRESHOLDED,
    source="Otsu: A Threshold Selection Method from Gray-Level Histograms, IEEE Trans. SMC 9 (1979) 62-66",
    further={
        "threshold": f"Otsu's, of a histogram of {BINS} bins from the map's minimum to its maximum, strictly above",
        "quirks": "none known; the threshold is that of scikit-image",
    },
)
def _iou_otsu(ranking: Ranking) -> Tensor:
    """IoU of {M > t} and G at the threshold t that parts the values of M best, their variance within being least."""
    cuts = round_down(otsu(ranking))
    return ranking.iou_from(ranking.first(cuts[:, None], beyond=True))[:, 0]


def otsu(ranking: Ranking) -> Tensor:
    """Otsu's threshold of each map, (B,) float64: the centre of a bin; the value itself of a constant map.

    Not scikit-image's `threshold_otsu`, which takes 17 times as long: the values are sorted already, for all metrics.
    """
    edges = _edges(ranking)
    # float32 values are below an edge when they are below the next float32 at or above it
    inner = ranking.first(round_up(edges[:, 1:-1]), beyond=False)
    before = F.pad(inner, (1, 0))
    counts = torch.diff(torch.cat([before, ranking.pixels[:, None]], 1), dim=1).double()
    centres = (edges[:, :-1] + edges[:, 1:]) / 2
    return centres.gather(1, _between(counts, centres).argmax(1, keepdim=True))[:, 0]


def _edges(ranking: Ranking) -> Tensor:
    """The ends of the bins (B, BINS + 1) float64 of the values of maps."""
    low, high = ranking.values[:, :1].double(), ranking.highest.double()
    steps = torch.arange(BINS, device=low.device) * ((high - low) / BINS) + low
    return torch.cat([steps, high], 1)


def _between(counts: Tensor, centres: Tensor) -> Tensor:
    """Variance between two classes, parted after each bin but the last: histograms (B, K) -> (B, K - 1)."""
    sums = counts * centres
    lower, lower_sum = counts.cumsum(1)[:, :-1], sums.cumsum(1)[:, :-1]
    upper, upper_sum = (histogram.flip(1).cumsum(1).flip(1)[:, 1:] for histogram in (counts, sums))
    return lower * upper * (lower_sum / lower - upper_sum / upper) ** 2


def round_up(values: Tensor) -> Tensor:
    """Round each float64 up to the smallest float32 that is not below it."""
    rounded = values.float()
    return torch.where(rounded < values, rounded.nextafter(torch.full_like(rounded, torch.inf)), rounded)


def round_down(values: Tensor) -> Tensor:
    """Round each float64 down to the largest float32 that is not above it."""
    return -round_up(-values)


@register_ranking(
    "f1",
    constant=SILENT,
    version=3,
    chance=chance.soft_f1,
    sign=SHIFTED,
    ties="none: every pixel counts by its value",
    source="Zhang et al.: Opti-CAM, CVIU 2024 (pixel-wise F1)",
    further={
        "normalisation": RANGE,
        "quirks": "the code of Opti-CAM takes the best of an image's boxes for the truth, not their union",
    },
)
def _f1(ranking: Ranking) -> Tensor:
    """2 P R / (P + R), where P is the part of the sum of n_range(M) that lies in G, and R its mean over G."""
    inside, whole = ranking.mass
    span = ranking.shifted.flatten(1).amax(1).double()
    return 2 * inside / (whole + span * ranking.size)


@register_ranking(
    "pixel_accuracy",
    constant=SILENT,
    version=3,
    chance=chance.even,
    sign=BY_MEAN,
    ties=THRESHOLDED,
    source=TIBAV,
    further={"threshold": CUT, "quirks": "none known: images of one size have the same mean over pixels and images"},
)
def _pixel_accuracy(ranking: Ranking) -> Tensor:
    """Part of the pixels that {M > mean of M} and G agree on."""
    both, above = ranking.confusion
    return 1 - (above + ranking.size - 2 * both).double() / ranking.pixels


@register_ranking(
    "miou",
    constant=SILENT,
    version=3,
    chance=chance.miou,
    sign=BY_MEAN,
    ties=THRESHOLDED,
    source=TIBAV + " (there summed over the data set first: miou_pooled)",
    further={"threshold": CUT, "quirks": "none known"},
)
def _miou(ranking: Ranking) -> Tensor:
    """Mean of the IoU of {M > mean of M} and G and that of the two backgrounds."""
    areas = _areas(ranking)
    return (areas[:, 0] / areas[:, 1] + areas[:, 2] / areas[:, 3]) / 2


def _areas(ranking: Ranking) -> Tensor:
    """Intersection and union of the foregrounds, then of the backgrounds: (B, 4) float64, in pixels."""
    both, above = ranking.confusion
    either = above + ranking.size - both
    return torch.stack([both, either, ranking.pixels - either, ranking.pixels - both], 1).double()


def pooled_iou(areas: np.ndarray) -> np.ndarray:
    """Values of rows (n,) whose mean is the mIoU of all their areas together: (n, 4), NaN left out.

    A sum of intersections over a sum of unions, R = I / U, is not a mean over rows. R + (i - R u) / mean(u) is what a
    row with intersection i and union u does to it, to first order: the mean of that is R, and its spread that of R.
    Source: Cochran: Sampling Techniques (1977), section 6.
    """
    areas = areas.astype(np.float64)
    values = np.zeros(len(areas))
    for both, either in (areas[:, :2].T, areas[:, 2:].T):
        known_rows = ~np.isnan(either)
        mean = either[known_rows].mean() if known_rows.any() else np.nan
        ratio = both[known_rows].mean() / mean if known_rows.any() else np.nan
        values += ratio + (both - ratio * either) / mean
    return values / 2


@register_ranking(
    "miou_pooled",
    constant=SILENT,
    version=3,
    chance=chance.areas,
    select=pooled_iou,
    sign=BY_MEAN,
    ties=THRESHOLDED,
    source=TIBAV,
    further={
        "threshold": CUT,
        "quirks": "none known: the sums run over the data set, so that a row alone has no value",
    },
)
def _miou_pooled(ranking: Ranking) -> Tensor:
    """Mean over foreground and background of sum of intersections / sum of unions, summed over all rows of the data
    set, of {M > mean of M} and G."""
    return _areas(ranking)


@register_ranking(
    "average_precision",
    constant="|G| / N, less than chance by up to (1 + ln N) / N; with classes=both undefined, and counts as chance",
    undefined="the mask is empty or, with classes=both, the map is constant",
    version=3,
    chance=chance.average_precision,
    sign=RANKED,
    ties="tied pixels are found together",
    source="Manning, Raghavan, Schütze: Introduction to Information Retrieval (2008), section 8.4; as in scikit-learn",
    further={"quirks": "classes=both ranks the pixels of n_range(M) and of 1 - n_range(M) together, as TIBAV does"},
)
@dataclass(frozen=True)
class AveragePrecision(RimChoice):
    """Mean over the pixels of G of the share of G among the pixels of M that are as large or larger."""

    classes: str = "foreground"

    def __post_init__(self) -> None:
        check_known("classes", self.classes, ("foreground", "both"))

    def __call__(self, ranking: Ranking) -> Tensor:
        ranking = self.choose(ranking)
        if self.classes == "both":
            return nan_where_silent(_precision(_both_classes(ranking)), ranking)
        return nan_where_empty(_precision(ranking), ranking.size)


def _precision(ranking: Ranking) -> Tensor:
    """The average precision of each row, (B,) float64."""
    hits = ranking.size[:, None] - ranking.below.gather(1, ranking.smaller)
    above = (ranking.pixels[:, None] - ranking.smaller).clamp(min=1)  # void pixels, behind all others, are no hits
    return (ranking.hits * hits / above.double()).sum(1) / ranking.size


def _both_classes(ranking: Ranking) -> Ranking:
    """Maps and masks of foreground and background side by side."""
    ranged = normalise_range(ranking.maps)
    void = None if ranking.void is None else torch.cat([ranking.void] * 2, 2)
    return Ranking.counting(torch.cat([ranged, 1 - ranged], 2), torch.cat([ranking.masks, ~ranking.masks], 2), void)
