"""Does a box around the map's largest piece fit the evidence? The box metrics of weakly supervised localisation.

A piece is a connected component (4-connectivity), a box is (top, left, bottom, right) in pixels with its ends excluded.
Right is the tight box of the whole mask, and that of its largest piece as well: else a mask in several pieces, taken as
a map, would not match its own truth. With `truth=mask` the tight box alone is right.

Pieces of maps are connected through void pixels as through all others. Void pixels at the edge of the truth may lie in
a box or not: the boxes of the mask with and without them are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Case
from ..maps import normalise_range
from ..models.networks.batched_passes import predict_perturbed
from .components import best_overlaps, largest_boxes
from .localisation import (
    EMPTY_OR_CONSTANT,
    RANGE,
    SHIFTED,
    SILENT,
    THRESHOLDED,
    RimChoice,
    register_localisation,
    register_ranking,
)
from .metric import Asking, sentence
from .ranking import THRESHOLDS, Ranking, nan_where_silent

CUT = "the map's mean, strictly above"
BY_MEAN = "read as they are: negative values lower the mean"
PIECES = f"{THRESHOLDED}; of several equally large components, the box around all of them"
ONE_PIECE = (
    "the mask taken as the map: the box of its largest piece is right beside that of the whole; with truth=mask it is "
    "not, and a mask in several pieces falls short"
)
OPTICAM = "Zhang et al.: Opti-CAM, CVIU 2024"
CHOE = "Choe et al.: Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020"
DABKOWSKI = "Dabkowski, Gal: Real Time Image Saliency for Black Box Classifiers, NeurIPS 2017"
VOID_BOXES = (
    "void pixels at the edge of the truth may lie in the box or not, whichever fits better; with strict=true they "
    "count as the mask has them"
)
AUTHORS_BOXES = "the code of Opti-CAM leaves out the last row and column of a box, and exchanges the names OM and LE"

SMALLEST = 0.05  # share of the image below which no crop is rewarded any further


class Cropped:
    """A batch of maps, their boxes, and what the model says of the cropped images, each computed once when needed."""

    def __init__(self, maps: Tensor, case: Case) -> None:
        assert case.classifier is not None, "metrics that need the model are given one"
        self.ranking, self.case, self.classifier = Ranking.of(maps, case.truth), case, case.classifier

    @cached_property
    def boxes(self) -> Tensor:
        """The box of each map's largest component, (B, 4) int64."""
        return main_boxes(self.ranking)

    @cached_property
    def right(self) -> Tensor:
        """Whether the model predicts the label, (B,) bool."""
        portions = self.case.query.images.split(self.classifier.in_flight)
        predicted = torch.cat([self.classifier.predict(images) for images in portions])
        return predicted == self.case.truth.labels

    @cached_property
    def surprise(self) -> Tensor:
        """-log p of the target in what the box cuts out of the image, (B,) float64; NaN where there is no box."""
        rows = (area(self.boxes) > 0).nonzero()[:, 0]
        values = torch.full(self.boxes.shape[:1], torch.nan, dtype=torch.float64, device=self.boxes.device)
        if len(rows):
            values[rows] = predict_perturbed(
                self.classifier, self.case.query.targets, rows, rows, self._crops, surprise
            )
        return values

    def _crops(self, rows: Tensor, _: Tensor) -> Tensor:
        """What the boxes of rows (n,) cut out of the images, (n, 3, H, W)."""
        return torch.cat([crop(self.case.query.images[row], self.boxes[row]) for row in rows.tolist()])


def surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """-log of each row's probability of its target, (B,) float64."""
    return -logits.double().log_softmax(1).gather(1, targets[:, None])[:, 0]


def crop(image: Tensor, box: Tensor) -> Tensor:
    """What a box (4,) cuts out of an image (3, H, W), at the size of the image: (1, 3, H, W)."""
    top, left, bottom, right = box.tolist()
    piece = image[None, :, top:bottom, left:right]
    return F.interpolate(piece, image.shape[1:], mode="bilinear", align_corners=False, antialias=True)


def main_boxes(ranking: Ranking) -> Tensor:
    """The box of the largest component above the mean of each map, (B, 4) int64."""
    return _largest(ranking.strict.above_mean)


def _largest(regions: Tensor) -> Tensor:
    """The box of the largest component of each of the regions (B, H, W) bool: (B, 4) int64."""
    boxes = largest_boxes(regions.cpu().long().numpy(), 1)[:, 0]
    return torch.from_numpy(boxes).to(regions.device)


