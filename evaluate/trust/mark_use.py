"""Does a model go by the mark or by the picture? Asked row by row, with the mark of another class, and with none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from an8flower.planted import NONE
from an8flower.store import FlowerSplit

from ..data.marked import MarkedRows, marked_rows
from ..data.selection import select_rows
from ..metrics.interventions.reliance import donors_of
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network
from ..models.networks.guard import evaluating
from ..models.sources import Source, open_judged
from ..models.streamlined import streamline
from ..resources import Resources
from ..results.files import without_nan
from ..results.mark_words import describe_use
from ..results.statistics.intervals import Interval, interval, row_means, share_interval
from ..seeds import seed_of

ROWS = 300  # how many a certificate asks about by default
OTHERS = 5  # marks of other classes that a row is given; all of them where there are no more
SLIGHT = 0.05  # the change of the predicted class's probability that a mark may make in a row that ignores it
AT_ONCE = 256  # rows whose pictures are held at a time


@dataclass(frozen=True)
class MarkUse:
    """What exchanging the mark does to the predictions of a model, row by row; K exchanges in rows (n,)."""

    indices: np.ndarray  # (n,) of the rows in their split, sorted
    labels: np.ndarray  # (n,)
    shown: np.ndarray  # (n,) the number of the mark that a row has, -1 for none
    predicted: np.ndarray  # (n,) the classes predicted for the rows as they are
    bare: np.ndarray  # (n,) the classes predicted without any mark
    donors: np.ndarray  # (K, n) the numbers of other marks, -1 where a row is given no more
    exchanged: np.ndarray  # (K, n) the classes predicted with them
    effect_bare: np.ndarray  # (n,) the predicted class's probability: as it is, less without any mark
    effects: np.ndarray  # (K, n) likewise, less with other marks; NaN where there is none
    speaks_for: np.ndarray  # (M,) the class of each mark

    def classes_of(self, numbers: np.ndarray) -> np.ndarray:
        """The classes that marks (...) speak for, -1 for no mark."""
        return np.where(numbers == NONE, NONE, self.speaks_for[np.maximum(numbers, 0)])

    @property
    def follows(self) -> np.ndarray:
        """Whether the prediction becomes the class of another mark that is put in its place, (K, n): 1, 0 or NaN.

        NaN if a row is given no more marks, or that class was predicted before.
        """
        classes = self.classes_of(self.donors)
        defined = (self.donors != NONE) & (classes != self.predicted)
        return np.where(defined, self.exchanged == classes, np.nan)

    @property
    def uses(self) -> np.ndarray:
        """The rows (n,) bool in which the model demonstrably uses the mark.

        The class that the mark speaks for is predicted, and it no longer is without the mark, or with another one.
        """
        there, given = self.shown != NONE, self.donors != NONE
        by_mark = there & (self.classes_of(self.shown) == self.predicted)
        turned = (self.bare != self.predicted) | ((self.exchanged != self.predicted) & given).any(0)
        return by_mark & turned

    @property
    def ignores(self) -> np.ndarray:
        """The rows (n,) bool with a mark in which the model demonstrably does not use it.

        Neither without the mark nor with any other is another class predicted, and the probability of the predicted
        class changes by at most `SLIGHT`.
        """
        there, given = self.shown != NONE, self.donors != NONE
        stays = (self.bare == self.predicted) & ((self.exchanged == self.predicted) | ~given).all(0)
        slight = (np.abs(self.effect_bare) <= SLIGHT) & (~given | (np.abs(self.effects) <= SLIGHT)).all(0)
        return there & stays & slight

    def decided_by(self) -> tuple[np.ndarray, np.ndarray]:
        """By what a row is decided if mark and label contradict each other: (K + 1, n) by the mark, by the picture.

        Each 1, 0, or NaN where there is no mark, or it speaks for the label.
        """
        numbers = np.vstack([self.shown, self.donors])
        predictions = np.vstack([self.predicted, self.exchanged])
        classes = self.classes_of(numbers)
        contradicts = (numbers != NONE) & (classes != self.labels)
        by_mark, by_picture = (np.where(contradicts, predictions == of, np.nan) for of in (classes, self.labels))
        return by_mark, by_picture


@dataclass(frozen=True)
class MarkCertificate:
    """Whether a model goes by the mark or by the picture; shares lie in [0, 1] and have 95 % intervals, by row."""

    model: str
    mark: str
    rows: int
    accuracy: Interval  # with the marks as they are
    bare_accuracy: Interval  # without any mark
    follows: Interval  # with another class's mark in its place: is that class predicted?
    removed: Interval  # without the mark: is another class predicted? Of the rows that have one
    effect: Interval  # of the mark on the predicted class's probability, in [-1, 1]
    by_mark: Interval  # where mark and label contradict each other: is the mark's class predicted?
    by_picture: Interval  # ... the label?
    uses: Interval  # share of the marked rows in which the model demonstrably uses the mark
    ignores: Interval  # ... demonstrably does not; the rest is open

    def to_document(self) -> dict[str, Any]:
        """The certificate ready for JSON, with None for each undefined number, and the verdict in sentences."""
        document = dict(without_nan(asdict(self)))
        return {**document, "verdict": describe_use(document)}


def measure_mark_use(
    classifier: Classifier,
    rows: MarkedRows,
    indices: np.ndarray,
    *,
    seed: int = 0,
    batch: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MarkUse:
    """Ask a model about rows as they are, without a mark, and with the marks of other classes.

    Args:
        indices: (n,) int64, n > 0, sorted.
        seed: which other marks a row is given; a row has the same ones whoever else is asked about.
        batch: how many images the network gets at once.
    """
    shown, network = rows.mark_numbers(indices), streamline(classifier)
    others = np.arange(len(rows.speaks_for)) != shown[:, None]
    donors = donors_of(others, indices, min(OTHERS, len(rows.speaks_for)), seed_of(seed, "marks"))
    with evaluating(classifier):
        logits = [_classify(network, rows, indices, shown, batch)]
        for done, numbers in enumerate([np.full(len(indices), NONE), *donors], 1):
            given = np.where(numbers == NONE, shown, numbers) if done > 1 else numbers
            logits.append(_classify(network, rows, indices, given, batch))
            progress(done, len(donors) + 1)
    before, bare, *after = logits
    predicted = before.argmax(1)
    effects = [_fall(before, changed, predicted) for changed in (bare, *after)]
    given = donors != NONE
    return MarkUse(
        indices,
        rows.split.labels[indices],
        shown,
        predicted.numpy(),
        bare.argmax(1).numpy(),
        donors,
        np.stack([changed.argmax(1).numpy() for changed in after]),
        np.where(shown == NONE, np.nan, effects[0]),
        np.where(given, np.stack(effects[1:]), np.nan),
        rows.speaks_for,
    )


def _fall(before: Tensor, after: Tensor, classes: Tensor) -> np.ndarray:
    """By how much the probability of classes (n,) falls between logits (n, C): (n,) float64."""
    first, second = (logits.double().softmax(1).gather(1, classes[:, None])[:, 0] for logits in (before, after))
    return (first - second).numpy()


@torch.inference_mode()
def _classify(network: Network, rows: MarkedRows, indices: np.ndarray, numbers: np.ndarray, batch: int) -> Tensor:
    """The logits (n, C) on the CPU of rows with these marks (n,)."""
    portions = [slice(start, start + AT_ONCE) for start in range(0, len(indices), AT_ONCE)]
    pictures = (rows.photograph(indices[portion], numbers[portion]) for portion in portions)
    return torch.cat([network(images).cpu() for of_portion in pictures for images in of_portion.split(batch)])


def certify_marked_models(
    sources: Sequence[str | Source],
    split: FlowerSplit,
    count: int | None,
    seed: int,
    resources: Resources,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """What models (files, or package.module:factory) go by on marked rows, as `certify --json` prints it.

    Args:
        count: how many rows, spread evenly over the classes; None means `ROWS`, or all if there are fewer.

    Raises:
        NotApplicable: the data have no marks that can be exchanged.
        Refusal: no such model, or it does not fit the data.
        WrongUsage: there are not that many rows.
    """
    rows, labels = marked_rows(split, resources.device), split.labels
    indices = select_rows(labels, min(ROWS, len(labels)) if count is None else count, seed_of("rows", seed))
    documents = []
    for source in sources:
        model = open_judged(source, split.store, resources.device)
        use = measure_mark_use(model, rows, indices, seed=seed, batch=resources.in_flight, progress=progress)
        documents.append(certify_marks(model.name, rows.name, use, seed).to_document())
    data = {"name": split.store.name, "digest": split.store.digest, "split": split.name, "rows": len(indices)}
    return {"dataset": data, "seed": seed, "agreement": dict(rows.agreement), "marks": documents}


def certify_marks(model: str, mark: str, use: MarkUse, seed: int) -> MarkCertificate:
    """Sum up what exchanging the marks did to a model."""
    there = use.shown != NONE
    by_mark, by_picture = use.decided_by()

    def share(values: np.ndarray) -> Interval:
        by_row = row_means(np.atleast_2d(np.asarray(values, float)).T)
        return share_interval(by_row, seed=seed_of("marks", seed))

    return MarkCertificate(
        model=model,
        mark=mark,
        rows=len(use.indices),
        accuracy=share(use.predicted == use.labels),
        bare_accuracy=share(use.bare == use.labels),
        follows=share(use.follows),
        removed=share(np.where(there, use.bare != use.predicted, np.nan)),
        effect=interval(use.effect_bare, seed=seed_of("marks", seed)),
        by_mark=share(by_mark),
        by_picture=share(by_picture),
        uses=share(np.where(there, use.uses, np.nan)),
        ignores=share(np.where(there, use.ignores, np.nan)),
    )
