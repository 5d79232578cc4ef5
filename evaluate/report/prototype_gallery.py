"""A card for each prototype of a model: the training patch that it is, its part, and where else it is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..results.prototype_results import JudgedModel, JudgedPrototype, PrototypePatch
from .numbers import count_of, join_names, number, percent
from .reading import Arrays, AuditFolder, Missing
from .thumbnails import BoxedPicture, box_picture

NEEDED = {"numbers": 1, "sources": 4, "crops": 5, "examples": 4}
WHOLE, CROPPED = 96, 48  # px: the longest sides of whole pictures and of windows around patches
ELSEWHERE = 3  # test patches on a card, at most


class GalleryLimits(NamedTuple):
    """How much of a gallery is shown."""

    cards: int  # of a class, at most
    elsewhere: int  # test patches on a card, at most


class PatchView(NamedTuple):
    """A patch of a test picture in which a prototype is found, with the part under it."""

    picture: BoxedPicture
    part: str
    words: str  # the row and its class


@dataclass(frozen=True)
class PrototypeCard:
    """All that the page says of one prototype."""

    number: int
    title: str  # the part that it stands for
    facts: Sequence[str]
    pictures: Sequence[BoxedPicture]  # the training picture, and the window around the patch; empty if there is none
    elsewhere: Sequence[PatchView]

    @property
    def size(self) -> int:
        """How many bytes the pictures of the card take on the page."""
        return sum(picture.size for picture in (*self.pictures, *(patch.picture for patch in self.elsewhere)))


class ClassCards(NamedTuple):
    """The cards of the prototypes of one class."""

    name: str
    summary: str  # how many there are, and for what they stand
    cards: Sequence[PrototypeCard]
    hidden: int  # further ones that are not shown


class ModelPictures(NamedTuple):
    """The pictures of a model's prototypes, by the number of the prototype."""

    sources: Mapping[int, np.ndarray]  # (S, S, 3) uint8
    crops: Mapping[int, np.ndarray]  # (N, W, W, 3) uint8
    examples: np.ndarray  # (E, S, S, 3) uint8


def read_pictures(model: JudgedModel, source: AuditFolder) -> ModelPictures | Missing:
    """The pictures of a model, or the reason why they cannot be shown."""
    if not model.pictures:
        return Missing(f"no pictures of {model.model} were saved")
    arrays = source.arrays(model.pictures, NEEDED)
    if isinstance(arrays, Missing):
        return arrays
    if not _fits(model, arrays):
        return Missing(f"{model.pictures}: its arrays do not fit each other")
    numbers = arrays["numbers"].tolist()
    sources, crops = (dict(zip(numbers, arrays[name], strict=True)) for name in ("sources", "crops"))
    return ModelPictures(sources, crops, arrays["examples"])


def _fits(model: JudgedModel, arrays: Arrays) -> bool:
    """Whether arrays have the shapes that the document of the model promises, and are pictures."""
    sources, crops, examples = (arrays[name] for name in ("sources", "crops", "examples"))
    whole, count = (model.size, model.size, 3), len(arrays["numbers"])
    sides = {patch.window.bottom - patch.window.top for patch in _all_patches(model)}
    shown = max((len(prototype.patches) for prototype in model.prototypes), default=0)
    return (
        sources.dtype == crops.dtype == examples.dtype == np.uint8
        and sources.shape == (count, *whole)
        and examples.shape == (len(model.examples), *whole)
        and len(crops) == count
        and crops.shape[1] >= shown
        and crops.shape[4:] == (3,)
        and sides <= {crops.shape[2]}
        and crops.shape[2] == crops.shape[3]
    )


def _all_patches(model: JudgedModel) -> list[PrototypePatch]:
    """Every patch that the document of a model names."""
    sources = [prototype.source for prototype in model.prototypes if prototype.source]
    return [*sources, *(patch for prototype in model.prototypes for patch in prototype.patches)]


def deal_cards(model: JudgedModel, pictures: ModelPictures | Missing, limits: GalleryLimits) -> list[ClassCards]:
    """The cards of all classes that have prototypes; without pictures if these are missing."""
    return [
        ClassCards(
            name,
            summarise_class(members),
            [make_card(model, prototype, pictures, limits.elsewhere) for prototype in members[: limits.cards]],
            max(0, len(members) - limits.cards),
        )
        for label, name in enumerate(model.class_names)
        if (members := model.of_class(label))
    ]


