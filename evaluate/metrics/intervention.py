"""Does a map say what the model does? Maps against causes: the same scene with one part of it changed.

M is a map (larger = more evidence). The effect of a part is the fall of the target's logit when that part, and nothing
else, is changed. The docstring of each metric is the definition on its card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from an8flower.names import check_known

from ..case import Truth
from ..registry import register_metric
from .interventions.effects import Interventions
from .interventions.swaps import Effects, measure_removals, measure_swaps
from .metric import Asking, Metric, Reading, Score, sentence

FUNNYBIRDS = "Hesse, Schaub-Meyer, Roth: FunnyBirds, ICCV 2023"
WAYS: dict[str, Callable[[Interventions], Effects]] = {"swap": measure_swaps, "remove": measure_removals}
RELEVANCE = ("sum", "mean")
SIGNED = "read as they are: negative values count against a part"
CHANGED = (
    "swap: parts that tell the row's class take the class factors of a class that differs in them and in as little "
    "else as any, a shortcut takes the near class's value, anything else that is left to chance is drawn again, mean "
    "of three draws; the background is one of the parts. remove: each part that is seen is taken away, the background "
    "left out"
)
REGION = "the pixels where the part is seen in the row; of a part that the row hides or lacks, those after the change"
MEASURED_TRUTH = "measured: the mask is a map of two values and knows no order of the parts beyond the evidence"


def register_intervention(name: str, score: Score, definition: str, further: dict[str, str], **card: Any) -> Metric:
    """Register a score as a metric of the family `intervention`."""
    about: dict[str, Any] = {"family": "intervention", "version": 1, **card}
    metric = Metric(name=name, score=score, definition=definition, further=further, **about)
    return register_metric(metric)


@dataclass(frozen=True)
class EffectCorrelation:
    """Spearman correlation, over the parts of a row, of a part's relevance (M over its pixels) and its effect."""

    by: str = "swap"  # how parts are changed: swap or remove
    relevance: str = "sum"  # sum or mean of M over the part's pixels

    def __post_init__(self) -> None:
        check_known("by", self.by, WAYS)
        check_known("relevance", self.relevance, RELEVANCE)

    def __call__(self, batch: Interventions) -> Tensor:
        """The correlation of each row, (B,) float32 in [-1, 1]."""
        effects = batch.compute_once(WAYS[self.by])
        relevance = effects.relevance(batch.maps, batch.parts)
        if self.relevance == "mean":
            relevance = relevance / effects.sizes(batch.maps)
        return spearman(relevance, effects.drops).float()


@dataclass(frozen=True)
class TopPart:
    """Whether the part with the largest mean of M over its pixels is the part with the largest effect."""

    by: str = "swap"  # how parts are changed: swap or remove

    def __post_init__(self) -> None:
        check_known("by", self.by, WAYS)

    def __call__(self, batch: Interventions) -> Tensor:
        """The share of each row's most relevant parts that have the largest effect, (B,) float32 in [0, 1]."""
        effects = batch.compute_once(WAYS[self.by])
        relevance = effects.relevance(batch.maps, batch.parts) / effects.sizes(batch.maps)
        return top_shared(relevance, effects.drops).float()


def spearman(values: Tensor, others: Tensor) -> Tensor:
    """The rank correlation of each row of values (B, P) with that of others (B, P), float64, ties at their mean rank.

    Parts that are NaN in `others` are left out; NaN with fewer than three parts, or where either does not vary.
    """
    known = ~others.isnan()
    first, second = centred_ranks(values, known), centred_ranks(others, known)
    scale = (first.square().sum(1) * second.square().sum(1)).sqrt()
    defined = (known.sum(1) >= 3) & (scale > 0)
    return ((first * second).sum(1) / scale).clamp(-1, 1).where(defined, torch.nan)


def centred_ranks(values: Tensor, known: Tensor) -> Tensor:
    """Ranks among the known of each row, less their mean: (B, P), (B, P) bool -> (B, P) float64; 0 where unknown."""
    larger = values[:, :, None] > values[:, None]
    smaller = values[:, :, None] < values[:, None]
    both = known[:, :, None] & known[:, None]
    return ((larger & both).sum(2) - (smaller & both).sum(2)).double() / 2


