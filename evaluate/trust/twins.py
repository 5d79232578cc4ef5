"""Rows beside their twins, the same scenes rendered as another class, and pictures mixed of the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from an8flower import interventions
from an8flower.render import render
from an8flower.scene import Scenes, build

from ..data.images import as_images
from ..metrics.interventions.reliance import AT_ONCE
from .questions import CertifiedRows

LOST = 128  # is added to the numbers of pieces that only the twin shows; a scene has fewer ellipsoids than that


class Twins(NamedTuple):
    """The pictures of rows and of their twins, with the pixels of the rows' evidence that differ between the two."""

    images: Tensor  # (n, 3, S, S) float32 in [0, 1]
    others: Tensor  # (n, 3, S, S) the same scenes as classes `classes`
    classes: Tensor  # (n,) int64
    evidence: Tensor  # (n, S, S) bool: where the pictures differ within the mask that maps are scored against
    pieces: Tensor  # (n, S, S) int64: which ellipsoid of the evidence is seen, from 1; 0 beside the evidence
    rim: Tensor  # (n, S, S) bool: the void pixels, within the mask and beside it; none where nothing is known of them
    has_rim: Tensor  # (n,) bool: whether void pixels are known

    @property
    def rest(self) -> Tensor:
        """The pixels that are neither evidence nor void, (n, S, S) bool."""
        return ~(self.evidence | self.rim)

    def mix(self, from_twin: Tensor) -> Tensor:
        """The rows' pictures (n, 3, S, S) with the twin's pixels where `from_twin` (n, S, S) bool says so."""
        return torch.where(from_twin[:, None], self.others, self.images)

    def take(self, rows: Tensor) -> Twins:
        """The twins of some of the rows, by their positions (k,) or by a mask (n,) bool."""
        return Twins._make(values[rows] for values in self)


def portions_of_twins(rows: CertifiedRows) -> Iterator[Twins]:
    """Render the rows and one twin of each, in bounded portions.

    A twin has the near class, which differs in the fewest parts: the one that row-by-row reliance and the
    counterfactual metrics take. So its evidence lies within the row's mask wherever that is possible.
    """
    for start in range(0, len(rows.indices), AT_ONCE):
        portion = slice(start, start + AT_ONCE)
        yield _render_twins(replace(rows, **{name: getattr(rows, name)[portion] for name in PER_ROW}))


PER_ROW = ("indices", "labels", "table")  # the fields of `CertifiedRows` that have an entry for each row


def _render_twins(rows: CertifiedRows) -> Twins:
    device = rows.world.device
    classes = rows.world.near_classes(torch.from_numpy(rows.indices), torch.from_numpy(rows.labels))
    twin_table = interventions.as_class(rows.spec, rows.table, classes.cpu().numpy())
    images, seen = _photograph_pieces(rows, rows.table)
    others, seen_in_twin = _photograph_pieces(rows, twin_table)
    masks, void = _masks(rows)
    evidence = masks & (images != others).any(3)
    pieces = np.where(seen > 0, seen, np.where(seen_in_twin > 0, seen_in_twin + LOST, LOST))
    return Twins(
        as_images(images, device),
        as_images(others, device),
        classes,
        torch.from_numpy(evidence).to(device),
        torch.from_numpy(np.where(evidence, pieces, 0)).to(device),
        torch.from_numpy(np.zeros_like(evidence) if void is None else void).to(device),
        torch.full((len(evidence),), void is not None, device=device),
    )


def _masks(rows: CertifiedRows) -> tuple[np.ndarray, np.ndarray | None]:
    """Where the rows are marked as evidence of any kind, and where they are void: (n, S, S) bool each.

    None for the void pixels of a file that tells nothing of coverage.
    """
    indices, back = np.unique(rows.indices, return_inverse=True)
    stored = rows.world.split.take(indices)
    return stored.masks[back] > 0, None if stored.void is None else stored.void[back]


def _photograph_pieces(rows: CertifiedRows, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, S, S, 3) uint8 of scenes, and which of a scene's ellipsoids each pixel shows: (n, S, S) int64."""
    scenes = build(table, rows.world.split.album)
    images, numbers = render(scenes._replace(part=_numbers(scenes)), rows.spec.size, rows.world.threads)
    return images, numbers.astype(np.int64)


def _numbers(scenes: Scenes) -> np.ndarray:
    """The number of each ellipsoid (m,) uint8 within its own scene, from 1."""
    places = np.arange(len(scenes.part)) - np.repeat(scenes.offsets[:-1], np.diff(scenes.offsets))
    return (places + 1).astype(np.uint8)
