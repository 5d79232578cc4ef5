"""Rows whose pictures carry a mark, and the same rows with the mark of another class, or with none.

Two kinds of data sets have such rows: photographs on which marks were planted, and rendered scenes with a shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from an8flower import interventions
from an8flower.errors import NotApplicable, Refusal
from an8flower.factors import PARTS, part_of
from an8flower.planted import NONE, REMAKE, Planting, exchange_marks, planting_of
from an8flower.splits import SPLITS
from an8flower.store import FlowerSplit

from .images import as_images
from .world import World


class MarkRegions(NamedTuple):
    """Where the marks of rows lie; a row without a mark has no pixel of either kind."""

    marked: np.ndarray  # (n, S, S) bool: pixels that show nothing but the mark
    void: np.ndarray  # (n, S, S) bool: pixels at its rim, which show both and count for nothing


class MarkedRows(Protocol):
    """The rows of a split, each with a mark of a class or without one."""

    @property
    def split(self) -> FlowerSplit:
        """The split that the rows belong to."""
        ...

    @property
    def name(self) -> str:
        """The mark in sentences: "the tag"."""
        ...

    @property
    def speaks_for(self) -> np.ndarray:
        """The class of each mark, (M,) int64."""
        ...

    @property
    def agreement(self) -> Mapping[str, float]:
        """The share of the rows of each split whose mark agrees with their class, as it was asked for."""
        ...

    def mark_numbers(self, indices: np.ndarray) -> np.ndarray:
        """The number of the mark that each row has, (n,) int64, -1 for none."""
        ...

    def regions(self, indices: np.ndarray) -> MarkRegions:
        """Where the marks of rows with sorted indices (n,) lie."""
        ...

    def photograph(self, indices: np.ndarray, numbers: np.ndarray) -> Tensor:
        """The pictures (n, 3, S, S) float32 in [0, 1] of rows with sorted indices and other marks (n,), -1 for none."""
        ...


def marked_rows(split: FlowerSplit, device: torch.device) -> MarkedRows:
    """The marked rows of a split; raises NotApplicable if its data have no marks that can be exchanged."""
    if planting := planting_of(split.store):
        return PlantedRows(split, device, planting)
    if split.store.spec is None:
        raise NotApplicable(
            f"{split.store.path}: has no marks that can be exchanged; plant some with `an8flower plant`"
        )
    return TaggedRows.of(World.of(split, device))


@dataclass(frozen=True)
class PlantedRows:
    """Photographs on which marks were planted."""

    split: FlowerSplit
    device: torch.device
    planting: Planting

    @property
    def name(self) -> str:
        """The mark in sentences."""
        return f"the {self.planting.mark}"

    @property
    def speaks_for(self) -> np.ndarray:
        """The class of each mark, (M,) int64."""
        return np.array(self.planting.speaks_for, np.int64)

    @property
    def agreement(self) -> Mapping[str, float]:
        """The share of the rows of each split whose mark agrees with their class."""
        return self.planting.agreement

    def mark_numbers(self, indices: np.ndarray) -> np.ndarray:
        """The number of the mark that each row has, (n,) int64, -1 for none."""
        numbers: np.ndarray = self.split.placed[indices, 0]
        if not ((numbers >= NONE) & (numbers < len(self.planting.marks))).all():
            raise Refusal(f"{self.split.store.path}: has marks of kinds that cannot be; {REMAKE}")
        return numbers

    def regions(self, indices: np.ndarray) -> MarkRegions:
        """Where the marks of rows with sorted indices (n,) lie."""
        rows = self.split.take(indices)
        void = rows.void
        assert void is not None, "planted files have coverage"
        return MarkRegions((rows.masks > 0) & ~void, void)

    def photograph(self, indices: np.ndarray, numbers: np.ndarray) -> Tensor:
        """The pictures (n, 3, S, S) float32 in [0, 1] of rows with sorted indices and other marks (n,), -1 for none."""
        rows = self.split.take(indices)
        return as_images(exchange_marks(rows, self.planting, numbers, self.split.store.path), self.device)


@dataclass(frozen=True)
class TaggedRows:
    """Rendered scenes whose shortcut is an attribute of a part: this part is the mark."""

    world: World
    part: str

    @classmethod
    def of(cls, world: World) -> TaggedRows:
        """The marked rows of a world; raises NotApplicable if no part's look tells each class by a shortcut."""
        shortcut, path = world.spec.shortcut, world.split.store.path
        if shortcut is None:
            raise NotApplicable(f"{path}: its spec has no shortcut, so no mark can be exchanged; give it one")
        part, _, attribute = shortcut.factor.partition(".")
        if part_of(shortcut.factor) is None or attribute == "count":
            raise NotApplicable(f"{path}: its shortcut {shortcut.factor} is no look of a part, so it has no region")
        if len(set(shortcut.values)) < len(shortcut.values):
            raise NotApplicable(f"{path}: two classes share a value of {shortcut.factor}, so none speaks for one class")
        return cls(world, part)

    @property
    def split(self) -> FlowerSplit:
        """The split that the rows belong to."""
        return self.world.split

    @property
    def name(self) -> str:
        """The mark in sentences."""
        return f"the {self.part}"

    @property
    def speaks_for(self) -> np.ndarray:
        """The class of each mark, (M,) int64."""
        return np.arange(self.world.spec.class_count)

    @property
    def agreement(self) -> Mapping[str, float]:
        """The share of the rows of each split whose shortcut agrees with their class."""
        shortcut = self.world.spec.shortcut
        assert shortcut is not None, "refused before"
        return {split: getattr(shortcut, split) for split in SPLITS}

    def mark_numbers(self, indices: np.ndarray) -> np.ndarray:
        """The number of the mark that each row has, (n,) int64, -1 for none."""
        spec, table = self.world.spec, self.world.factors(torch.from_numpy(indices))
        return np.where(
            interventions.shows_shortcut(spec, table), (~interventions.shortcut_apart(spec, table)).argmax(1), NONE
        )

    def regions(self, indices: np.ndarray) -> MarkRegions:
        """Where the marks of rows with sorted indices (n,) lie; pixels on either side of the rim are void."""
        parts = self.split.take(indices).parts
        assert parts is not None, "rendered files have part maps"
        within = parts == PARTS.index(self.part)
        inner, outer = ~_grow(~within), _grow(within)
        return MarkRegions(inner, outer & ~inner)

    def photograph(self, indices: np.ndarray, numbers: np.ndarray) -> Tensor:
        """The pictures (n, 3, S, S) float32 in [0, 1] of rows with sorted indices and other marks (n,), -1 for none."""
        spec, table = self.world.spec, self.world.factors(torch.from_numpy(indices))
        changed = interventions.with_shortcut(spec, table, np.maximum(numbers, 0))
        bare = numbers == NONE
        changed[bare] = interventions.without(table, self.part)[bare]
        return self.world.photograph(changed).images


def _grow(regions: np.ndarray) -> np.ndarray:
    """Regions (n, S, S) bool with the pixels beside them; what lies beyond the picture is beside nothing."""
    grown = regions.copy()
    grown[:, 1:] |= regions[:, :-1]
    grown[:, :-1] |= regions[:, 1:]
    grown[:, :, 1:] |= regions[:, :, :-1]
    grown[:, :, :-1] |= regions[:, :, 1:]
    return grown
