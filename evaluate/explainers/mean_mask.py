"""The mean mask of the training split as the map of every picture: where the evidence is on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage

from ..case import Query
from ..models.classifier import Classifier
from ..registry import explainers
from .baselines import CONTROL
from .fittable import Examples, Fittable, Learnt


@explainers.register("mean_mask", **CONTROL | {"needs": "masks of a training split"})
@dataclass(frozen=True)
class MeanMask(Fittable):
    """The share of training masks that cover each pixel, the same map for every picture: it sees no model.

    A map has to beat it to say more than where the evidence usually lies.
    """

    asks_model: ClassVar[bool] = False
    rows: int = 2000  # training masks at most, spread over the classes

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise WrongUsage(f"mean_mask: rows is {self.rows}; expected at least 1")

    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        """Learn the mean of training masks, {"mean": (S, S) float32 in [0, 1]}.

        Raises:
            NotApplicable: there is no training split, there are no masks, or all masks are empty.
        """
        total, count = torch.zeros(()), 0
        for masks in examples.take_masks(self.rows, classifier.in_flight):
            total, count = total + (masks > 0).sum(0).cpu(), count + len(masks)
        if not total.any():
            raise NotApplicable("mean_mask: no training mask marks any evidence; leave the method out")
        return {"mean": (total / count).float()}

    def explain(self, classifier: Classifier, query: Query, learnt: Learnt) -> Tensor:
        """Explain every picture by the mean mask, maps (B, S, S) in [0, 1]."""
        return learnt["mean"].to(query.images.device).repeat(len(query.images), 1, 1)
