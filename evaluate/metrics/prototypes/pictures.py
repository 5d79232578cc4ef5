"""The pictures that belong to judged prototypes, as `results.prototype_results` describes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from an8flower.store import FlowerSplit

from ...data.images import as_images
from ...models.networks.guard import evaluating
from ...results.prototype_results import Example, JudgedPrototype
from .examples import RESEMBLED
from .judge import PrototypeJudge
from .locating import network_of, similarity_maps
from .patches import window_side
from .training_patches import TRAINING


def draw_pictures(
    judge: PrototypeJudge, prototypes: Sequence[JudgedPrototype], examples: Sequence[Example]
) -> dict[str, np.ndarray]:
    """The arrays of a model's prototypes, those that are found anywhere, and of its examples."""
    shown = [prototype for prototype in prototypes if prototype.patches]
    return {
        "numbers": np.array([prototype.number for prototype in shown], np.int64),
        "strongest": read_pictures(judge.split, [prototype.patches[0].row for prototype in shown]),
        "sources": _draw_sources(judge, shown),
        "crops": np.stack([_draw_crops(judge, prototype) for prototype in shown]) if shown else _no_crops(judge)[:0],
        "examples": read_pictures(judge.split, [example.row for example in examples]),
        "example_maps": _draw_maps(judge, examples),
    }


def read_pictures(split: FlowerSplit, rows: Sequence[int]) -> np.ndarray:
    """The pictures (n, S, S, 3) uint8 of rows in any order, some of them perhaps several times."""
    indices, places = np.unique(np.array(rows, np.int64), return_inverse=True)
    return np.asarray(split.take(indices).images[places])


def _draw_sources(judge: PrototypeJudge, shown: Sequence[JudgedPrototype]) -> np.ndarray:
    """The training row of the source of each prototype; black where there is none."""
    sources = np.zeros((len(shown), judge.size, judge.size, 3), np.uint8)
    rows = {place: prototype.source.row for place, prototype in enumerate(shown) if prototype.source}
    if rows:
        sources[list(rows)] = read_pictures(judge.split.store[TRAINING], list(rows.values()))
    return sources


def _no_crops(judge: PrototypeJudge) -> np.ndarray:
    """Black windows, as many as a prototype has patches at most."""
    side = window_side(judge.usual.where.grid, judge.size)
    return np.zeros((judge.strongest, side, side, 3), np.uint8)


def _draw_crops(judge: PrototypeJudge, prototype: JudgedPrototype) -> np.ndarray:
    """The windows around the strongest patches of a prototype; black where there are fewer."""
    crops, pictures = _no_crops(judge), read_pictures(judge.split, [patch.row for patch in prototype.patches])
    for crop, patch, picture in zip(crops, prototype.patches, pictures, strict=False):
        crop[:] = picture[patch.window.top : patch.window.bottom, patch.window.left : patch.window.right]
    return crops


def _draw_maps(judge: PrototypeJudge, examples: Sequence[Example]) -> np.ndarray:
    """The maps of the prototypes of each example."""
    maps = np.zeros((len(examples), RESEMBLED, *judge.usual.where.grid), np.float32)
    network = network_of(judge.classifier)
    with evaluating(judge.classifier), torch.no_grad():
        for place, example in enumerate(examples):
            images = as_images(read_pictures(judge.split, [example.row]), judge.classifier.device)
            numbers = [resemblance.number for resemblance in example.resembles]
            located = similarity_maps(network, judge.classifier.normalise(images))[0, numbers]
            maps[place, : len(numbers)] = located.cpu().numpy()
    return maps
