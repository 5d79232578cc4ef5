"""How single rows are recognised by prototypes: which rows are shown, and what each prototype adds to their logit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from an8flower.factors import PARTS

from ...data.images import as_images
from ...models.networks.guard import evaluating
from ...results.prototype_examples import MISTAKEN, NARROW, TYPICAL, Example, Resemblance
from .judge import PrototypeJudge
from .locating import DECIMALS, WEIGHTLESS, box_of, network_of

RESEMBLED = 5  # prototypes of an example, at most


class ChosenRow(NamedTuple):
    """A row that is shown as an example, by its place among the rows, and the rule by which it was chosen."""

    place: int
    rule: str


class Contributions(NamedTuple):
    """What the prototypes of a network add to one class in one row."""

    weights: np.ndarray  # (K,) float64, for the class
    similarities: np.ndarray  # (K,) float64, >= 0: how strongly each is found
    cells: np.ndarray  # (K,) int64: where, a cell's number in the order of reading

    @property
    def added(self) -> np.ndarray:
        """What each prototype adds to the sum of the class, (K,) float64."""
        return np.asarray(self.weights * self.similarities)


def choose_rows(logits: np.ndarray, labels: np.ndarray) -> list[ChosenRow]:
    """A typical success, the surest mistake and the narrowest success, each row once; fewer where there are none.

    Args:
        logits: (n, C), n and C > 0.
        labels: (n,) the true classes.

    Returns:
        The rows with the median margin between the two largest logits of those that are predicted rightly, the largest
        margin of the others, and the smallest of the first. Of equal margins, the first row.
    """
    ordered = np.sort(logits, axis=1)
    margins = ordered[:, -1] - ordered[:, -2] if logits.shape[1] > 1 else ordered[:, -1]
    is_right = logits.argmax(1) == labels
    right = sorted(np.flatnonzero(is_right).tolist(), key=lambda place: margins[place])
    wrong = sorted(np.flatnonzero(~is_right).tolist(), key=lambda place: -margins[place])
    chosen = [
        *(ChosenRow(place, TYPICAL) for place in right[(len(right) - 1) // 2 :][:1]),
        *(ChosenRow(place, MISTAKEN) for place in wrong[:1]),
        *(ChosenRow(place, NARROW) for place in right[:1]),
    ]
    first = {row.place: row for row in reversed(chosen)}
    return [row for row in chosen if first[row.place] is row]


def find_examples(judge: PrototypeJudge) -> list[Example]:
    """The rows that show how a model recognises, with the prototypes that weigh most in the sum of their class."""
    chosen = choose_rows(judge.usual.where.logits, judge.labels)
    return [describe_example(judge, row) for row in chosen]


def describe_example(judge: PrototypeJudge, row: ChosenRow) -> Example:
    """A row with the prototypes that add most, by size, to the sum of its predicted class."""
    logits, label = judge.usual.where.logits[row.place], int(judge.labels[row.place])
    predicted = int(logits.argmax())
    rival = find_rival(logits, label)
    contributions = add_up(judge, row.place, predicted)
    added = contributions.added
    order = np.argsort(-np.abs(added), kind="stable")
    known = np.isin(order, judge.numbers) & (np.abs(contributions.weights[order]) > WEIGHTLESS) & (added[order] != 0)
    shown = order[known][:RESEMBLED]
    others = np.delete(added, shown)
    return Example(
        row=int(judge.rows[row.place]),
        rule=row.rule,
        label=label,
        predicted=predicted,
        total=float(added.sum()),
        logit=float(logits[predicted]),
        rival=rival,
        rival_logit=float(logits[rival]),
        resembles=tuple(_describe_resemblance(judge, row.place, number, contributions) for number in shown.tolist()),
        others=int((others != 0).sum()),
        rest=float(others.sum()),
    )


def find_rival(logits: np.ndarray, label: int) -> int:
    """The class with which the predicted one competes: the next by its logit, or the true one if that is another.

    >>> find_rival(np.array([0.1, 0.7, 0.2]), 1), find_rival(np.array([0.1, 0.7, 0.2]), 0)
    (2, 0)
    """
    order = np.argsort(-logits, kind="stable").tolist()
    return int(order[min(1, len(order) - 1)]) if label == order[0] else label


def add_up(judge: PrototypeJudge, place: int, label: int) -> Contributions:
    """What every prototype of the network adds to a class in the row at a place among the rows."""
    classifier, network = judge.classifier, network_of(judge.classifier)
    images = as_images(judge.split.take(judge.rows[place : place + 1]).images, classifier.device)
    with evaluating(classifier), torch.no_grad():
        maps = network.locate(classifier.normalise(images))[0].flatten(1).double()
    weights = network.weights.detach()[label].double()
    cells = maps.round(decimals=DECIMALS).argmax(1)
    return Contributions(*(values.cpu().numpy() for values in (weights, maps.amax(1), cells)))


def _describe_resemblance(judge: PrototypeJudge, place: int, number: int, contributions: Contributions) -> Resemblance:
    where, maps = judge.usual
    cell = int(contributions.cells[number])
    part = int(maps.cell_parts[place, cell])
    return Resemblance(
        number=number,
        weight=float(contributions.weights[number]),
        similarity=float(contributions.similarities[number]),
        cell=divmod(cell, where.grid[1]),
        box=box_of(cell, where.grid, judge.size),
        part=PARTS[part],
        share=float(maps.shares[place, cell, part]),
    )
