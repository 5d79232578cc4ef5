"""Prototypes as pictures for a folder: a gallery of all of them by class, and this looks like that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from an8flower.atomic import moved_into

from ...results.prototype_examples import RULES, Example, Resemblance
from ...results.prototype_results import Box, JudgedModel, JudgedPrototype
from ...results.prototype_words import compare_parts

SIDE, GAP, LINE = 128, 10, 14  # pixels: of a picture, between pictures, and of a line of words
ACROSS = 8  # cards beside each other
PAPER, INK, FRAME, EDGE = (255, 255, 255), (20, 20, 20), (255, 214, 10), (0, 0, 0)
CARD_LINES = 4
CARD = SIDE + CARD_LINES * LINE + GAP  # pixels: the height of a card
WORDS_WIDTH = 520  # pixels: beside the two pictures of a comparison

Pictures = Mapping[str, np.ndarray]  # as `results.prototype_results` describes them


class SheetRow(NamedTuple):
    """A row of a sheet: a line of words as its heading, or pictures with lines of words below or beside them."""

    height: int
    heading: str = ""
    tiles: Sequence[tuple[Image.Image, Sequence[str]]] = ()
    beside: Sequence[str] = ()


def write_sheets(model: JudgedModel, pictures: Pictures, folder: Path) -> None:
    """Write the sheets of a model into a folder, as MODEL-prototypes.png and MODEL-looks-like-that.png."""
    for name, sheet in draw_sheets(model, pictures).items():
        with moved_into(folder / f"{model.model}-{name}.png") as unfinished:
            sheet.save(unfinished, format="PNG")


def draw_sheets(model: JudgedModel, pictures: Pictures) -> dict[str, Image.Image]:
    """The gallery of a model, `prototypes`, and how examples were recognised, `looks-like-that`."""
    width = GAP + ACROSS * (SIDE + GAP)
    return {
        "prototypes": draw_rows(list_cards(model, pictures), width),
        "looks-like-that": draw_rows(list_comparisons(model, pictures), 3 * GAP + 2 * SIDE + WORDS_WIDTH),
    }


def draw_rows(rows: Sequence[SheetRow], width: int) -> Image.Image:
    """Rows one below the other, from the top."""
    sheet = Image.new("RGB", (width, GAP + sum(row.height for row in rows)), PAPER)
    brush, top = ImageDraw.Draw(sheet), GAP
    for row in rows:
        brush.text((GAP, top), row.heading, fill=INK)
        for place, (tile, words) in enumerate(row.tiles):
            left = GAP + place * (SIDE + GAP)
            sheet.paste(tile, (left, top))
            _write(brush, (left, top + SIDE + 2), words)
        _write(brush, (2 * GAP + len(row.tiles) * (SIDE + GAP), top + 2 * LINE), row.beside)
        top += row.height
    return sheet


def _write(brush: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str]) -> None:
    """Write lines of words one below the other."""
    for number, line in enumerate(lines):
        brush.text((corner[0], corner[1] + number * LINE), line, fill=INK)


def frame(pixels: np.ndarray, box: Box) -> Image.Image:
    """A picture (S, S, 3) uint8 of `SIDE` pixels, with a frame around a box, so that nothing of the box is hidden."""
    tile = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    left, top, right, bottom = (round(edge * SIDE / len(pixels)) for edge in (box.left, box.top, box.right, box.bottom))
    brush = ImageDraw.Draw(tile)
    for grow, colour in ((3, EDGE), (2, FRAME), (1, FRAME)):
        brush.rectangle((left - grow, top - grow, right - 1 + grow, bottom - 1 + grow), outline=colour)
    return tile


# --- the gallery ------------------------------------------------------------------------------------------------------


def list_cards(model: JudgedModel, pictures: Pictures) -> list[SheetRow]:
    """The cards of all prototypes, with a heading for each class; those with the largest weights first."""
    sources = dict(zip(pictures["numbers"].tolist(), pictures["sources"], strict=True))
    rows = [SheetRow(2 * LINE, f"{model.model}: the training patch of each prototype, and the part it stands for")]
    for label, name in enumerate(model.class_names):
        members = model.of_class(label)
        rows += [SheetRow(LINE + GAP, f"{name}: {len(members)} prototypes")] if members else []
        for start in range(0, len(members), ACROSS):
            rows.append(SheetRow(CARD, tiles=[_card(card, sources) for card in members[start : start + ACROSS]]))
    return rows


def _card(prototype: JudgedPrototype, sources: Mapping[int, np.ndarray]) -> tuple[Image.Image, list[str]]:
    """The training picture of a prototype with its patch, and what is known of it."""
    patch, pixels = prototype.source, sources.get(prototype.number)
    known = patch is not None and pixels is not None
    tile = frame(pixels, patch.box) if known else Image.new("RGB", (SIDE, SIDE), PAPER)  # type: ignore[union-attr, arg-type]
    purity = prototype.scores["purity"]
    lines = [f"{prototype.number}: {prototype.part or 'found nowhere'}", f"weight {prototype.weight:.2f}"]
    if patch is not None:
        lines.append(f"here {patch.part} {patch.share:.0%}")
    if purity.value is not None and purity.chance is not None:
        lines.append(f"purity {purity.value:.2f} ({purity.chance:.2f})")
    return tile, lines


# --- this looks like that ---------------------------------------------------------------------------------------------


def list_comparisons(model: JudgedModel, pictures: Pictures) -> list[SheetRow]:
    """For each example a heading, a row for each prototype that weighs much, and the sum."""
    sources = dict(zip(pictures["numbers"].tolist(), pictures["sources"], strict=True))
    by_number = {prototype.number: prototype for prototype in model.prototypes}
    rows = [SheetRow(2 * LINE, f"{model.model}: this looks like that")]
    for example, image in zip(model.examples, pictures["examples"], strict=True):
        label, predicted = (model.class_names[index] for index in (example.label, example.predicted))
        rows.append(SheetRow(LINE, f"row {example.row}: {label}, predicted as {predicted}"))
        rows.append(SheetRow(LINE + GAP, RULES[example.rule]))
        rows += [_compare(line, image, by_number, sources) for line in example.resembles]
        rows.append(SheetRow(3 * LINE, _sum_words(example, predicted)))
    return rows


def _compare(
    line: Resemblance, image: np.ndarray, by_number: Mapping[int, JudgedPrototype], sources: Mapping[int, np.ndarray]
) -> SheetRow:
    """A row with this picture, that training picture, and what the prototype adds."""
    patch = by_number[line.number].source
    tiles: list[tuple[Image.Image, Sequence[str]]] = [(frame(image, line.box), ())]
    words = [
        f"prototype {line.number}",
        f"similarity {line.similarity:.2f} x weight {line.weight:.2f} = {line.contribution:.2f}",
        f"{line.part} {line.share:.0%} here",
    ]
    if patch is not None and line.number in sources:
        tiles.append((frame(sources[line.number], patch.box), ()))
        likeness = compare_parts(line.part, patch.part)
        words.append(f"{patch.part} {patch.share:.0%} in training row {patch.row}: {likeness}")
    return SheetRow(SIDE + GAP, tiles=tiles, beside=words)


def _sum_words(example: Example, predicted: str) -> str:
    """The sum of an example's contributions, and its logit, in words."""
    rest = f"with {example.rest:.2f} of {example.others} more, " if example.others else ""
    return f"{rest}the sum for {predicted} is {example.total:.2f}, its logit {example.logit:.2f}"
