"""The catalogue: every factor of a scene, what values it may take, and how it varies where a spec is silent.

A factor is `part.attribute`, or an attribute of the scene (`view`, `light`, `background`, `head`). Adding one here
makes it known to specs, to the factors table of a file and to scenes; nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

PARTS = ("background", "petals", "disc", "stem", "leaves", "pot", "distractors", "tag")  # index = id in the part maps

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        # saturated: for the parts that carry a class
        "red": "#e0202c",
        "orange": "#f7861e",
        "yellow": "#f9dc2b",
        "green": "#37b34a",
        "turquoise": "#25bdb0",
        "blue": "#2f62e3",
        "violet": "#8a3ed0",
        "magenta": "#e335a6",
        "pink": "#f9a3bf",
        "white": "#f8f6f0",
        # muted: for everything else
        "neutral": "#b9b3ab",
        "gold": "#e6a91c",
        "brown": "#6d4426",
        "cream": "#f0dfb0",
        "leaf": "#4c8f3a",
        "moss": "#6d8a35",
        "pine": "#2f6b45",
        "terracotta": "#b9623f",
        "slate": "#5d6b7a",
        "sand": "#cdb68c",
        "sky": "#bfd8f0",
        "mist": "#dfe5e8",
        "dusk": "#c8c1dc",
        "meadow": "#cbddb2",
        "linen": "#e6ddcc",
        "stone": "#a8a49b",
    }
)

Kind = Literal["colour", "choice", "count", "number"]
Value = str | int | float


class Span(NamedTuple):
    """A range to draw from evenly, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Factor:
    """What one factor may be, and how it varies unless a spec says otherwise."""

    kind: Kind
    default: Value | Span
    low: float = 0.0  # bounds of counts and numbers, both included
    high: float = 0.0
    choices: tuple[str, ...] = ()
    items: int = 1  # how many independent values a row has (one for each ball, say)

    @property
    def dtype(self) -> np.dtype:
        """How the value is stored in the factors table: ASCII text, int32 or float64."""
        scalar = {"count": "i4", "number": "f8"}.get(self.kind, "S16")
        return np.dtype((scalar, (self.items,))) if self.items > 1 else np.dtype(scalar)


def _colour(default: str, items: int = 1) -> Factor:
    return Factor("colour", default, items=items)


def _choice(default: str, *choices: str) -> Factor:
    return Factor("choice", default, choices=choices)


def _count(default: int, high: int) -> Factor:
    return Factor("count", default, high=high)


def _number(default: Span, low: float, high: float, items: int = 1) -> Factor:
    return Factor("number", default, low, high, items=items)


MAX_BALLS = 8

FACTORS: Mapping[str, Factor] = MappingProxyType(
    {
        "petals.count": _count(8, 16),
        "petals.whorls": Factor("count", 1, low=1, high=2),
        "petals.shape": _choice("oval", "round", "oval", "long"),
        "petals.colour": _colour("white"),
        "petals.size": _number(Span(0.9, 1.1), 0.5, 1.5),  # length, in units of the usual one
        "petals.opening": _number(Span(0, 25), -20, 70),  # degrees above the head's plane: 70 is a cup, below 0 droops
        "petals.phase": _number(Span(0, 360), 0, 360),  # degrees by which the ring is turned
        "disc.count": _count(1, 1),
        "disc.colour": _colour("gold"),
        "disc.size": _number(Span(0.9, 1.1), 0.5, 1.5),
        "head.tilt": _number(Span(25, 60), 0, 90),  # degrees from looking straight up
        "head.azimuth": _number(Span(-55, 55), -180, 180),  # degrees from the camera: a tilted head follows the viewer
        "stem.count": _count(1, 1),
        "stem.colour": _colour("leaf"),
        "stem.width": _number(Span(0.9, 1.1), 0.5, 2.0),
        "stem.bend": _number(Span(0, 0.15), 0, 0.4),  # sideways shift of the middle, in units of the height
        "stem.azimuth": _number(Span(0, 360), 0, 360),  # degrees: where the bend points
        "leaves.count": _count(2, 4),
        "leaves.shape": _choice("oval", "round", "oval", "long"),
        "leaves.colour": _colour("leaf"),
        "leaves.size": _number(Span(0.85, 1.15), 0.5, 1.5),
        "leaves.height": _number(Span(0.3, 0.5), 0.1, 0.8),  # of the lowest leaf, in units of the stem's height
        "leaves.azimuth": _number(Span(0, 360), 0, 360),  # degrees: where the lowest leaf points
        "pot.count": _count(0, 1),
        "pot.shape": _choice("bowl", "bowl", "vase"),
        "pot.colour": _colour("terracotta"),
        "pot.size": _number(Span(0.9, 1.1), 0.5, 1.5),
        "distractors.count": _count(0, MAX_BALLS),
        "distractors.colour": _colour("neutral", items=MAX_BALLS),
        "distractors.x": _number(Span(-0.9, 0.9), -1, 1, items=MAX_BALLS),  # across: -1 left edge, 1 right edge
        "distractors.y": _number(Span(-0.9, 0.9), -1, 1, items=MAX_BALLS),  # -1 lower edge, 1 upper edge
        "distractors.depth": _number(Span(-1, 1), -1, 1, items=MAX_BALLS),  # -1 behind the plant, 1 before it
        "distractors.size": _number(Span(0.7, 1.3), 0.3, 2.0, items=MAX_BALLS),
        "tag.count": _count(0, 1),
        "tag.colour": _colour("neutral"),
        "tag.x": _number(Span(-0.85, 0.85), -1, 1),
        "tag.y": _number(Span(-0.85, -0.75), -1, 1),
        "tag.size": _number(Span(0.9, 1.1), 0.5, 2.0),
        "view.azimuth": _number(Span(0, 360), 0, 360),  # degrees around the stem
        "view.elevation": _number(Span(5, 50), -10, 90),  # degrees above the horizon: 90 looks straight down
        "view.scale": _number(Span(0.74, 0.92), 0.3, 2.0),
        "view.x": _number(Span(-0.17, 0.17), -0.5, 0.5),  # shift of the plant, in units of the picture's width
        "view.y": _number(Span(-0.08, 0.08), -0.5, 0.5),
        "light.azimuth": _number(Span(-70, 70), -180, 180),  # degrees from the camera: negative comes from the left
        "light.elevation": _number(Span(30, 70), 0, 90),
        "light.strength": _number(Span(0.85, 1.15), 0.3, 1.7),
        "background.kind": _choice("gradient", "plain", "gradient", "textured"),
        "background.colour": _colour("sky"),
        "background.texture": Factor("count", Span(0, 2**31 - 1), high=2**31 - 1),  # seed of the texture
    }
)


def part_of(factor: str) -> str | None:
    """The part that a factor belongs to, None for one of the scene.

    >>> part_of("petals.colour"), part_of("view.azimuth"), part_of("background.colour")
    ('petals', None, None)
    """
    owner = factor.partition(".")[0]
    return owner if owner in PARTS[1:] else None


def table_dtype() -> np.dtype:
    """The compound type of one row of the factors table: one field for each factor, in the catalogue's order."""
    return np.dtype([(name, factor.dtype) for name, factor in FACTORS.items()])
