"""One data set of an audit in words that travel: what a worker has to know to open it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from an8flower.errors import Refusal

from ..explaining.methods import parse_method
from ..resources import Resources, device_named
from ..scoring.judge import Target
from ..scoring.run import Scoring, ScoringPlan
from .engines import here


class Study(NamedTuple):
    """One data set of an audit in words that travel: what a worker has to know to open it."""

    data: str  # the HDF5 file
    digest: str  # of the data set that is meant
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    split: str
    rows: int | None
    target: Target
    seed: int
    folder: str  # of the run
    device: str
    batch: int | None
    keep_maps: bool = False

    def plan(self, *models: str) -> ScoringPlan:
        """What is scored, of some models."""
        methods = tuple(map(parse_method, self.methods))
        return ScoringPlan(
            Path(self.data), models, methods, self.metrics, self.split, self.rows, self.target, self.seed
        )

    @property
    def resources(self) -> Resources:
        """Where and in what portions it is done."""
        return Resources(device_named(here.device(self.device)), self.batch)

    def open(self, *models: str) -> Scoring:
        """Data and models; raises Refusal where other data lie there than were meant."""
        opened = Scoring(self.plan(*models), self.resources, Path(self.folder), keep_maps=self.keep_maps)
        if opened.store.digest != self.digest:
            raise Refusal(
                f"{self.data}: holds other data than when the audit began; "
                "put the data set back, or run the same command again"
            )
        return opened