def tight_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each of the masks (B, H, W) bool: (B, 4) int64; an empty mask has an empty box."""
    sides = []
    for taken in (masks.any(2), masks.any(1)):  # rows, columns
        length = taken.shape[1]
        first = taken.int().argmax(1)
        last = length - taken.flip(1).int().argmax(1)
        sides.append((first, torch.where(taken.any(1), last, 0)))
    (top, bottom), (left, right) = sides
    return torch.stack([top, left, bottom, right], 1)


def area(boxes: Tensor) -> Tensor:
    """Pixels of boxes (B, 4): (B,) int64."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes (B, 4) int64 with others, one by one: (B,) float64; NaN where both are empty."""
    first, last = boxes[:, :2].maximum(others[:, :2]), boxes[:, 2:].minimum(others[:, 2:])
    both = (last - first).clamp(min=0).prod(1)
    return both.double() / (area(boxes) + area(others) - both)


def true_boxes(ranking: Ranking, truth: str) -> list[Tensor]:
    """The boxes that count as right, each (B, 4) int64: around the mask and, for `pieces`, around its largest piece."""
    readings = [ranking.strict.masks] if ranking.whole is None else [ranking.whole.masks, ranking.masks]
    boxes = [tight_boxes(masks) for masks in readings]
    return boxes if truth == "mask" else [*boxes, *(_largest(masks) for masks in readings)]


@dataclass(frozen=True)
class _Match(RimChoice):
    """Options: IoU as it is (`soft`, as the paper writes), or whether it is above 0.5 (`hard`, as its code does); and
    which boxes are right, see `true_boxes`."""

    overlap: str = "soft"
    truth: str = "pieces"

    def __post_init__(self) -> None:
        check_known("overlap", self.overlap, ("soft", "hard"))
        check_known("truth", self.truth, ("mask", "pieces"))

    def match(self, ranking: Ranking, boxes: Tensor) -> Tensor:
        """How well boxes (B, 4) fit the right box that fits them best: (B,) float64."""
        rights = true_boxes(self.choose(ranking), self.truth)
        iou = torch.stack([box_iou(boxes, right).nan_to_num(0) for right in rights]).amax(0)
        return iou if self.overlap == "soft" else (iou > 0.5).double()


@register_ranking(
    "le",
    constant=SILENT,
    version=3,
    higher_is_better=False,
    sign=BY_MEAN,
    ties=PIECES,
    source=OPTICAM,
    further={
        "oracle": f"0: {ONE_PIECE}",
        "void": VOID_BOXES,
        "threshold": CUT,
        "quirks": f"overlap=hard counts IoU > 0.5, as the code of Opti-CAM does; {AUTHORS_BOXES}",
    },
)
@dataclass(frozen=True)
class BoxMisfit(_Match):
    """1 - IoU of the tight box of G (or of its largest piece) and that of the largest component of {M > mean of M}."""

    def __call__(self, ranking: Ranking) -> Tensor:
        return nan_where_silent(1 - self.match(ranking, main_boxes(ranking)), ranking.strict)


@dataclass(frozen=True)
class BoxMisfitOrWrongClass(_Match):
    """1 where the model does not predict the label; else 1 - IoU of the tight box of G (or of its largest
    piece) and that of the largest component of {M > mean of M}."""

    def __call__(self, cropped: Cropped) -> Tensor:
        matched = self.match(cropped.ranking, cropped.boxes)
        return nan_where_silent(1 - matched * cropped.right, cropped.ranking.strict)


register_localisation(
    "om",
    Asking(Cropped, BoxMisfitOrWrongClass()),
    sentence(BoxMisfitOrWrongClass),
    higher_is_better=False,
    constant=SILENT,
    version=3,
    undefined=EMPTY_OR_CONSTANT,
    sign=BY_MEAN,
    ties=PIECES,
    source=OPTICAM,
    needs=("model",),
    further={
        "oracle": f"0 where the model predicts the label: {ONE_PIECE}",
        "void": VOID_BOXES,
        "threshold": CUT,
        "quirks": f"overlap=hard counts IoU > 0.5, as the code of Opti-CAM does; {AUTHORS_BOXES}",
    },
)


def _saliency_metric(cropped: Cropped) -> Tensor:
    """log max(a, 0.05) - log p, a being the share of the image that the tight box of the largest component of
    {M > mean of M} covers, and p the target's probability in what the box cuts out, at the image's size."""
    covered = area(cropped.boxes).double() / cropped.ranking.strict.pixels
    return (covered.clamp(min=SMALLEST).log() + cropped.surprise).float()


