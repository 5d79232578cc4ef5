"""Is a classifier what it says it is on these data? Its accuracy against chance, and against what its file states.

A network that gets pictures of another normalisation, or whose outputs stand in another order than the data's classes,
gives numbers like any other. Its accuracy tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from an8flower.store import FlowerSplit

from ..data.images import as_images
from ..data.selection import select_rows
from ..resources import halve_where_memory_runs_out
from ..seeds import seed_of
from .classifier import Classifier, normalisation_of
from .networks.guard import evaluating
from .normalisation import NAMES, Normalisation

ROWS = 200  # how many rows are looked at, at most
SLACK = 0.05  # how far below the stated accuracy is near
UNLIKELY = 0.01  # the probability of so few right answers below which an accuracy is far below the stated one
GUESSING = 0.05  # the probability of so many right answers by guessing above which an accuracy is chance
BETTER = 0.2  # by how much of the rows another order or normalisation has to be better before it is named
SENSIBLE = 0.5  # which share of the rows another normalisation has to get right to be named
ORDERLY = 0.8  # ... and another order: the best of so many orders gets many right by chance
ORDER_ROWS = 12  # rows below which nothing is said about the order, nor below four of each class
CLASS_ROWS = 4
HALF = "0.5,0.5,0.5:0.5,0.5,0.5"
NORMALISATIONS = {**NAMES, HALF: Normalisation((0.5,) * 3, (0.5,) * 3)}


@dataclass(frozen=True)
class AccuracyCheck:
    """How many rows a classifier gets right, and what is to be doubted for it."""

    rows: int
    right: int
    chance: float  # what naming the same class each time gets right, in [0, 1]
    stated: float | None  # the accuracy that the classifier's file states, in [0, 1]
    doubt: str = ""  # a sentence; empty where there is none

    def to_document(self) -> dict[str, Any]:
        """The check ready for JSON, with the accuracy in [0, 1]."""
        numbers = {"rows": self.rows, "accuracy": self.right / self.rows, "chance": self.chance}
        return {**numbers, "stated": self.stated, "doubt": self.doubt or None}


def check_accuracy(classifier: Classifier, split: FlowerSplit, batch: int = 16) -> AccuracyCheck:
    """Look whether a classifier is right as often as its file states, and oftener than by chance.

    Up to 200 rows are looked at, spread evenly over the classes. It is at chance if naming classes at random, the most
    frequent one's share right, gives as many right answers with a probability above 0.05; far below what its file
    states if, were the accuracy 0.05 lower than stated, so few had a probability below 0.01. A network that no file
    states an accuracy of is also looked at with its outputs in another order, and tried with other normalisations: what
    is better by a fifth of the rows is named.

    Args:
        split: of the data that it is to be judged on, of its size and classes.
        batch: images in the network at once.
    """
    indices = select_rows(split.labels, min(ROWS, len(split)), seed_of("accuracy"))
    rows = _CheckedRows(split.take(indices).images, split.labels[indices], batch)
    predicted = rows.predict(classifier)
    right = int((predicted == rows.labels).sum())
    chance = float(np.bincount(rows.labels).max() / len(indices))
    check = AccuracyCheck(len(indices), right, chance, classifier.card.accuracy)
    complaint = _complain(check)
    remedy = next(_remedies(classifier, rows, predicted), "") if check.stated is None else ""
    if not (complaint or remedy):
        return check
    title = f"{classifier.arch} is" if classifier.seed is None else f"{classifier.arch} seed {classifier.seed} is"
    numbers = f"right in {right} of {len(indices)} rows of {split.name} ({right / len(indices):.0%})"
    return replace(check, doubt=f"{title} {numbers}{complaint}; {remedy or _last_resort(classifier, split)}")


class _CheckedRows(NamedTuple):
    """The rows of a split that are looked at, read once for every way of looking."""

    images: np.ndarray  # (n, S, S, 3) uint8
    labels: np.ndarray  # (n,)
    batch: int

    def predict(self, classifier: Classifier) -> np.ndarray:
        """The predicted classes (n,) of the rows."""

        def predict_by(images: int) -> list[Tensor]:
            portions = np.split(self.images, range(images, len(self.images), images))
            return [classifier.predict(as_images(portion, classifier.device)) for portion in portions]

        with evaluating(classifier):
            predicted = halve_where_memory_runs_out(predict_by, self.batch, classifier.device)
        return np.concatenate([classes.cpu().numpy() for classes in predicted])

    def is_better(self, right: int, before: int, share: float) -> bool:
        """Whether so many right answers are enough of the rows, and so many more than before, to be named."""
        return right - before >= BETTER * len(self.labels) and right >= share * len(self.labels)


def _complain(check: AccuracyCheck) -> str:
    """What is wrong with an accuracy, as the end of a sentence; empty where nothing is."""
    from scipy.special import bdtr, bdtrc  # here, as it takes a while to load

    stated = "" if check.stated is None else f", where its file states {check.stated:.0%}"
    by_guessing = bdtrc(check.right - 1, check.rows, check.chance) if check.right else 1.0
    if check.right < check.rows and by_guessing > GUESSING:
        return f", which chance gives as well ({check.chance:.0%}){stated}"
    if check.stated is not None and bdtr(check.right, check.rows, max(check.stated - SLACK, 0.0)) < UNLIKELY:
        return stated
    return ""


def _remedies(classifier: Classifier, rows: _CheckedRows, predicted: np.ndarray) -> Iterator[str]:
    """What would make a network far better on these rows, in sentences: another order, another normalisation."""
    before = int((predicted == rows.labels).sum())
    if before > (1 - BETTER) * len(rows.labels):
        return
    names, order = classifier.class_names, best_order(predicted, rows.labels, len(classifier.class_names))
    right = int((order[predicted] == rows.labels).sum())
    if len(rows.labels) >= max(ORDER_ROWS, CLASS_ROWS * len(names)) and rows.is_better(right, before, ORDERLY):
        yield (
            f"it would be right in {right} if its outputs stood for {', '.join(names[i] for i in order)}: "
            "if they do, name them in this order, one a line, in a file for --class-names (in Python: labels=)"
        )
    for text, normalisation in NORMALISATIONS.items():
        if normalisation != _round(normalisation_of(classifier)):
            other = Classifier(classifier.network, classifier.card, classifier.target_layer, *normalisation)
            right = int((rows.predict(other.to(classifier.device)) == rows.labels).sum())
            if rows.is_better(right, before, SENSIBLE):
                yield f"with --normalise {text} (in Python: normalise=) it would be right in {right}"


def best_order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The class (C,) that each output would stand for if as many rows as possible were to be right.

    >>> best_order(np.array([1, 1, 2, 0]), np.array([0, 0, 1, 2]), 3)
    array([2, 0, 1])
    """
    from scipy.optimize import linear_sum_assignment  # here, as it takes a while to load

    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (predicted, labels), 1)
    order: np.ndarray = linear_sum_assignment(counts, maximize=True)[1]
    return order


def _round(normalisation: Normalisation) -> Normalisation:
    """A normalisation without what single precision adds to its decimals."""
    mean, std = (tuple(round(value, 6) for value in values) for values in normalisation)
    return Normalisation(mean, std)


def _last_resort(classifier: Classifier, split: FlowerSplit) -> str:
    """What to look at if nothing is known to help."""
    data = classifier.card.data
    if classifier.card.accuracy is None:
        return "check its weights, its normalisation (--normalise) and the order of its outputs (--class-names)"
    if data.get("code", classifier.code) != classifier.code:
        return f"the code of {classifier.arch} is not what it was trained with; put it back, or train it anew"
    if data.get("digest") != split.store.digest:
        return f"it was trained on other data ({data.get('name', 'unknown')}); train it on these if that is not meant"
    return "train it for longer, or with another learning rate"
