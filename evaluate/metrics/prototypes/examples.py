"""Rows as examples: the prototypes that speak for the predicted class, "this looks like that"."""

from __future__ import annotations

import numpy as np

from ...results.prototype_results import Example, Resemblance
from .judge import PrototypeJudge
from .locating import box_of

RESEMBLED = 3  # prototypes of an example


def find_examples(judge: PrototypeJudge) -> list[Example]:
    """For each class the first of its rows that is predicted rightly, or else the first; none where it has no rows."""
    predicted = judge.usual.where.logits.argmax(1)
    examples = []
    for label in range(len(judge.weights)):
        members = np.flatnonzero(judge.labels == label)
        right = members[predicted[members] == label]
        chosen = right if len(right) else members
        if len(chosen):
            examples.append(_describe_example(judge, int(chosen[0]), int(predicted[chosen[0]])))
    return examples


def _describe_example(judge: PrototypeJudge, place: int, predicted: int) -> Example:
    where = judge.usual.where
    added = judge.weights[predicted] * where.values[place]
    order = np.argsort(-added, kind="stable")[:RESEMBLED]
    resembles = [
        Resemblance(
            number=int(judge.numbers[k]),
            weight=float(judge.weights[predicted, k]),
            similarity=float(where.values[place, k]),
            cell=divmod(int(where.cells[place, k]), where.grid[1]),
            box=box_of(where.cells[place, k], where.grid, judge.size),
        )
        for k in order[added[order] > 0].tolist()
    ]
    return Example(
        row=int(judge.rows[place]),
        label=int(judge.labels[place]),
        predicted=predicted,
        logit=float(where.logits[place, predicted]),
        resembles=tuple(resembles),
    )
