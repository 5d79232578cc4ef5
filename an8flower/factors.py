"""The catalogue: every factor of a scene, what values it may take, and how it varies if a spec does not mention it.

A factor is `part.attribute`, or an attribute of the scene (`view`, `light`, `background`, `head`). Adding one here
makes it known to specs, to the factors table of a file and to scenes; nothing else lists them.

Data sets outlive the catalogue, so it grows by three rules. A new part goes to the end of PARTS, and its count is 0 by
default. A new factor of a part that is there already has a default with which pictures look as they did before. Whoever
changes what a factor means, or a default, raises CATALOGUE by one: then every digest changes, because pictures do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

CATALOGUE = 1  # the version of what factors mean and of their defaults; part of every spec's digest
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


class Ends(NamedTuple):
    """A range from which values are drawn evenly, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Factor:
    """The values that one factor may take, and how it varies unless a spec says otherwise."""

    kind: Kind
    words: str  # what the factor is, for people
    default: Value | Ends
    low: float = 0.0  # bounds of counts and numbers, both included
    high: float = 0.0
    choices: tuple[str, ...] = ()
    items: int = 1  # how many independent values a row has (one for each ball, say)
    period: float = 0.0  # after which a number means the same again, as 360 degrees do; 0 if it never does

    @property
    def dtype(self) -> np.dtype:
        """The numpy type of the factor in the factors table: ASCII text, int32 or float64."""
        scalar = {"count": "i4", "number": "f8"}.get(self.kind, "S16")
        return np.dtype((scalar, (self.items,))) if self.items > 1 else np.dtype(scalar)

    def normalise(self, value: Value) -> Value:
        """Map values that look the same in a picture to one value: a colour to its digits, an angle to one turn.

        >>> FACTORS["petals.colour"].normalise("red"), FACTORS["petals.phase"].normalise(360)
        ('#e0202c', 0.0)
        """
        if self.kind == "colour":
            return COLOURS.get(str(value), value)
        return float(value) % self.period if self.period else value


def _colour(words: str, default: str, items: int = 1) -> Factor:
    return Factor("colour", words, default, items=items)


def _choice(words: str, default: str, *choices: str) -> Factor:
    return Factor("choice", words, default, choices=choices)


def _count(words: str, default: int, high: int, low: int = 0) -> Factor:
    return Factor("count", words, default, low=low, high=high)


def _number(words: str, default: Ends, low: float, high: float, items: int = 1) -> Factor:
    return Factor("number", words, default, low, high, items=items)


def _angle(words: str, default: Ends, low: float, high: float) -> Factor:
    return Factor("number", words, default, low, high, period=360)


MAX_BALLS = 8

