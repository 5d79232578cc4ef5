"""Where the evidence of rendered rows is, pixel by pixel, and how much of each pixel it covers.

The mask says what a pixel's centre shows: 1 an evidence part of the row's class, 2 where a part that the class lacks
would be, 3 where an evidence part would be in another class, which has more of it, or larger, or of another form. The
coverage counts samples of the pixel of which the same holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from . import draw
from .album import Album
from .evidence import absent_evidence, evidence_parts, other_geometries
from .factors import PARTS, Value
from .kernels import compile_kernel
from .render import ALL_SAMPLES, Rendering, render_marked
from .scene import build
from .spec import DatasetSpec
from .store import COVERED, TOUCHED

CHANGED = ALL_SAMPLES + 1  # the bit beside those of the samples: whether the pixel's colour follows the evidence
COVERAGE = np.array(  # of a pixel by these bits
    [
        max(round(COVERED * (bits & ALL_SAMPLES).bit_count() / 4), TOUCHED * (bits >= CHANGED))
        for bits in range(2 * CHANGED)
    ],
    np.uint8,
)


class LocatedEvidence(NamedTuple):
    """The evidence of rows, by pixel centres and by samples."""

    masks: np.ndarray  # (n, S, S) uint8: 0 none, 1 by presence, 2 by absence, 3 by gap
    coverage: (
        np.ndarray
    )  # (n, S, S) uint8: share of the samples, 0 to 255; 1 where only the colour follows the evidence


def marked_parts(spec: DatasetSpec) -> np.ndarray:
    """Which parts are evidence for each class: (C, P) bool by part id."""
    marked = np.zeros((spec.class_count, len(PARTS)), bool)
    for label in range(spec.class_count):
        marked[label] = _ids(evidence_parts(spec, label))
    return marked


def locate_evidence(
    spec: DatasetSpec, labels: np.ndarray, table: np.ndarray, rendering: Rendering, album: Album | None = None
) -> LocatedEvidence:
    """Locate the evidence of rows (n,) that were rendered with the parts of `marked_parts` marked.

    Args:
        album: the photographs of the rows' split, where rows lie on some.
    """
    marked, images = marked_parts(spec), rendering.images
    masks = _look_up(marked.view(np.uint8), labels, rendering.parts)
    for label in range(spec.class_count):
        rows = np.flatnonzero(labels == label)
        for part, count in absent_evidence(spec, label).items():
            other = _render_with(spec, table[rows], {f"{part}.count": count}, _ids([part]), album)
            _add_parts(masks, rendering.samples, rows, other.parts, other.samples, _ids([part]), 2)
        for geometry in other_geometries(spec, label):
            other = _render_with(spec, table[rows], geometry, marked[label], album)
            _add_parts(masks, rendering.samples, rows, other.parts, other.samples, marked[label], 3)
            _add_changes(rendering.samples, rows, images, other.images)
    return LocatedEvidence(masks, _look_up(COVERAGE[None], np.zeros_like(labels), rendering.samples))


def evidence_masks(spec: DatasetSpec, labels: np.ndarray, table: np.ndarray, album: Album | None = None) -> np.ndarray:
    """The masks (n, S, S) uint8 of rows, see `LocatedEvidence`."""
    rendering = render_marked(build(table, album), spec.size, marked_parts(spec)[labels], threads=1)
    return locate_evidence(spec, labels, table, rendering, album).masks


def _ids(names: Collection[str]) -> np.ndarray:
    """Which parts are named, (P,) bool by part id."""
    return np.isin(PARTS, list(names))


def _render_with(
    spec: DatasetSpec, table: np.ndarray, changes: Mapping[str, Value], parts: np.ndarray, album: Album | None
) -> Rendering:
    """Render rows with other values of some factors; some parts (P,) bool are marked."""
    scenes = build(draw.override(table, changes), album)
    return render_marked(scenes, spec.size, np.tile(parts, (len(table), 1)), threads=1)


@compile_kernel
def _look_up(tables: np.ndarray, choice: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The entries at the values of each map (S, S) in the table that is chosen for it: a fifth of numpy's time."""
    values = np.empty_like(maps)
    for row in range(len(maps)):
        table, source, target = tables[choice[row]], maps[row].reshape(-1), values[row].reshape(-1)
        for pixel in range(len(source)):
            target[pixel] = table[source[pixel]]
    return values


@compile_kernel
def _add_parts(
    masks: np.ndarray,
    samples: np.ndarray,
    rows: np.ndarray,
    other_parts: np.ndarray,
    other_samples: np.ndarray,
    counted: np.ndarray,
    kind: int,
) -> None:
    """Mark as evidence of a kind what other pictures of the rows show of parts; what is marked already stays."""
    for place in range(len(rows)):
        mask, seen = masks[rows[place]].reshape(-1), samples[rows[place]].reshape(-1)
        parts, new = other_parts[place].reshape(-1), other_samples[place].reshape(-1)
        for pixel in range(len(mask)):
            seen[pixel] |= new[pixel]
            if mask[pixel] == 0 and counted[parts[pixel]]:
                mask[pixel] = kind


@compile_kernel
def _add_changes(samples: np.ndarray, rows: np.ndarray, images: np.ndarray, others: np.ndarray) -> None:
    """Note in `samples`, by the bit `CHANGED`, which pixels of the rows have another colour in other pictures."""
    for place in range(len(rows)):
        seen = samples[rows[place]].reshape(-1)
        image, other = images[rows[place]].reshape(-1, 3), others[place].reshape(-1, 3)
        for pixel in range(len(seen)):
            if (
                image[pixel, 0] != other[pixel, 0]
                or image[pixel, 1] != other[pixel, 1]
                or image[pixel, 2] != other[pixel, 2]
            ):
                seen[pixel] |= CHANGED
