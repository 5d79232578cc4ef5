"""The measures of prototypes as formulas on arrays, each with its chance level. NaN is undefined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...results.prototype_results import Box
from .locating import Locations, strongest_rows
from .parts import BACKGROUND, NOWHERE, PartMaps, lie_in

STRONGEST = 10  # patches of a prototype that purity looks at, as in PIP-Net
SAME = 0.8  # the share of a class's rows in which a consistent prototype lies on the same part, as in EvalProtoPNet
FOUND = 0.1  # a prototype counts as found in a row if it is above this share of its largest similarity


class MeasuredPrototype(NamedTuple):
    """The value of a measure for one prototype, its chance level, and the part (id) that it is about."""

    value: float  # NaN if undefined
    chance: float = float("nan")
    part: int = NOWHERE


UNDEFINED = MeasuredPrototype(float("nan"))


def patch_shares(where: Locations, maps: PartMaps, prototype: int, strongest: int = STRONGEST) -> np.ndarray:
    """The share of the pixels of a prototype's strongest patches that show each part, (P,) float64; NaN without any."""
    rows = strongest_rows(where.values[:, prototype], strongest)
    if not len(rows):
        return np.full(maps.shares.shape[2], np.nan)
    shares: np.ndarray = maps.shares[rows, where.cells[rows, prototype]].mean(0)
    return shares


def purity(where: Locations, maps: PartMaps, prototype: int, strongest: int = STRONGEST) -> MeasuredPrototype:
    """The share of the pixels of a prototype's strongest patches that lie on one part: on the part with most of them.

    Chance is the share of this part among the pixels of all rows: the expected value of patches drawn at random.
    """
    shares = patch_shares(where, maps, prototype, strongest)
    if np.isnan(shares).all():
        return UNDEFINED
    part = int(shares.argmax())
    return MeasuredPrototype(float(shares[part]), float(maps.shares[..., part].mean()), part)


def on_object(where: Locations, maps: PartMaps, prototype: int, strongest: int = STRONGEST) -> MeasuredPrototype:
    """The share of the pixels of a prototype's strongest patches that show the object: any part but the background.

    Chance is the share of the object among the pixels of all rows.
    """
    shares = patch_shares(where, maps, prototype, strongest)
    if np.isnan(shares).all():
        return UNDEFINED
    return MeasuredPrototype(float(1 - shares[BACKGROUND]), float(1 - maps.shares[..., BACKGROUND].mean()))


def keypoint_purity(
    where: Locations, maps: PartMaps, prototype: int, boxes: list[Box], strongest: int
) -> MeasuredPrototype:
    """The share of a prototype's strongest patches in which the keypoint of one part lies: of the part with most.

    Chance is the share of all cells of all rows in whose boxes that keypoint lies. The background has no keypoint.

    Args:
        boxes: the patch of each cell.
    """
    rows = strongest_rows(where.values[:, prototype], strongest)
    if not len(rows):
        return UNDEFINED
    hits = np.stack([lie_in(maps.keypoints[row], boxes[where.cells[row, prototype]]) for row in rows])
    rates = hits.mean(0)
    part = 1 + int(rates[1:].argmax())
    chance = np.mean([lie_in(maps.keypoints[:, part], box).mean() for box in boxes])
    return MeasuredPrototype(float(rates[part]), float(chance), part)


def same_part(under: np.ndarray, frequencies: np.ndarray) -> MeasuredPrototype:
    """The share of rows in which the maximum lies on one part: on the part with most of them.

    Chance is the mean share of these rows' cells that show this part.

    Args:
        under: (n,) the part under the maximum in each row of the prototype's class, or NOWHERE.
        frequencies: (n, P) the share of each row's cells that show each part.
    """
    if not len(under):
        return UNDEFINED
    shares = (under[:, None] == np.arange(frequencies.shape[1])).mean(0)
    part = int(shares.argmax())
    return MeasuredPrototype(
        float(shares[part]), float(frequencies[:, part].mean()), part if shares[part] > 0 else NOWHERE
    )


def consistency(under: np.ndarray, frequencies: np.ndarray, needed: float = SAME) -> MeasuredPrototype:
    """Whether the maximum lies on the same part in at least `needed` of the rows: 1 or 0.

    Chance is the exact probability of that for cells that are drawn at random, one in each row. Arguments as in
    `same_part`.
    """
    if not len(under):
        return UNDEFINED
    agreement, count = same_part(under, frequencies), int(np.ceil(needed * len(under) - 1e-9))
    # At most one part has more than half of the rows, so that the probabilities of the parts add up.
    chance = sum(tail_probability(shares, count) for shares in frequencies.T)
    return MeasuredPrototype(float(agreement.value >= needed - 1e-9), float(chance), agreement.part)


