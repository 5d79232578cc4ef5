"""Does a map order pixels as the model uses them? Maps against the effect map, the truth of the model itself.

M is a map, E the effect map (see `interventions/effect_map.py`): what each pixel adds to the gap between the class and
the other ones on the way from the same scene as another class. G is the evidence mask. That a map finds the designed
evidence is another question; localisation metrics answer it. The docstring of each metric is the definition on its
card.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..case import Case
from ..registry import register_metric
from .interventions.effect_map import BOUND, BUDGET, MOST_TWINS, WHY_UNDEFINED, effects_of
from .interventions.region_effects import rank_correlation
from .localisation import EMPTY, LIKE_CHANCE, SILENT
from .metric import Asking, Metric, sentence

NO_ORDER, NO_EFFECT = "the map does not vary inside the mask", "nothing has a positive effect"
NO_MASS = "the map has no positive value"


@dataclass(frozen=True, eq=False)
class UsedPixels:
    """A batch of maps beside its effect maps."""

    maps: Tensor  # (B, H, W) float32
    case: Case
    _effects: dict[int, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def effects(self, points: int) -> list[np.ndarray]:
        """The effect map (N,) float64 of each row, NaN where it is undefined."""
        if points not in self._effects:
            maps = effects_of(self.case, points or None).maps
            self._effects[points] = list(maps.flatten(1).double().cpu().numpy())
        return self._effects[points]

    def flat(self) -> np.ndarray:
        """The maps, (B, N) float64."""
        return self.maps.flatten(1).double().cpu().numpy()

    def masks(self) -> np.ndarray:
        """The pixels of the evidence, (B, N) bool."""
        return (self.case.truth.masks > 0).flatten(1).cpu().numpy()

    def score(self, points: int, score_row: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Tensor:
        """Score each row: (map (N,), effect map (N,), mask (N,)) -> float; (B,) float32, NaN without an effect map."""
        rows = zip(self.flat(), self.effects(points), self.masks(), strict=True)
        scores = [float("nan") if np.isnan(row[1]).any() else score_row(*row) for row in rows]
        return torch.tensor(scores, dtype=torch.float32, device=self.maps.device)


@dataclass(frozen=True)
class EffectScore(ABC):
    """What the scores of this family share: how finely the effect map is measured."""

    points: int = 0  # of the path from each other class; 0: as many as fit into the budget. A transformer wants 20

    def __post_init__(self) -> None:
        if self.points < 0:
            raise WrongUsage(f"points: came {self.points}; expected at least 1, or 0 for as many as fit")

    @abstractmethod
    def __call__(self, batch: UsedPixels) -> Tensor: ...

    @abstractmethod
    def lacking(self, values: np.ndarray, effects: np.ndarray) -> str:
        """Why a map (N,) has no value beside an effect map (N,) that is there, and a mask that is not empty."""

    def why_undefined(self, batch: UsedPixels) -> list[str]:
        """Why each row would have no value: for want of an effect map, of a mask, or for what the metric lacks."""
        rows = zip(batch.flat(), batch.effects(self.points), batch.masks(), strict=True)
        return [
            WHY_UNDEFINED if np.isnan(effects).any() else self.lacking(values, effects) if mask.any() else EMPTY
            for values, effects, mask in rows
        ]

    def ideal_maps(self, case: Case) -> Tensor:
        """The maps (B, H, W) that know what the model uses: the effect maps, zeros where there is none."""
        return effects_of(case, self.points or None).maps.nan_to_num(0)


class EffectRank(EffectScore):
    """Spearman correlation of M and E over the pixels of G: does the map order the evidence as the model uses it?"""

    def __call__(self, batch: UsedPixels) -> Tensor:
        """The correlation of each row, (B,) float32 in [-1, 1]."""
        return batch.score(self.points, lambda maps, effects, mask: rank_correlation(maps[mask], effects[mask]))

    def lacking(self, values: np.ndarray, effects: np.ndarray) -> str:
        """The map orders nothing, (N,) each."""
        return NO_ORDER


class EffectShare(EffectScore):
    """Part of the sum of max(E, 0) that lies on the |G| pixels with the largest M, wherever they are."""

    def __call__(self, batch: UsedPixels) -> Tensor:
        """The share of each row, (B,) float32 in [0, 1]."""
        return batch.score(self.points, share_of_top)

    def lacking(self, values: np.ndarray, effects: np.ndarray) -> str:
        """No pixel has a positive effect, (N,) each."""
        return NO_EFFECT


class EffectMass(EffectScore):
    """Sum over all pixels of min(m, e), where m is max(M, 0) and e is max(E, 0), each divided by its sum.

    It is 1 where the map gives each pixel the share of its mass that the model gives it, and falls by what lies wrong.
    """

    def __call__(self, batch: UsedPixels) -> Tensor:
        """The common mass of each row, (B,) float32 in [0, 1]."""
        return batch.score(self.points, common_mass)

    def lacking(self, values: np.ndarray, effects: np.ndarray) -> str:
        """No pixel has a positive effect, or none a positive value, (N,) each."""
        return NO_MASS if (effects > 0).any() else NO_EFFECT


def share_of_top(values: np.ndarray, effects: np.ndarray, mask: np.ndarray) -> float:
    """The share of positive effect on the |G| largest values, (N,) each; pixels tied at the cut count by share."""
    positive, count = effects.clip(min=0), int(mask.sum())
    if not count or not positive.sum():
        return float("nan")
    cut = np.partition(values, len(values) - count)[len(values) - count]
    above, tied = values > cut, values == cut
    rest = (count - above.sum()) / tied.sum()
    return float((positive[above].sum() + rest * positive[tied].sum()) / positive.sum())


def common_mass(values: np.ndarray, effects: np.ndarray, mask: np.ndarray) -> float:
    """The mass that two maps (N,) have in common, each of sum 1 over its positive values; NaN if either has none."""
    first, second = values.clip(min=0), effects.clip(min=0)
    if not first.sum() or not second.sum():
        return float("nan")
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def no_correlation(masks: Tensor) -> Tensor:
    """exact: 0, as noise has no order"""
    size = (masks > 0).flatten(1).sum(1)
    return torch.zeros(len(masks), device=masks.device).where(size > 1, torch.nan)


def mask_area(masks: Tensor) -> Tensor:
    """exact: |G| / N, the share of the image that the evidence covers"""
    area = (masks > 0).flatten(1).float().mean(1)
    return area.where(area > 0, torch.nan)


def register_effect(score: EffectScore, name: str, **card: Any) -> Metric:
    """Register a score as a metric of the family `effect`."""
    about: dict[str, Any] = {"family": "effect", "higher_is_better": True, **card}
    about["further"] = {"reference": REFERENCE, **about["further"]}
    about["needs"] = ("model", "renderer")
    return register_metric(
        Metric(name=name, score=Asking(UsedPixels, score, once_for_all=True), definition=sentence(type(score)), **about)
    )


REFERENCE = (
    f"the effect map: the gradient of the target's logit less another class's, integrated from the same scene as that "
    f"class to the scene, through scenes rendered with colours in between (where classes differ in more than colours, "
    f"through blends); the mean over the other classes, {MOST_TWINS} at most, with {BUDGET} passes forwards and "
    f"backwards a row; a row whose map misses its sum by more than {BOUND:g} of the gaps has none"
)
register_effect(
    EffectRank(),
    "effect_rank",
    unit="correlation",
    bounds=(-1.0, 1.0),
    sign="read by rank: only the order of the values counts, and negative effects come last",
    ties="pixels of equal value share the mean of their ranks",
    undefined=f"{NO_ORDER}, or {WHY_UNDEFINED}",
    source="ours",
    chance=no_correlation,
    version=2,
    further={"oracle": "1: the effect map itself; the mask has none, as it does not vary inside", "constant": SILENT},
)
register_effect(
    EffectShare(),
    "effect_share",
    unit="share",
    bounds=(0.0, 1.0),
    sign="read by rank in the map; negative effects count as 0",
    ties="tied pixels at the cut count by their share",
    undefined=f"{EMPTY}, {NO_EFFECT}, or {WHY_UNDEFINED}",
    source="ours",
    chance=mask_area,
    version=1,
    further={
        "oracle": "the share that the |G| largest effects hold: the most that any map can reach",
        "constant": LIKE_CHANCE,
    },
)
register_effect(
    EffectMass(),
    "effect_mass",
    unit="share",
    bounds=(0.0, 1.0),
    sign="negative values and negative effects count as 0",
    ties="none: every pixel counts by its value",
    undefined=f"{NO_MASS}, {NO_EFFECT}, or {WHY_UNDEFINED}",
    source="ours; the intersection of histograms is Swain and Ballard's, IJCV 7 (1991) 11-32",
    version=2,
    further={
        "oracle": "1: the effect map itself",
        "constant": f"if positive, its mass is even, which is close to chance; zeros and negative values are {SILENT}",
    },
)
