"""What a sanity check is given, and what it yields; the checks themselves are the modules of `checks`."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from an8flower.store import FlowerSplit

from ...case import Query
from ...models.classifier import Classifier
from ...resources import Resources
from ...results.checks import CHECKS
from .mprt import Explain, FullRandomisation, Likeness, Point, Randomisation, compare_fully
from .plan import SanityPlan
from .similarity import ComparedMaps, similarities


@dataclass(frozen=True)
class Setting:
    """What all methods on one model share: the model, the rows, and its parameters drawn anew."""

    classifier: Classifier
    split: FlowerSplit
    plan: SanityPlan
    seed: int
    resources: Resources
    folder: Path  # where models that a check trains lie
    query: Query  # the rows
    random: Randomisation


@dataclass(frozen=True)
class Subject:
    """One method on one model: its maps of the trained model, and of the random ones when a check asks for them."""

    explain: Explain
    query: Query
    maps: Tensor  # (N, H, W) of the trained model
    random: Randomisation  # which notes the maps that it makes
    quiet: Randomisation  # the same, but no maps are noted

    @cached_property
    def original(self) -> ComparedMaps:
        """The maps of the trained model, ready to be compared."""
        return ComparedMaps(self.maps)

    @cached_property
    def _redrawn(self) -> dict[frozenset[str], Tensor]:
        """The maps at all stops of the walks, the end included: made together, so that each draw is taken up once."""
        stops = self.random.stops
        maps = self.random.explain_all(self.explain, self.query, list(stops.values()))
        return dict(zip(stops, maps, strict=True))

    @cached_property
    def full(self) -> FullRandomisation:
        """What becomes of the maps where all parameters are drawn anew."""
        return compare_fully(self.original, ComparedMaps(self._redrawn[frozenset(self.random.everything)]))

    @cached_property
    def walks(self) -> dict[str, list[Point]]:
        """What becomes of the maps on both walks down the network."""
        end = frozenset(self.random.everything)
        known = {end: self.full.likeness} | {
            parameters: similarities(self.original, ComparedMaps(maps))
            for parameters, maps in self._redrawn.items()
            if parameters != end
        }
        return self.random.place(known)


@dataclass(frozen=True)
class Findings:
    """What a check yields: what becomes verdicts, scores and curves, by their keys in documents."""

    verdicts: Mapping[str, Likeness] = field(default_factory=dict)
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)  # (N,) or (N, steps) each
    curves: Mapping[str, list[Point]] = field(default_factory=dict)
    single: Mapping[str, Likeness] = field(default_factory=dict)  # as verdicts, where one model serves all rows


def merge(findings: Iterable[Findings]) -> Findings:
    """Put the findings of several checks together."""
    verdicts: dict[str, Likeness] = {}
    scores: dict[str, np.ndarray] = {}
    curves: dict[str, list[Point]] = {}
    single: dict[str, Likeness] = {}
    for yielded in findings:
        verdicts |= yielded.verdicts
        scores |= yielded.scores
        curves |= yielded.curves
        single |= yielded.single
    return Findings(verdicts, scores, curves, single)


class CheckOfModel(ABC):
    """A sanity check of one model, made ready once for all methods."""

    def __init__(self, setting: Setting, value: Any) -> None:
        self.setting, self.value = setting, value  # the value that the plan has for the check's key

    @abstractmethod
    def examine(self, subject: Subject) -> Findings:
        """What the check finds of one method; nothing where it was not asked for."""

    def describe_plan(self) -> dict[str, Any]:
        """The keys that the check adds to the plan of the document."""
        return {}

    def describe_model(self) -> dict[str, Any]:
        """What the check adds to the document of the model."""
        return {}


AnyCheck = TypeVar("AnyCheck", bound=type[CheckOfModel])
IMPLEMENTED: dict[str, type[CheckOfModel]] = {}


def implements(key: str) -> Callable[[AnyCheck], AnyCheck]:
    """Class decorator: say which check of `results.checks.CHECKS` a class carries out."""

    def file(check: AnyCheck) -> AnyCheck:
        IMPLEMENTED[key] = check
        return check

    return file


def checks_of(setting: Setting) -> list[CheckOfModel]:
    """Every check, ready for a model, in the order of their table."""
    load_checks()
    return [IMPLEMENTED[key](setting, setting.plan.value_of(key)) for key in CHECKS]


def load_checks() -> None:
    """Import every module of the folder `checks`, which says there which check it carries out."""
    package = importlib.import_module(".checks", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def over_steps(points: list[Point]) -> np.ndarray:
    """The Spearman correlations of absolute maps, (N, steps): a row counts by the mean of those that are defined."""
    return np.stack([point.likeness["spearman_abs"] for point in points], 1)
