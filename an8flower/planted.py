"""What a file of planted photographs says of its marks, and its rows with another mark, or with none."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import Refusal
from .gate.documents import parse_json
from .gate.pictures import parse_png
from .gate.regular import shorten
from .marks import Marks, lay
from .splits import SPLITS
from .store import FlowerStore, StoredRows

NONE = -1  # the number of no mark
REMAKE = "make it again with `an8flower plant --force`"


@dataclass(frozen=True)
class Planting:
    """How marks go along with the classes of a data set."""

    mark: str  # tag, ball, flower, or the name of a user's file
    speaks_for: tuple[int, ...]  # the class of each mark
    agreement: Mapping[str, float]  # by split: the share of rows that agree
    scale: tuple[float, float]  # from and to: the longer side of a mark as a share of the picture's
    seed: int
    marks: Marks

    @property
    def is_presence(self) -> bool:
        """Whether there is one mark, whose absence speaks for all other classes."""
        return len(self.marks) == 1

    @property
    def chance(self) -> float:
        """The agreement at which a mark says nothing of the class: it is as frequent in each."""
        return 1 / max(len(self.marks), 2)

    def to_json(self) -> str:
        """The attribute `planting` of a file."""
        values = {key: value for key, value in vars(self).items() if key != "marks"}
        pictures = [{"colour": _to_png(p[..., :3]), "opacity": _to_png(p[..., 3])} for p in self.marks.pictures]
        return json.dumps({**values, "agreement": dict(self.agreement), "pictures": pictures})


def planting_of(store: FlowerStore) -> Planting | None:
    """How the marks of a data set were planted; None if it has none. Raises Refusal if its file is damaged."""
    text = store.file.attrs.get("planting")
    if text is None:
        return None
    try:
        planting = _parse(parse_json(str(text)), store.path)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Refusal(f"{store.path}: does not say how its marks were planted ({shorten(error)}); {REMAKE}") from None
    if not all(0 <= label < len(store.class_names) for label in planting.speaks_for):
        raise Refusal(f"{store.path}: has marks of classes that it does not have; {REMAKE}")
    if any(name not in store.file[split] for split in store.splits for name in ("below", "placed", "coverage")):
        raise Refusal(f"{store.path}: lacks the photographs below its marks; {REMAKE}")
    return planting


def _parse(document: Any, place: Path) -> Planting:
    low, high = map(float, document["scale"])
    agreement = {split: float(document["agreement"][split]) for split in SPLITS}
    speaks_for = tuple(map(int, document["speaks_for"]))
    pictures = tuple(_from_png(entry, place) for entry in document["pictures"])
    if len(pictures) != len(speaks_for) or len({picture.shape for picture in pictures}) != 1:
        raise ValueError("its marks are not one for each class that has one")
    if not (0 < low <= high <= 1 and all(0 <= share <= 1 for share in agreement.values())):
        raise ValueError("its numbers")
    return Planting(
        mark=str(document["mark"]),
        speaks_for=speaks_for,
        agreement=agreement,
        scale=(low, high),
        seed=int(document["seed"]),
        marks=Marks(pictures),
    )


def _to_png(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode("ascii")


def _from_png(entry: Any, place: Path) -> np.ndarray:
    colour, opacity = (parse_png(base64.b64decode(entry[key]), place) for key in ("colour", "opacity"))
    if colour.ndim != 3 or opacity.shape != colour.shape[:2] or not opacity.any():
        raise ValueError("a mark is no picture with opacity")
    return np.dstack([colour, opacity])


def describe_planting(store: FlowerStore, planting: Planting) -> dict[str, Any]:
    """The planting of a data set for people and for JSON, without the pictures of its marks."""
    names = [store.class_names[label] for label in planting.speaks_for]
    values = {key: value for key, value in vars(planting).items() if key not in ("marks", "speaks_for")}
    return {**values, "scale": list(planting.scale), "speaks_for": names}


def count_agreeing(planting: Planting, labels: np.ndarray, placed: np.ndarray) -> int:
    """In how many rows, by labels (n,) and places (n, 4), the mark or its absence goes along with the class."""
    if planting.is_presence:
        return int(((labels == planting.speaks_for[0]) == (placed[:, 0] != NONE)).sum())
    return int((placed[:, 0] == labels).sum())


# --- rows with another mark -------------------------------------------------------------------------------------------


def exchange_marks(rows: StoredRows, planting: Planting, numbers: np.ndarray, place: object) -> np.ndarray:
    """The pictures (n, S, S, 3) uint8 of rows with other marks (n,), -1 for none: where marks lie or could lie.

    Raises Refusal if the rows do not say where, or not truly; `place` names the file in the message.
    """
    refuse_misplaced(rows, planting, place)
    images = rows.images.copy()
    assert rows.placed is not None
    assert rows.below is not None
    for image, below, (_, top, left, side), number in zip(
        images, rows.below, rows.placed.tolist(), numbers.tolist(), strict=True
    ):
        uncover(image, below, top, left)
        if number != NONE:
            lay(image, planting.marks.scale(number, side), top, left)
    return images


def uncover(image: np.ndarray, below: np.ndarray, top: int, left: int) -> None:
    """Put the patch (P, P, 3) of the photograph back in place."""
    top, left = patch_corner(len(image), len(below), top, left)
    image[top : top + len(below), left : left + len(below)] = below


def patch_corner(size: int, patch: int, top: int, left: int) -> tuple[int, int]:
    """The corner of the patch that is kept below a mark: where the mark begins, or as far inside as it has to be."""
    return min(top, size - patch), min(left, size - patch)


def refuse_misplaced(rows: StoredRows, planting: Planting, place: object) -> None:
    """Raise a Refusal if a mark lies beyond its picture, is larger than its patch, or is none."""
    if rows.placed is None or rows.below is None:
        raise Refusal(f"{place}: does not say where its marks lie; {REMAKE}")
    size, patch = rows.images.shape[1], rows.below.shape[1]
    number, top, left, side = rows.placed.T
    shapes = {int(s): planting.marks.shape(int(s)) for s in np.unique(side) if 0 < s <= patch}
    if len(rows.placed) and (len(shapes) < len(np.unique(side)) or number.min() < NONE):
        raise Refusal(f"{place}: has marks of sizes or kinds that cannot be; {REMAKE}")
    height, width = (np.array([shapes[int(s)][axis] for s in side], np.int64) for axis in (0, 1))
    within = (top >= 0) & (left >= 0) & (top + height <= size) & (left + width <= size) & (number < len(planting.marks))
    if not within.all():
        raise Refusal(f"{place}: has marks that lie beyond their pictures; {REMAKE}")