FACTORS: Mapping[str, Factor] = MappingProxyType(
    {
        "petals.count": _count("how many petals a ring has", 8, 16),
        "petals.whorls": _count("rings of petals, one within the other", 1, 2, low=1),
        "petals.shape": _choice("form of a petal", "oval", "round", "oval", "long"),
        "petals.colour": _colour("colour of all petals", "white"),
        "petals.size": _number("length of a petal, in units of the usual one", Ends(0.9, 1.1), 0.5, 1.5),
        "petals.opening": _number(
            "degrees above the plane of the head: 70 is a cup, below 0 droops", Ends(0, 25), -20, 70
        ),
        "petals.phase": _angle("degrees by which the ring is turned", Ends(0, 360), 0, 360),
        "petals.hue": Factor("number", "degrees by which the hue of the petals is turned", 0.0, -180, 180, period=360),
        "disc.count": _count("1 if the flower has a disc in the middle of its head", 1, 1),
        "disc.colour": _colour("colour of the disc", "gold"),
        "disc.size": _number("diameter of the disc, in units of the usual one", Ends(0.9, 1.1), 0.5, 1.5),
        "head.tilt": _number("degrees between the head's direction and straight up", Ends(25, 60), 0, 90),
        "head.azimuth": _angle(
            "degrees between the head's direction and the camera: a tilted head follows the viewer",
            Ends(-55, 55),
            -180,
            180,
        ),
        "stem.count": _count("1 if the flower has a stem", 1, 1),
        "stem.colour": _colour("colour of the stem", "leaf"),
        "stem.width": _number("thickness of the stem, in units of the usual one", Ends(0.9, 1.1), 0.5, 2.0),
        "stem.bend": _number("sideways shift of the stem's middle, in units of its height", Ends(0, 0.15), 0, 0.4),
        "stem.azimuth": _angle("degrees around the stem: where its bend points", Ends(0, 360), 0, 360),
        "leaves.count": _count("how many leaves the stem has", 2, 4),
        "leaves.shape": _choice("form of a leaf", "oval", "round", "oval", "long"),
        "leaves.colour": _colour("colour of all leaves", "leaf"),
        "leaves.size": _number("length of a leaf, in units of the usual one", Ends(0.85, 1.15), 0.5, 1.5),
        "leaves.height": _number("where the lowest leaf grows: share of the stem's height", Ends(0.3, 0.5), 0.1, 0.8),
        "leaves.azimuth": _angle("degrees around the stem: where the lowest leaf points", Ends(0, 360), 0, 360),
        "pot.count": _count("1 if the flower stands in a pot", 0, 1),
        "pot.shape": _choice("form of the pot", "bowl", "bowl", "vase"),
        "pot.colour": _colour("colour of the pot", "terracotta"),
        "pot.size": _number("width of the pot, in units of the usual one", Ends(0.9, 1.1), 0.5, 1.5),
        "distractors.count": _count("how many balls lie about", 0, MAX_BALLS),
        "distractors.colour": _colour("colour of each ball", "neutral", items=MAX_BALLS),
        "distractors.x": _number(
            "place of each ball across the picture: -1 left edge, 1 right edge",
            Ends(-0.9, 0.9),
            -1,
            1,
            MAX_BALLS,
        ),
        "distractors.y": _number(
            "height of each ball in the picture: -1 lower edge, 1 upper edge", Ends(-0.9, 0.9), -1, 1, MAX_BALLS
        ),
        "distractors.depth": _number(
            "depth of each ball: -1 behind the plant, 1 before it", Ends(-1, 1), -1, 1, MAX_BALLS
        ),
        "distractors.size": _number(
            "diameter of each ball, in units of the usual one", Ends(0.7, 1.3), 0.3, 2.0, MAX_BALLS
        ),
        "tag.count": _count("1 if a label lies before the plant", 0, 1),
        "tag.colour": _colour("colour of the label", "neutral"),
        "tag.x": _number("place of the label across the picture: -1 left edge, 1 right edge", Ends(-0.85, 0.85), -1, 1),
        "tag.y": _number("height of the label in the picture: -1 lower edge, 1 upper edge", Ends(-0.85, -0.75), -1, 1),
        "tag.size": _number("size of the label, in units of the usual one", Ends(0.9, 1.1), 0.5, 2.0),
        "view.azimuth": _angle("degrees around the stem from which one looks", Ends(0, 360), 0, 360),
        "view.elevation": _number("degrees above the horizon: 90 looks straight down", Ends(5, 50), -10, 90),
        "view.scale": _number("size of the plant in the picture: 1 fills its height", Ends(0.74, 0.92), 0.3, 2.0),
        "view.x": _number(
            "shift of the plant to the right: share of the picture's width", Ends(-0.17, 0.17), -0.5, 0.5
        ),
        "view.y": _number("shift of the plant upwards: share of the picture's width", Ends(-0.08, 0.08), -0.5, 0.5),
        "light.azimuth": _angle("degrees from the camera: negative comes from the left", Ends(-70, 70), -180, 180),
        "light.elevation": _number("degrees above the horizon from which the light comes", Ends(30, 70), 0, 90),
        "light.strength": _number("strength of the light, in units of the usual one", Ends(0.85, 1.15), 0.3, 1.7),
        "background.kind": _choice(
            "what lies behind the plant",
            "gradient",
            "plain",
            "gradient",
            "textured",
            "noise",
            "leaves",
            "scramble",
            "photo",
        ),
        "background.colour": _colour("colour of what lies behind the plant", "sky"),
        "background.texture": Factor("count", "seed of the texture", Ends(0, 2**31 - 1), high=2**31 - 1),
        "background.contrast": Factor(
            "number", "strength of noise, leaves and photographs, in units of the usual one", 1.0, 0, 1.5
        ),
        "background.exponent": Factor(
            "number", "power of the frequency by which the amplitude of noise falls: 1 as in photographs", 1.0, 0, 2
        ),
        "background.scale": _number(
            "size of the largest leaves and waves; of a photograph, the share of its shorter side that is seen",
            Ends(0.5, 1.0),
            0.1,
            1.0,
        ),
        "background.hues": Factor("number", "how far noise and leaves stray from their colour", 0.4, 0, 1),
        "background.hue": Factor(
            "number", "degrees by which the hue of the background's colour is turned", 0.0, -180, 180, period=360
        ),
        "background.photograph": Factor(
            "count", "which photograph of the split, counted round and round", Ends(0, 2**31 - 1), high=2**31 - 1
        ),
        "background.x": _number("place of the crop of a photograph: 0 at its left, 1 at its right", Ends(0, 1), 0, 1),
        "background.y": _number("place of the crop of a photograph: 0 at its top, 1 at its foot", Ends(0, 1), 0, 1),
        "background.flip": Factor("count", "1 if the photograph is mirrored", Ends(0, 1), high=1),
    }
)


def part_of(factor: str) -> str | None:
    """The part to which a factor belongs, or None for a factor of the scene.

    >>> part_of("petals.colour"), part_of("view.azimuth"), part_of("background.colour")
    ('petals', None, None)
    """
    owner = factor.partition(".")[0]
    return owner if owner in PARTS[1:] else None


def table_dtype() -> np.dtype:
    """The compound type of one row of the factors table: one field for each factor, in the catalogue's order."""
    return np.dtype([(name, factor.dtype) for name, factor in FACTORS.items()])
