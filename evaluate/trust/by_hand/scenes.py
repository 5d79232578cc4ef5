"""Scenes in which a part's colour alone says what a hand-set network answers: bright colours, and all else grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from an8flower.generate import make_rows
from an8flower.spec import DatasetSpec, from_mapping
from an8flower.writing import Block

from ...data.images import as_images

SIZE = 42  # pixels
PRIMARY = ("#e01010", "#10e010", "#1010e0")
SECONDARY = ("#10e0e0", "#e010e0", "#e0e010")  # each the complement of the primary colour in its place
GREY = "#808080"
# How the flower stands: near, seen from above, in an even light, and where it is in the picture is left to chance.
POSE: Mapping[str, Any] = MappingProxyType(
    {
        "petals.count": 12,
        "petals.size": 1.0,
        "petals.shape": "oval",
        "disc.size": 1.4,
        "head.tilt": {"from": 40, "to": 55},
        "head.azimuth": {"from": -25, "to": 25},
        "view.elevation": {"from": 30, "to": 45},
        "view.scale": 1.15,
        "view.x": {"from": -0.22, "to": 0.22},
        "view.y": {"from": -0.15, "to": 0.05},
        "light.strength": 1.0,
        "light.azimuth": {"from": -40, "to": 40},
        "light.elevation": {"from": 50, "to": 65},
        "background.kind": "plain",
    }
)
COLOURED = ("petals", "disc", "stem", "leaves", "background")


class HandScene(NamedTuple):
    """Rows of a scene, as explainers and judges see them."""

    images: Tensor  # (n, 3, S, S) float32 in [0, 1]
    labels: Tensor  # (n,) int64
    parts: Tensor  # (n, S, S) uint8: id of the part visible at the pixel's centre
    masks: Tensor  # (n, S, S) uint8: the evidence of the data set's classes


def words_of_scene(classes: Mapping[str, Any], chance: Mapping[str, Sequence[str]], rows: int = 48) -> dict[str, Any]:
    """The spec of a scene in words: what tells its classes, what colours are left to chance; all else is grey."""
    grey = {f"{part}.colour": GREY for part in COLOURED}
    named = {*classes, *classes.get("product", {})}
    nuisance = {**grey, **POSE, **{name: list(values) for name, values in chance.items()}}
    return {
        "name": "by-hand",
        "size": SIZE,
        "rows": {"train": rows, "val": 3, "test": rows},
        "classes": dict(classes),
        "nuisance": {name: value for name, value in nuisance.items() if name not in named},
    }


WORDS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "petals": words_of_scene({"petals.colour": list(PRIMARY)}, {"disc.colour": SECONDARY}),
        "pairs": words_of_scene(
            {"product": {"petals.colour": list(PRIMARY[:2]), "disc.colour": list(SECONDARY[:2])}}, {}
        ),
        "both": words_of_scene({"petals.colour": list(PRIMARY), "disc.colour": list(SECONDARY)}, {}),
        "ground": words_of_scene({"petals.colour": list(SECONDARY)}, {"background.colour": PRIMARY}),
        "backdrop": words_of_scene({"petals.colour": list(PRIMARY)}, {"background.colour": SECONDARY}),
    }
)
"""The specs of the scenes in words, by their names."""


def spec_of(scene: str) -> DatasetSpec:
    """The spec of a scene, from which `generate` makes the same rows."""
    return from_mapping(WORDS[scene], scene)


@cache
def render_scene(scene: str, split: str, rows: int) -> HandScene:
    """The first rows of a split of a scene; rendered once in a process."""
    stored = make_rows(spec_of(scene), Block(split, 0, rows))
    return HandScene(
        as_images(stored.images, torch.device("cpu")),
        torch.from_numpy(stored.labels).long(),
        torch.from_numpy(stored.parts),
        torch.from_numpy(stored.masks),
    )
