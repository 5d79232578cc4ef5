"""The prototypes of a model judged on rows with exact parts: every measure, for each prototype and for the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import NotApplicable
from an8flower.store import FlowerSplit

from ...data.world import World
from ...models.classifier import Classifier
from ...results.prototype_cards import PUBLISHED
from ...results.prototype_results import Box
from . import changes, measures
from .locating import (
    Locations,
    locate_prototypes,
    network_of,
    read_images,
    strongest_rows,
    weighted_prototypes,
)
from .measures import STRONGEST, UNDEFINED, MeasuredPrototype
from .parts import NOWHERE, PartMaps

SIDE = 224  # px, of the images for which the published boxes are
PURITY_SIDE, CONSISTENCY_HALF = 32, 36  # px, of these: the side of a patch, and half that of a box


class Situation(NamedTuple):
    """Where prototypes are found in some pictures, and the parts of these pictures."""

    where: Locations
    maps: PartMaps


@dataclass(frozen=True)
class PrototypeJudge:
    """The prototypes of a classifier, and the rows by which they are judged.

    Everything is computed once, when it is first asked for. Numbers depend on rows and seed, and not on `batch`.
    """

    classifier: Classifier
    split: FlowerSplit
    rows: np.ndarray  # (n,) int64, sorted, n > 0
    world: World | None  # None if nothing can be rendered again
    seed: int = 0
    batch: int = 16
    strongest: int = STRONGEST
    published: bool = False

    @cached_property
    def numbers(self) -> np.ndarray:
        """The network's prototypes that have a weight, (K,) int64."""
        return weighted_prototypes(network_of(self.classifier))

    @cached_property
    def weights(self) -> np.ndarray:
        """What these prototypes add to each class, (C, K) float64."""
        weights = network_of(self.classifier).weights.detach().cpu().double().numpy()
        return np.asarray(weights[:, self.numbers])

    @cached_property
    def classes(self) -> np.ndarray:
        """The class of each prototype, for which it has the largest weight: (K,) int64."""
        return np.asarray(self.weights.argmax(0))

    @cached_property
    def labels(self) -> np.ndarray:
        """The labels of the rows, (n,) int64."""
        return np.asarray(self.split.labels[self.rows])

    @property
    def size(self) -> int:
        """The side of the images in pixels."""
        return self.split.store.size

    @cached_property
    def members(self) -> list[np.ndarray]:
        """The places of the rows of each prototype's class."""
        by_class = [np.flatnonzero(self.labels == label) for label in range(len(self.weights))]
        return [by_class[label] for label in self.classes]

    def read(self) -> Iterator[Tensor]:
        """The images of the rows, in batches."""
        return read_images(self.split, self.rows, self.batch, self.classifier.device)

    @cached_property
    def usual(self) -> Situation:
        """The rows as they are."""
        where = locate_prototypes(
            self.classifier, self.read(), self.numbers, with_logits=True, with_peaks=self.published
        )
        return Situation(where, self._part_maps(self.rows, where.grid))

    @cached_property
    def noisy(self) -> Locations:
        """Where prototypes are found in the rows with noise."""
        portions = [self.rows[start : start + self.batch] for start in range(0, len(self.rows), self.batch)]
        add = partial(changes.add_noise, self.classifier, seed=self.seed)
        images = (add(images, rows) for images, rows in zip(self.read(), portions, strict=True))
        return locate_prototypes(self.classifier, images, self.numbers, with_peaks=self.published)

    @cached_property
    def redrawn(self) -> Situation | None:
        """The rows with all that is left to chance drawn again; None if nothing can be rendered."""
        if self.world is None:
            return None
        table = changes.redraw_nuisance(self.world, self.rows, self.seed)
        parts: list[np.ndarray] = []

        def photograph(world: World) -> Iterator[Tensor]:
            for start in range(0, len(table), self.batch):
                photographs = world.photograph(table[start : start + self.batch])
                parts.append(photographs.parts.cpu().numpy())
                yield photographs.images

        where = locate_prototypes(self.classifier, photograph(self.world), self.numbers)
        return Situation(where, PartMaps(np.concatenate(parts), where.grid))

    def _part_maps(self, rows: np.ndarray, grid: tuple[int, int]) -> PartMaps:
        parts = self.split.take(rows).parts
        if parts is None:
            raise NotApplicable(f"{self.split.store.path}: has no part maps, by which prototypes are judged")
        return PartMaps(parts, grid)

    # The measures: for each a value of every prototype.

    def measure(self) -> dict[str, list[MeasuredPrototype]]:
        """The measures of all prototypes by name, a list in the order of `numbers` each."""
        where, maps = self.usual
        count = range(len(self.numbers))
        under = maps.parts_under(where.cells, where.is_found)
        noisy = maps.parts_under(self.noisy.cells, self.noisy.is_found)
        values = {
            "purity": [measures.purity(where, maps, k, self.strongest) for k in count],
            "on_object": [measures.on_object(where, maps, k, self.strongest) for k in count],
            "same_part": [self._over_class(measures.same_part, k, under[:, k]) for k in count],
            "consistency": [self._over_class(measures.consistency, k, under[:, k]) for k in count],
            "stability": [self._compare(k, under, noisy, maps) for k in count],
            "redraw_stability": self._redraw_stability(under),
            "misalignment": self._misalignment(),
        }
        return {**values, **(self._measure_as_published() if self.published else {})}

    def _over_class(
        self, measure: Callable[[np.ndarray, np.ndarray], MeasuredPrototype], k: int, under: np.ndarray
    ) -> MeasuredPrototype:
        """A measure of the parts under the maximum (n,) over the rows of a prototype's class."""
        return measure(under[self.members[k]], self.usual.maps.frequencies[self.members[k]])

    def _compare(self, k: int, before: np.ndarray, after: np.ndarray, maps: PartMaps) -> MeasuredPrototype:
        """The stability of a prototype over the rows of its class, from parts (n, K); the maps are those after."""
        rows = self.members[k]
        frequencies = self.usual.maps.frequencies[rows], maps.frequencies[rows]
        return measures.stability(before[rows, k], after[rows, k], *frequencies)

    def _redraw_stability(self, under: np.ndarray) -> list[MeasuredPrototype]:
        if self.redrawn is None:
            return [UNDEFINED] * len(self.numbers)
        where, maps = self.redrawn
        after = maps.parts_under(where.cells, where.is_found)
        return [self._compare(k, under, after, maps) for k in range(len(self.numbers))]

    @cached_property
    def patches(self) -> list[np.ndarray]:
        """The places of the rows with the strongest patches of each prototype, the strongest first."""
        return [strongest_rows(values, self.strongest) for values in self.usual.where.values.T]

    def _flat_patches(self) -> tuple[np.ndarray, np.ndarray]:
        """The place of the row, and of the prototype, of all patches of all prototypes: (m,) int64 each."""
        counts = list(map(len, self.patches))
        return np.concatenate(self.patches).astype(np.int64), np.repeat(np.arange(len(counts)), counts)

    def _misalignment(self) -> list[MeasuredPrototype]:
        if self.world is None:
            return [UNDEFINED] * len(self.numbers)
        places, prototypes = self._flat_patches()
        cells = self.usual.where.cells[places, prototypes]
        parts = self.usual.maps.cell_parts[places, cells]
        before = self.usual.where.values[places, prototypes]
        after = self._similarities_around(self.world, places, parts, prototypes, cells)
        nothing = np.full_like(parts, NOWHERE)
        everywhere = self._similarities_around(self.world, places, nothing, prototypes, cells)
        return [
            measures.misalignment(before[prototypes == k], after[prototypes == k], everywhere[prototypes == k])
            for k in range(len(self.numbers))
        ]

    def _similarities_around(
        self, world: World, places: np.ndarray, parts: np.ndarray, prototypes: np.ndarray, cells: np.ndarray
    ) -> np.ndarray:
        """The similarities (m,) at cells of rows in which everything but a part has changed; pictures are shared."""
        pairs, which = np.unique(np.stack([places, parts]), axis=1, return_inverse=True)
        which, values = which.ravel(), np.empty(len(places))
        for start in range(0, pairs.shape[1], self.batch):
            rows, stay = pairs[:, start : start + self.batch]
            images = changes.render_around(world, self.rows[rows], stay, self.seed)
            wanted = np.flatnonzero((which >= start) & (which < start + self.batch))
            numbers = self.numbers[prototypes[wanted]]
            which_image = which[wanted] - start
            values[wanted] = changes.similarities_at(self.classifier, images, which_image, numbers, cells[wanted])
        return values

    # The same by their published definitions.

    def _measure_as_published(self) -> dict[str, list[MeasuredPrototype]]:
        where, maps = self.usual
        count, boxes = range(len(self.numbers)), patch_boxes(where.grid, self.size)
        half = round(CONSISTENCY_HALF * self.size / SIDE)
        visible = maps.keypoints[:, 1:, 0] >= 0
        assert where.peaks is not None
        assert self.noisy.peaks is not None
        values: dict[str, list[MeasuredPrototype]] = {name: [] for name in ("purity", "consistency", "stability")}
        for k in count:
            rows = self.members[k]
            before, after = (
                measures.box_vectors(peaks[rows, k], maps.keypoints[rows], half, self.size)
                for peaks in (where.peaks, self.noisy.peaks)
            )
            values["purity"].append(measures.keypoint_purity(where, maps, k, boxes, self.strongest))
            values["consistency"].append(measures.published_consistency(before, visible[rows]))
            values["stability"].append(measures.published_stability(before, after))
        values["misalignment"] = self._attack()
        return {f"{name}{PUBLISHED}": of_all for name, of_all in values.items()}

    def _attack(self) -> list[MeasuredPrototype]:
        places, prototypes = self._flat_patches()
        before, after = np.empty(len(places)), np.empty(len(places))
        for start in range(0, len(places), self.batch):
            portion = slice(start, start + self.batch)
            indices, back = np.unique(self.rows[places[portion]], return_inverse=True)
            (images,) = read_images(self.split, indices, len(indices), self.classifier.device)
            chosen = images[torch.from_numpy(back).to(images.device)]
            numbers = self.numbers[prototypes[portion]]
            before[portion], after[portion] = changes.attack_outside(self.classifier, chosen, numbers)
        unknown = np.full_like(after, np.nan)
        return [
            measures.misalignment(before[prototypes == k], after[prototypes == k], unknown[prototypes == k])
            for k in range(len(self.numbers))
        ]


def patch_boxes(grid: tuple[int, int], size: int) -> list[Box]:
    """The published patch of each cell: 32 px wide of 224, spread evenly from border to border.

    Source: Nauta et al.: PIP-Net, CVPR 2023, and its public code.
    """
    side = max(1, round(PURITY_SIDE * size / SIDE))
    tops, lefts = (
        [round(cell * (size - side) / (cells - 1)) if cells > 1 else (size - side) // 2 for cell in range(cells)]
        for cells in grid
    )
    return [Box(top, left, top + side, left + side) for top in tops for left in lefts]
