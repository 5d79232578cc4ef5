"""This looks like that: how single pictures were recognised, prototype by prototype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from an8flower.factors import PARTS

from ..results.prototype_examples import MISTAKEN, RULES, Example, Resemblance
from ..results.prototype_results import JudgedModel, JudgedPrototype
from ..results.prototype_words import compare_parts
from .numbers import count_of, number, percent
from .prototype_gallery import WHOLE, ModelPictures
from .thumbnails import BoxedPicture, box_picture


class LikenessRow(NamedTuple):
    """One prototype found in a test picture: this, that, and what it adds."""

    number: int
    this: BoxedPicture
    that: BoxedPicture | None  # the training picture; None if there is none
    numbers: Sequence[str]  # similarity, weight, contribution
    parts: str  # under the box here, and under the prototype's training patch
    likeness: tuple[str, str] | None  # its mark, and whether both are the same part; None without a training patch


class LikenessTable(NamedTuple):
    """How one test picture was recognised."""

    title: str
    reason: str  # why this row is shown
    right: bool
    rows: Sequence[LikenessRow]
    rest: tuple[str, str] | None  # the further prototypes, and what they add; None if there are none
    total: tuple[str, str]
    logits: Sequence[str]


def compare_examples(model: JudgedModel, pictures: ModelPictures) -> list[LikenessTable]:
    """The tables of all rows that were chosen as examples."""
    by_number = {prototype.number: prototype for prototype in model.prototypes}
    return [
        _compare(model, example, image, by_number, pictures)
        for example, image in zip(model.examples, pictures.examples, strict=True)
    ]


def _compare(
    model: JudgedModel,
    example: Example,
    image: np.ndarray,
    by_number: Mapping[int, JudgedPrototype],
    pictures: ModelPictures,
) -> LikenessTable:
    label, predicted = (model.class_names[index] for index in (example.label, example.predicted))
    right = example.label == example.predicted
    outcome = f"rightly predicted as {predicted}" if right else f"taken for {predicted}"
    rows = [_show(example, line, image, by_number.get(line.number), pictures) for line in example.resembles]
    rest = (count_of(example.others, "further prototype"), number(example.rest, 2)) if example.others else None
    return LikenessTable(
        f"Row {example.row}: {label}, {outcome}",
        RULES.get(example.rule, ""),
        right,
        rows,
        rest,
        (f"sum for {predicted}", number(example.total, 2)),
        _logits(model, example),
    )


def _logits(model: JudgedModel, example: Example) -> list[str]:
    """Sentences on the logit of the predicted class, and that of the class with which it competes."""
    predicted, rival = (model.class_names[index] for index in (example.predicted, example.rival))
    same = abs(example.total - example.logit) <= 5e-4 * max(1.0, abs(example.logit))
    made = "This sum is the logit" if same else f"Of this sum is made the logit, {number(example.logit, 2)}"
    role = "the true class" if example.rule == MISTAKEN else "the next class"
    return [f"{made} of {predicted}; that of {role}, {rival}, is {number(example.rival_logit, 2)}."]


def _show(
    example: Example,
    line: Resemblance,
    image: np.ndarray,
    prototype: JudgedPrototype | None,
    pictures: ModelPictures,
) -> LikenessRow:
    patch = prototype.source if prototype else None
    that = None
    if patch and line.number in pictures.sources:
        words = f"training row {patch.row}, with the patch of prototype {line.number}, {patch.part}"
        that = box_picture(pictures.sources[line.number], patch.box, words, most=WHOLE)
    here = f"{line.part} ({percent(line.share, 0)})"
    return LikenessRow(
        line.number,
        box_picture(image, line.box, f"row {example.row}, where prototype {line.number} is found", most=WHOLE),
        that,
        [number(line.similarity, 2), number(line.weight, 2), number(line.contribution, 2)],
        f"{here} looks like {patch.part} ({percent(patch.share, 0)})" if patch else here,
        _compare_parts(line.part, patch.part) if patch else None,
    )


def _compare_parts(here: str, there: str) -> tuple[str, str]:
    """A mark for two patches, and whether they show the same part, in words; the background is no part to praise."""
    same = "part" if here == PARTS[0] else "yes"
    return same if here == there else "no", compare_parts(here, there)