def summarise_class(prototypes: Sequence[JudgedPrototype]) -> str:
    """How many prototypes there are, and for which parts they stand."""
    return f"{count_of(len(prototypes), 'prototype')}: {list_parts(prototypes)}"


def list_parts(prototypes: Sequence[JudgedPrototype]) -> str:
    """How many prototypes stand for each part, the most frequent first, in words."""
    counts = Counter(prototype.part or "" for prototype in prototypes)
    silent = counts.pop("", 0)
    words = [f"{part} ({count})" for part, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return join_names([*words, *([f"found nowhere ({silent})"] if silent else [])])


def make_card(
    model: JudgedModel, prototype: JudgedPrototype, pictures: ModelPictures | Missing, elsewhere: int
) -> PrototypeCard:
    """The card of a prototype, with so many test patches at most."""
    known = pictures if isinstance(pictures, ModelPictures) and prototype.number in pictures.sources else None
    return PrototypeCard(
        prototype.number,
        prototype.part or "found nowhere",
        state_facts(model, prototype),
        draw_source(model, prototype, known) if known else [],
        draw_elsewhere(model, prototype, known)[:elsewhere] if known else [],
    )


def state_facts(model: JudgedModel, prototype: JudgedPrototype) -> list[str]:
    """What is known of a prototype, a line for each fact."""
    return [*_origin(model, prototype), *_purity(prototype), _weights(prototype), _frequency(prototype)]


def _origin(model: JudgedModel, prototype: JudgedPrototype) -> list[str]:
    patch = prototype.source
    if patch is None:
        return ["found in no training picture"]
    relation = "is a patch of" if prototype.pushed else "is found most strongly in"
    place = f"training row {patch.row}, {model.class_names[patch.label]}"
    return [f"{relation} {place}: {percent(patch.share, 0)} of the patch is {patch.part}"]


def _purity(prototype: JudgedPrototype) -> list[str]:
    purity = prototype.scores.get("purity")
    if purity is None:
        return []
    if purity.value is None:
        return [f"purity undefined: {purity.reason}"]
    chance = f" (chance {number(purity.chance, 2)})" if purity.chance is not None else ""
    return [f"purity {number(purity.value, 2)}{chance}"]


def _weights(prototype: JudgedPrototype) -> str:
    others = [f"{other.class_name} ({number(other.weight, 2)})" for other in prototype.classes]
    also = [words for words, other in zip(others, prototype.classes, strict=True) if other.label != prototype.label]
    rest = f"; also for {join_names(also, 2)}" if also else ""
    return f"weight {number(prototype.weight, 2)}{rest}"


def _frequency(prototype: JudgedPrototype) -> str:
    if not prototype.patches:
        return "silent: it is found in no row that was looked at"
    return f"found in {percent(prototype.rows_found, 0)} of the rows"


def draw_source(model: JudgedModel, prototype: JudgedPrototype, pictures: ModelPictures) -> list[BoxedPicture]:
    """The training picture with the patch marked, and the patch with what is around it; empty if there is none."""
    patch = prototype.source
    if patch is None:
        return []
    image, window = pictures.sources[prototype.number], patch.window
    place = f"training row {patch.row}, {model.class_names[patch.label]}"
    return [
        box_picture(image, patch.box, f"{place}, with the patch of prototype {prototype.number}", most=WHOLE),
        box_picture(
            image[window.top : window.bottom, window.left : window.right],
            patch.box,
            f"the patch of prototype {prototype.number}, {patch.part}",
            within=window,
            most=CROPPED,
        ),
    ]


def draw_elsewhere(model: JudgedModel, prototype: JudgedPrototype, pictures: ModelPictures) -> list[PatchView]:
    """The strongest patches of a prototype in the rows that were looked at."""
    crops = pictures.crops[prototype.number]
    return [
        PatchView(
            box_picture(
                crop,
                patch.box,
                f"row {patch.row}, where prototype {prototype.number} is found",
                within=patch.window,
                most=CROPPED,
            ),
            patch.part,
            f"row {patch.row}, {model.class_names[patch.label]}",
        )
        for patch, crop in zip(prototype.patches[:ELSEWHERE], crops, strict=False)
    ]
