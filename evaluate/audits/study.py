"""A picklable description of one data set of an audit, by which a worker process opens it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from an8flower.errors import Refusal

from ..models.sources import Source
from ..resources import Resources, settle_on
from ..scoring.run import Scoring, ScoringPlan
from .engines import here


@dataclass(frozen=True)
class StudyWords:
    """A picklable description of one data set of an audit: what to score on it, where to file, on which device."""

    plan: ScoringPlan  # methods as texts, and no models: each task names its model
    fingerprint: str  # of the data set, which `open` checks
    folder: str  # of the run
    device: str
    batch: int | None = None  # images in flight
    keep_maps: bool = False
    precision: str = "float32"  # or tf32: how a GPU multiplies
    sharers: int = 1  # processes that work on one GPU at once

    @property
    def resources(self) -> Resources:
        """The device of this process, and how many images are in flight there."""
        return Resources(settle_on(here.device(self.device), self.precision), self.batch, self.sharers)

    def open(self, *models: str | Source) -> Scoring:
        """Open the data set with some models; raises Refusal if its digest has changed."""
        plan = replace(self.plan, models=models)
        scoring = Scoring(plan, self.resources, Path(self.folder), keep_maps=self.keep_maps)
        if scoring.store.fingerprint != self.fingerprint:
            raise Refusal(
                f"{self.plan.data}: holds other data than when the audit began; "
                "put the data set back, or run the same command again"
            )
        return scoring