def top_shared(values: Tensor, others: Tensor) -> Tensor:
    """The share of the largest of values (B, P) that are largest in others (B, P) too: (B,) float64.

    Parts that are NaN in `others` are left out; NaN with fewer than two parts, or where `others` does not vary.
    """
    known = ~others.isnan()
    first, second = largest(values, known), largest(others, known)
    defined = (known.sum(1) >= 2) & (second != known).any(1)
    return ((first & second).sum(1) / first.sum(1).double()).where(defined, torch.nan)


def largest(values: Tensor, known: Tensor) -> Tensor:
    """Which of the known values (B, P) of each row are its largest, (B, P) bool."""
    values = values.where(known, -torch.inf)
    return known & (values == values.amax(1, keepdim=True))


register_intervention(
    "effect_correlation",
    Asking(Interventions, EffectCorrelation()),
    sentence(EffectCorrelation),
    unit="correlation",
    bounds=(-1.0, 1.0),
    higher_is_better=True,
    sign=SIGNED,
    ties="parts of equal relevance or equal effect share the mean of their ranks",
    undefined="fewer than three parts can be changed, or their relevance or their effects do not vary",
    source=f"{FUNNYBIRDS} (single deletion; there (r + 1) / 2 by removal); the swaps: ours",
    needs=("model", "parts", "renderer"),
    further={"oracle": MEASURED_TRUTH, "change": CHANGED, "region": REGION},
)
register_intervention(
    "top_part",
    Asking(Interventions, TopPart()),
    sentence(TopPart),
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign=SIGNED,
    ties="of the parts that share the largest relevance, the share that has the largest effect",
    undefined="fewer than two parts can be changed, or their effects do not vary",
    source="ours",
    needs=("model", "parts", "renderer"),
    further={
        "oracle": "measured: the share of rows in which the evidence has the largest effect on this model",
        "change": CHANGED,
        "region": REGION,
    },
)


@dataclass(frozen=True)
class Marked:
    """A batch of maps beside its evidence by absence."""

    maps: Tensor  # (B, H, W) float32
    absent: Tensor  # (B, H, W) bool

    @classmethod
    def of(cls, maps: Tensor, truth: Truth) -> Marked:
        """Maps (B, H, W) beside what the masks of the truth mark as evidence by absence."""
        counted = truth.counted
        return cls(maps.where(counted >= 0, 0), counted == 2)


def absent_area(masks: Tensor) -> Tensor:
    """exact: the share of the image that is evidence by absence"""
    area = (masks == 2).flatten(1).sum(1) / (masks >= 0).flatten(1).sum(1)
    return area.where(area > 0, torch.nan)


def absence_mass(marked: Marked) -> Tensor:
    """Part of the sum of max(M, 0) that lies on evidence by absence: where a part would be if it were there."""
    weights = marked.maps.clamp(min=0).flatten(1)
    shares = (weights * marked.absent.flatten(1)).sum(1, dtype=torch.float64) / weights.sum(1, dtype=torch.float64)
    return shares.float().where(marked.absent.flatten(1).any(1), torch.nan)


register_intervention(
    "absence_mass",
    Reading(Marked.of, absence_mass),
    sentence(absence_mass),
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign="negative values count as 0: absence speaks for the class, so what speaks against it is no credit",
    ties="none: every pixel counts by its value",
    undefined="the row has no evidence by absence, or the map has no positive value",
    source="ours, after the relevance mass of Arras, Osman, Samek, Information Fusion 81 (2022) 14-40",
    chance=absent_area,
    version=2,
    further={
        "oracle": "the share of the mask that is evidence by absence: the rest of it is seen",
        "void": "pixels that evidence covers in part, or changes without covering them, count for nothing",
        "quirks": "methods that move from a black or grey picture to the image see no absence",
    },
)