def tail_probability(probabilities: np.ndarray, count: int) -> float:
    """The probability that at least `count` of independent events with these probabilities (n,) happen.

    >>> round(tail_probability(np.array([0.5, 0.5, 0.5]), 2), 6)
    0.5
    """
    happened = np.zeros(len(probabilities) + 1)
    happened[0] = 1.0
    for probability in probabilities:
        happened[1:] = happened[1:] * (1 - probability) + happened[:-1] * probability
        happened[0] *= 1 - probability
    return float(happened[count:].sum())


def stability(before: np.ndarray, after: np.ndarray, first: np.ndarray, second: np.ndarray) -> MeasuredPrototype:
    """The share of rows in which the maximum lies on the same part after a change as before.

    Rows in which the prototype is not found before do not count. Chance is the probability that two cells, one drawn at
    random from each picture, show the same part.

    Args:
        before: (n,) the part under the maximum in each row, or NOWHERE.
        after: (n,) the same after the change.
        first: (n, P) the share of each row's cells that show each part.
        second: (n, P) the same after the change.
    """
    known = before != NOWHERE
    if not known.any():
        return UNDEFINED
    chance = (first * second).sum(1)[known].mean()
    return MeasuredPrototype(float((before == after)[known].mean()), float(chance))


def misalignment(before: np.ndarray, after: np.ndarray, all_changed: np.ndarray) -> MeasuredPrototype:
    """The mean relative change of a prototype's similarity at its cell when everything but the part under it changes.

    Chance is the same mean when the part changes as well.

    Args:
        before: (m,) the similarity at the cell of each patch, > 0.
        after: (m,) the similarity at the same cell when everything but the part has changed; a patch with NaN does not
            count.
        all_changed: (m,) the similarity at the same cell when everything has changed.
    """
    known = ~np.isnan(after)
    if not known.any():
        return UNDEFINED
    change, reference = ((np.abs(values - before) / before)[known].mean() for values in (after, all_changed))
    return MeasuredPrototype(float(change), float(reference))


def box_vectors(peaks: np.ndarray, keypoints: np.ndarray, half: int, size: int) -> np.ndarray:
    """Which parts have their keypoint in the box around each maximum: (n, P - 1) bool, the background left out.

    Args:
        peaks: (n, 2) the pixel of the maximum of each row's upsampled map.
        keypoints: (n, P, 2) as `PartMaps` has them.
        half: half the side of the box, in pixels; the pixel at that distance counts as inside, on both sides.
    """
    vectors = [lie_in(points[1:], box_around(peak, half, size)) for peak, points in zip(peaks, keypoints, strict=True)]
    return np.array(vectors, bool).reshape(len(peaks), keypoints.shape[1] - 1)


def box_around(peak: np.ndarray, half: int, size: int) -> Box:
    """The box of all pixels that are at most `half` pixels away from a pixel, down and across."""
    top, left = (max(0, int(place) - half) for place in peak)
    bottom, right = (min(size, int(place) + half + 1) for place in peak)
    return Box(top, left, bottom, right)


def published_consistency(vectors: np.ndarray, visible: np.ndarray, needed: float = SAME) -> MeasuredPrototype:
    """Whether some part's keypoint lies in the box in at least `needed` of the rows in which it is visible: 1 or 0.

    Args:
        vectors: (n, P - 1) bool, from `box_vectors`.
        visible: (n, P - 1) bool.
    """
    if not len(vectors):
        return UNDEFINED
    rates = vectors.sum(0) / np.maximum(visible.sum(0), 1)
    part = int(rates.argmax())
    return MeasuredPrototype(float(rates[part] >= needed - 1e-9), part=1 + part if rates[part] > 0 else NOWHERE)


def published_stability(before: np.ndarray, after: np.ndarray) -> MeasuredPrototype:
    """The share of rows in which the boxes (n, P - 1) bool hold the same keypoints before and after a change."""
    return MeasuredPrototype(float((before == after).all(1).mean())) if len(before) else UNDEFINED


def locality(where: Locations, weights: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How many prototypes with a weight for the predicted class are found in each row, (n,) float64.

    Args:
        weights: (C, K) bool, whether a prototype has a weight for a class.
        threshold: (K,) what a similarity has to exceed to count as found.
    """
    counts: np.ndarray = ((where.values > threshold) & weights[where.logits.argmax(1)]).sum(1).astype(np.float64)
    return counts


def abstention(where: Locations, speaks: np.ndarray) -> np.ndarray:
    """Whether nothing speaks for any class in each row, (n,) float64: 1 or 0.

    Args:
        speaks: (C, K) bool, whether a prototype has a weight above 0 for a class.
    """
    return np.asarray(~(where.is_found & speaks.any(0)).any(1), np.float64)


def class_rows(labels: np.ndarray, classes: np.ndarray) -> Iterator[np.ndarray]:
    """The places of the rows (n,) of each prototype's class (K,)."""
    return (np.flatnonzero(labels == label) for label in classes)
