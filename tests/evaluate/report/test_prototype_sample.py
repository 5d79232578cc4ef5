"""Made-up documents and pictures of judged prototypes: what the tests of their section of the page write it from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from an8flower.evaluate.results.prototype_examples import MISTAKEN, NARROW, TYPICAL, Example, Resemblance
from an8flower.evaluate.results.prototype_places import Box
from an8flower.evaluate.results.prototype_results import (
    ClassWeight,
    JudgedModel,
    JudgedPrototype,
    ModelScore,
    PrototypePatch,
    PrototypeScore,
    PrototypesDocument,
    SkippedModel,
)

SIZE, CELLS, WINDOW = 40, 5, 16
CLASSES = ("red", "blue", "white")
PARTS = ("petals", "disc", "petals", "leaves", "background")
CHANCE = 0.25


def box_of(cell: int) -> Box:
    """The pixels of a cell."""
    side = SIZE // CELLS
    top, left = (side * place for place in divmod(cell, CELLS))
    return Box(top, left, top + side, left + side)


def window_of(box: Box) -> Box:
    """The window around a box, within the picture."""
    top, left = (min(max(0, start - 4), SIZE - WINDOW) for start in (box.top, box.left))
    return Box(top, left, top + WINDOW, left + WINDOW)


def patch(row: int, label: int, cell: int, part: str, value: float = 2.0) -> PrototypePatch:
    """A patch of a row."""
    box = box_of(cell)
    place = divmod(cell, CELLS)
    return PrototypePatch(
        row=row, label=label, cell=place, box=box, window=window_of(box), value=value, part=part, share=0.9
    )


def prototype(number: int, classes: Sequence[str] = CLASSES, *, silent: bool = False) -> JudgedPrototype:
    """A prototype that stands for one of `PARTS`; a silent one is found nowhere."""
    label, part, cell = number % len(classes), PARTS[number % len(PARTS)], (7 * number) % CELLS**2
    score = PrototypeScore(value=0.75, chance=CHANCE, part=part)
    unknown = PrototypeScore(value=None, reason="the prototype is found in no row")
    speaks_for = [ClassWeight(label=label, class_name=classes[label], weight=1.5 - 0.01 * number)]
    if number == 1:
        other = (label + 1) % len(classes)
        speaks_for.append(ClassWeight(label=other, class_name=classes[other], weight=0.25))
    patches = [] if silent else [patch(10 * number + i, (label + i) % 3, cell, part, 3.0 - i) for i in range(4)]
    return JudgedPrototype(
        number=number,
        label=label,
        class_name=classes[label],
        weight=speaks_for[0].weight,
        classes=tuple(speaks_for),
        largest=0.0 if silent else 3.0,
        rows_found=0.0 if silent else 0.5,
        shares={} if silent else {part: 0.75, "stem": 0.25},
        scores={"purity": unknown if silent else score},
        patches=tuple(patches),
        source=None if silent else patch(number, label, cell, part, 9.2),
        pushed=not silent,
    )


def example(row: int, rule: str, label: int, predicted: int, numbers: Sequence[int]) -> Example:
    """A row in which prototypes are found; every second one lies on another part than its training patch."""
    lines = [
        Resemblance(
            number=number,
            weight=1.5,
            similarity=3.0 - 0.5 * place,
            cell=divmod(place, CELLS),
            box=box_of(place),
            part="stem" if place % 2 else PARTS[number % len(PARTS)],
            share=0.8,
        )
        for place, number in enumerate(numbers)
    ]
    rest = 0.25 if lines else 0.0
    total = sum(line.contribution for line in lines) + rest
    return Example(
        row=row,
        rule=rule,
        label=label,
        predicted=predicted,
        total=total,
        logit=total,
        rival=label if label != predicted else (label + 1) % 3,
        rival_logit=total - 1,
        resembles=tuple(lines),
        others=4 if lines else 0,
        rest=rest,
    )


SCORES = {
    "purity": ModelScore(mean=0.62, low=0.55, high=0.7, n=8, undefined=1, over="prototypes", chance=CHANCE),
    "consistency": ModelScore(mean=0.5, low=0.3, high=0.7, n=9, over="prototypes", chance=0.01),
    "locality": ModelScore(mean=3.2, low=2.9, high=3.5, n=60, over="rows"),
    "size": ModelScore(mean=9.0, n=12, over="model"),
}


def model(
    name: str = "net-seed0", count: int = 9, classes: Sequence[str] = CLASSES, architecture: str = "net"
) -> JudgedModel:
    """A model with prototypes, the last of which is silent, and an example by each rule."""
    prototypes = [prototype(number, classes, silent=number == count - 1) for number in range(count)]
    return JudgedModel(
        model=name,
        architecture=architecture,
        total=count + 3,
        grid=(CELLS, CELLS),
        size=SIZE,
        class_names=tuple(classes),
        scores=SCORES,
        prototypes=tuple(prototypes),
        examples=(
            example(4, TYPICAL, 0, 0, [0, 3]),
            example(5, MISTAKEN, 1, 2, [2, 5]),
            example(6, NARROW, 2, 2, []),
        ),
        pictures="prototypes/one.npz",
    )


def document(*models: JudgedModel) -> dict[str, Any]:
    """The document of a data set, as JSON has it."""
    form = PrototypesDocument(
        rows=60,
        split="test",
        strongest=4,
        published=False,
        results=models or (model(),),
        skipped=(SkippedModel(model="plain-seed0", reason="it has no prototypes"),),
    )
    values: dict[str, Any] = form.model_dump(mode="json")
    return values


def arrays(judged: JudgedModel) -> dict[str, np.ndarray]:
    """The pictures of a model: slow waves, so that small files are as large as those of photographs."""
    shown = [prototype for prototype in judged.prototypes if prototype.patches]
    source, size = np.random.default_rng(5), judged.size

    def draw(*shape: int) -> np.ndarray:
        y, x = np.mgrid[: shape[-3], : shape[-2]] / 6.0
        waves = np.sin(y + x * 0.5)[..., None] * 60 + source.integers(0, 40, shape) + 90
        return np.asarray(waves.astype(np.uint8))

    return {
        "numbers": np.array([prototype.number for prototype in shown], np.int64),
        "sources": draw(len(shown), size, size, 3),
        "crops": draw(len(shown), 4, WINDOW, WINDOW, 3),
        "examples": draw(len(judged.examples), size, size, 3),
    }


def test_the_sample_is_of_its_form() -> None:
    assert PrototypesDocument.model_validate(document()).results == (model(),)


def write_arrays(folder: Path, *models: JudgedModel) -> None:
    """The files of pictures beside the summary."""
    for judged in models or (model(),):  # all may share one file
        place = folder / judged.pictures
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(place, **arrays(judged))  # type: ignore[arg-type]
