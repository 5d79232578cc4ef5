"""The training patch that each prototype is, or that comes nearest to it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from an8flower.store import FlowerSplit

from ...models.prototypes.protopnet import ProtoPNet
from ...results.prototype_results import PrototypePatch
from .changes import similarities_at
from .judge import PrototypeJudge
from .locating import Locations, locate_prototypes, network_of, read_images
from .parts import PartMaps
from .patches import PlacedPatch, make_patch

TRAINING = "train"  # the split with the rows that prototypes come from


class TrainingPatch(NamedTuple):
    """A patch of a training row, and whether a prototype is this patch, as a push makes it."""

    patch: PrototypePatch
    pushed: bool


def find_training_patches(judge: PrototypeJudge) -> list[TrainingPatch | None]:
    """The training patch that each prototype is, or else that in which it is found most strongly.

    A prototype counts as pushed if its network says to which patch, and if it is found in no other training patch more
    strongly: with data that the network was not trained on, it is not.

    Returns:
        A list in the order of `judge.numbers`; None if it is found in no training row, or there are no training rows.
    """
    if TRAINING not in judge.split.store.splits or not len(judge.split.store[TRAINING]):
        return [None] * len(judge.numbers)
    split = judge.split.store[TRAINING]
    images = read_images(split, np.arange(len(split)), judge.batch, judge.classifier.device)
    where = locate_prototypes(judge.classifier, images, judge.numbers)
    pushed, strongest = find_pushed(judge, split, where.grid), find_strongest(where)
    patches = [best if at is None or at.value < best.value else at for at, best in zip(pushed, strongest, strict=True)]
    rows = np.array([placed.row for placed in patches])
    maps, labels = PartMaps(read_parts(split, rows), where.grid), split.labels[rows].tolist()
    return [
        TrainingPatch(make_patch(placed, labels[k], maps, k), placed is pushed[k]) if placed.value > 0 else None
        for k, placed in enumerate(patches)
    ]


def find_strongest(where: Locations) -> list[PlacedPatch]:
    """Where each prototype is found most strongly, in the first of equal rows."""
    rows = where.values.argmax(0).tolist()
    return [PlacedPatch(row, int(where.cells[row, k]), float(where.values[row, k])) for k, row in enumerate(rows)]


def find_pushed(judge: PrototypeJudge, split: FlowerSplit, grid: tuple[int, int]) -> list[PlacedPatch | None]:
    """The patch to which each prototype was pushed, by what its network says; None if it says nothing of a row here."""
    network = network_of(judge.classifier)
    if not isinstance(network, ProtoPNet):
        return [None] * len(judge.numbers)
    sources = network.source[judge.numbers].tolist()
    return [
        _place_pushed(judge, split, int(number), row, down * grid[1] + across) if 0 <= row < len(split) else None
        for number, (row, down, across) in zip(judge.numbers, sources, strict=True)
    ]


def _place_pushed(judge: PrototypeJudge, split: FlowerSplit, number: int, row: int, cell: int) -> PlacedPatch:
    (images,) = read_images(split, np.array([row]), 1, judge.classifier.device)
    (value,) = similarities_at(judge.classifier, images, np.array([0]), np.array([number]), np.array([cell]))
    return PlacedPatch(row, cell, float(value))


def read_parts(split: FlowerSplit, rows: np.ndarray) -> np.ndarray:
    """The part maps (m, S, S) of rows (m,) in any order, of data that have part maps."""
    indices, places = np.unique(rows, return_inverse=True)
    parts = split.take(indices).parts
    assert parts is not None, "all splits of a file have part maps, or none has"
    return parts[places]