register_localisation(
    "sm",
    Asking(Cropped, _saliency_metric),
    sentence(_saliency_metric),
    unit="nats",
    bounds=(math.log(SMALLEST), math.inf),
    higher_is_better=False,
    constant=SILENT,
    undefined="the map is constant",
    sign=BY_MEAN,
    ties=PIECES,
    source=DABKOWSKI,
    needs=("model",),
    further={
        "oracle": "what the model makes of the mask's largest piece: no fixed number",
        "threshold": CUT,
        "resize": "the crop to the size of the image, bilinear, antialiased",
        "quirks": "the code of Opti-CAM resizes with cubic splines; its paper writes p of the whole image",
    },
)


def best_thresholds(curves: np.ndarray) -> np.ndarray:
    """The rows' values (n,), each delta at its own best threshold for all rows: curves (n, D * T), NaN left out."""
    hits = curves.reshape(len(curves), curves.shape[1] // len(THRESHOLDS), len(THRESHOLDS))
    defined = hits[~np.isnan(curves).any(1)]
    if not len(defined):
        return np.full(len(curves), np.nan)
    chosen = defined.mean(0).argmax(1)
    return hits[:, np.arange(hits.shape[1]), chosen].mean(1)


@register_ranking(
    "box_accuracy",
    constant=SILENT,
    version=3,
    select=best_thresholds,
    sign=SHIFTED,
    ties=PIECES,
    source=CHOE + " (MaxBoxAccV2); the largest component as in " + OPTICAM,
    further={
        "oracle": f"1: {ONE_PIECE}",
        "void": VOID_BOXES,
        "threshold": "one for the whole data set and each delta, of 0, 0.01, ..., 0.99, strictly above: "
        "a row alone has no value",
        "normalisation": RANGE,
        "quirks": "components=all takes whichever component fits best, as the code of Choe et al. does; it also steps "
        "by 0.001 through maps of 256 values, joins diagonal neighbours and counts the ends of a box in",
    },
)
@dataclass(frozen=True)
class BoxAccuracy(RimChoice):
    """Mean over deltas of the share of rows, at the one threshold t that is best for all of them, in which the tight
    box of the largest component of {n_range(M) > t} has an IoU of at least delta with the tight box of G."""

    deltas: str = "0.3/0.5/0.7"
    components: str = "largest"
    truth: str = "pieces"

    def __post_init__(self) -> None:
        check_known("components", self.components, ("largest", "all"))
        check_known("truth", self.truth, ("mask", "pieces"))
        if not all(0 < delta <= 1 for delta in self._numbers()):
            raise WrongUsage(f'deltas is "{self.deltas}"; expected shares above 0 up to 1 such as 0.3/0.5/0.7')

    def _numbers(self) -> list[float]:
        try:
            return [float(delta) for delta in self.deltas.split("/")]
        except ValueError:
            raise WrongUsage(f'deltas is "{self.deltas}"; expected numbers such as 0.3/0.5/0.7') from None

    def __call__(self, ranking: Ranking) -> Tensor:
        """Whether a row's box fits, (B, D * T) float32: delta by delta, each at every threshold."""
        levels, fits = _levels(ranking), OVERLAPS[self.components]
        rights = true_boxes(self.choose(ranking), self.truth)
        overlaps = fits(levels, rights)
        hits = torch.cat([(overlaps >= delta).float() for delta in self._numbers()], 1)
        return nan_where_silent(hits, ranking.strict)


def _levels(ranking: Ranking) -> np.ndarray:
    """How many of THRESHOLDS each pixel of the range-normalised maps lies above, (B, H, W) int64."""
    ranged = normalise_range(ranking.strict.maps).contiguous()
    levels = torch.searchsorted(THRESHOLDS.to(ranged.device), ranged)
    return levels.to(torch.uint8).cpu().long().numpy()  # a byte a pixel comes from a GPU, as there are 100 thresholds


def _of_largest(levels: np.ndarray, rights: list[Tensor]) -> Tensor:
    """The best IoU of some boxes (B, 4) and the largest component's box at each of THRESHOLDS, (B, T) float64."""
    boxes = torch.from_numpy(largest_boxes(levels, len(THRESHOLDS))).to(rights[0].device).flatten(0, 1)
    overlaps = [box_iou(boxes, truths.repeat_interleave(len(THRESHOLDS), 0)) for truths in rights]
    return torch.stack(overlaps).amax(0).view(len(levels), -1)


def _of_all(levels: np.ndarray, rights: list[Tensor]) -> Tensor:
    """The best IoU of some boxes (B, 4) and any component's box at each of THRESHOLDS, (B, T) float64."""
    overlaps = [best_overlaps(levels, len(THRESHOLDS), truths.cpu().numpy()) for truths in rights]
    return torch.from_numpy(np.max(overlaps, axis=0)).to(rights[0].device)


OVERLAPS: dict[str, Callable[[np.ndarray, list[Tensor]], Tensor]] = {"largest": _of_largest, "all": _of_all}
