"""The effect map: which pixels of a picture a model uses to tell the picture's class from the other ones, and how much.

The same scene is rendered as another class, its twin. Along the path from the twin to the scene, the gradient of the
gap (the logit of the target less that of the other class) is integrated: what a pixel's change adds to the gap is its
effect. The maps of several other classes are averaged. Nothing leaves the data: a path of colours is rendered anew at
each point; where classes differ in anything else, the path is a blend of the two pictures.

The sum of a map is the mean gap between scene and twin; by how much it is not is the completeness error of the row.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import Refusal
from an8flower.factors import COLOURS, FACTORS
from an8flower.gate.regular import FileKind
from an8flower.interventions import as_class

from ...case import Case
from ...data.world import World
from ...models.classifier import Classifier
from ...models.networks.arithmetic import identity_of_arithmetic
from ...models.networks.batched_passes import Network, input_gradient
from ...models.networks.guard import evaluating
from ...models.safetensors_files import LARGEST, UNWRITABLE, read_tensors, write_tensors
from ...seeds import generator, seed_of
from ..masking import require_classifier

VERSION = 1
BUDGET = 32  # passes forwards and backwards that the map of a row may cost
MOST_TWINS = 8  # other classes of a row at most: three points of each path remain then
BOUND = 0.25  # the completeness error from which a row has no effect map
WHY_UNDEFINED = f"the completeness error of the effect map is above {BOUND:g}, or the model tells no twin apart"
IN_MEMORY = 8  # batches whose effect maps are kept in memory
FORMAT = "an8flower effects 1"
EFFECTS = FileKind("effect maps", LARGEST, "delete it, and it is made anew")


class EffectMaps(NamedTuple):
    """Effect maps of rows, with how far each is from closing."""

    maps: Tensor  # (B, H, W) float32 in units of the logit, signed; NaN in rows without one
    errors: Tensor  # (B,) float32: what is missing or too much, as a share of the gaps; NaN where all gaps are 0
    gaps: Tensor  # (B,) float32: the mean rise of the gap from the twins to the scene


def twins_of(world: World, rows: Tensor, labels: Tensor) -> Tensor:
    """The other classes of rows (B,) in an order fixed by the row's index, (B, K) int64: all, MOST_TWINS at most."""
    classes = world.spec.class_count
    chosen = []
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        order = torch.randperm(classes, generator=generator(seed_of("twins", row))).tolist()
        chosen.append([other for other in order if other != label][:MOST_TWINS])
    return torch.tensor(chosen, dtype=torch.int64, device=labels.device).reshape(len(labels), -1)


def points_within(budget: int, twins: int) -> int:
    """How many points of each path a row can afford; a pass forwards alone, of an end, counts as half."""
    return max(1, (budget - (twins + 2) // 2) // twins)


def measure_effects(case: Case, twins: Tensor | None = None, points: int | None = None) -> EffectMaps:
    """Integrate the gradient of the gap for each row of a case; the model is given back as it was.

    Args:
        twins: the other classes (B, K) int64; all of them, up to MOST_TWINS, unless said otherwise.
        points: of each path; as many as BUDGET allows unless said otherwise.
    """
    world, truth, query = _world_of(case), case.truth, case.query
    if twins is None:
        twins = twins_of(world, truth.rows, truth.labels)
    points = points or points_within(BUDGET, twins.shape[1])
    network = at_least_single_copy(require_classifier(case.classifier))
    table = world.factors(truth.rows)
    maps = torch.zeros_like(query.images[:, 0], dtype=torch.float64)
    rises = []
    with network.holding(require_classifier(case.classifier).in_flight), evaluating(network):
        before = _logits(network, query.images)
        for others in twins.unbind(1):
            path = ScenePath.between(world, table, truth.labels, others, query.images)
            pairs = torch.stack([query.targets, others], 1)
            maps += integrate(network, path, pairs, points) / twins.shape[1]
            rises.append((gap(before, pairs) - gap(_logits(network, path.twins), pairs)).double())
    return _close(maps, torch.stack(rises, 1))


def _close(maps: Tensor, rises: Tensor) -> EffectMaps:
    """The maps (B, H, W) beside the rises of the gaps (B, K), NaN where a map does not close."""
    errors = (maps.flatten(1).sum(1) - rises.mean(1)).abs() / rises.abs().mean(1)
    closed = errors <= BOUND  # not of NaN, where there is nothing to explain
    return EffectMaps(maps.where(closed[:, None, None], torch.nan).float(), errors.float(), rises.mean(1).float())


def at_least_single_copy(classifier: Classifier) -> Classifier:
    """The classifier itself, or a copy in single precision where its weights have less."""
    if classifier.dtype in (torch.float32, torch.float64):
        return classifier
    return copy.deepcopy(classifier).float()


def gap(logits: Tensor, pairs: Tensor) -> Tensor:
    """The logit of the first class of each pair less that of the second: (B, C), (B, 2) int64 -> (B,)."""
    first, second = logits.gather(1, pairs).unbind(1)
    return first - second


@torch.no_grad()
def _logits(classifier: Classifier, images: Tensor) -> Tensor:
    """The logits (B, C) of images, not more of them at once than the network may hold."""
    return torch.cat([classifier(portion) for portion in images.split(classifier.in_flight)])


class PicturePath(Protocol):
    """A way from pictures of one kind to pictures of another."""

    @property
    def twins(self) -> Tensor: ...  # (B, 3, H, W): where it starts

    @property
    def scenes(self) -> Tensor: ...  # (B, 3, H, W): where it ends

    def at(self, place: float) -> Tensor:
        """The pictures (B, 3, H, W) at a place of the path, 0 its start and 1 its end."""
        ...


@dataclass(frozen=True)
class BlendPath:
    """The straight way from pictures to others, through blends of the two."""

    twins: Tensor  # (B, 3, H, W)
    scenes: Tensor  # (B, 3, H, W)

    def at(self, place: float) -> Tensor:
        """The blends (B, 3, H, W) at a place of the path."""
        return torch.lerp(self.twins, self.scenes, place)


def integrate(network: Network, path: PicturePath, pairs: Tensor, points: int) -> Tensor:
    """The integral of the gap's gradient along a path, summed over the channels, (B, H, W) float64.

    The path has as many stretches as points. The gradient in the middle of each is multiplied by what the picture
    changes from its start to its end; so a model that is linear closes exactly, on any path.
    """
    total = torch.zeros_like(path.scenes[:, 0], dtype=torch.float64)
    last = path.twins
    for number in range(points):
        reached = path.scenes if number == points - 1 else path.at((number + 1) / points)
        with torch.enable_grad():
            gradient = input_gradient(network, path.at((number + 0.5) / points), pairs, gap)
        total += (gradient.double() * (reached - last).double()).sum(1)
        last = reached
    return total


@dataclass(frozen=True)
class ScenePath:
    """The way from the twins of rows to the rows: rendered where only colours differ, else blended."""

    world: World
    scenes: Tensor  # (B, 3, H, W): the rows as they are
    twins: Tensor  # (B, 3, H, W): the same scenes as the other class
    table: np.ndarray  # (B,): the factors of the rows
    twin_table: np.ndarray  # (B,): those of the twins
    smooth: Tensor  # (B,) bool: whether only colours differ, so that there are scenes in between

    @classmethod
    def between(cls, world: World, table: np.ndarray, labels: Tensor, others: Tensor, scenes: Tensor) -> ScenePath:
        """The path from rows as other classes (B,) to rows (B, 3, H, W) of a factors table (B,)."""
        twin_table = as_class(world.spec, table, others.cpu().numpy())
        pairs = zip(labels.tolist(), others.tolist(), strict=True)
        smooth = torch.tensor([_differ_in_colour(world, *pair) for pair in pairs], device=scenes.device)
        return cls(world, scenes, world.photograph(twin_table).images, table, twin_table, smooth)

    def at(self, place: float) -> Tensor:
        """The pictures (B, 3, H, W) at a place of the path, 0 the twin and 1 the scene."""
        pictures = torch.lerp(self.twins, self.scenes, place)
        if self.smooth.any():
            chosen = self.smooth.cpu().numpy()
            mixed = mix_colours(self.world, self.twin_table[chosen], self.table[chosen], place)
            pictures[self.smooth] = self.world.photograph(mixed).images
        return pictures


def mix_colours(world: World, first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The second factors table (n,) with the colours that tell classes mixed: 0 those of the first table, 1 its own."""
    mixed = second.copy()
    for name in world.spec.classes:
        if FACTORS[name].kind == "colour":
            pairs = zip(first[name].ravel().tolist(), second[name].ravel().tolist(), strict=True)
            colours = [mix_colour(start.decode(), end.decode(), share) for start, end in pairs]
            mixed[name] = np.array(colours, mixed[name].dtype).reshape(mixed[name].shape)
    return mixed


def mix_colour(first: str, second: str, share: float) -> str:
    """A colour between two colours of the palette or of digits, as digits.

    >>> mix_colour("#000000", "#ff0080", 0.5)
    '#800040'
    """
    codes = [COLOURS.get(colour, colour)[1:] for colour in (first, second)]
    start, end = (np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) for code in codes)
    return "#" + "".join(f"{round(value):02x}" for value in ((1 - share) * start + share * end).tolist())


def _differ_in_colour(world: World, label: int, other: int) -> bool:
    """Whether two classes differ in colours alone."""
    factors = [name for name, values in world.spec.classes.items() if values[label] != values[other]]
    return all(FACTORS[name].kind == "colour" for name in factors)


def effects_of(case: Case, points: int | None = None) -> EffectMaps:
    """The effect maps of a case as `measure_effects` gives them, measured once for all methods.

    The last few are kept in memory; where the world has a folder, all lie there too, in a file for each model, rows
    and version of this file. A file that is damaged, or not ours, is made anew.
    """
    identity = _identity(case, points)
    if identity not in _MEMORY:
        folder = _world_of(case).folder
        path = None if folder is None else folder / f"effects-{identity[:16]}.safetensors"
        effects = None if path is None else read_effects(path, identity)
        if effects is None:
            effects = measure_effects(case, points=points)
            if path is not None:
                write_effects(path, identity, effects)
        _MEMORY[identity] = EffectMaps(*(tensor.cpu() for tensor in effects))
        while len(_MEMORY) > IN_MEMORY:
            _MEMORY.popitem(last=False)
    _MEMORY.move_to_end(identity)
    return EffectMaps(*(tensor.to(case.query.images.device) for tensor in _MEMORY[identity]))


_MEMORY: OrderedDict[str, EffectMaps] = OrderedDict()


def _identity(case: Case, points: int | None) -> str:
    """A digest of all that the effect maps of a case depend on."""
    split = _world_of(case).split
    rows, targets = case.truth.rows.tolist(), case.query.targets.tolist()
    model = require_classifier(case.classifier).digest
    arithmetic = identity_of_arithmetic(case.query.images.device)
    words = [VERSION, points, model, split.store.fingerprint, split.name, rows, targets, *arithmetic]
    document = json.dumps(words)
    return hashlib.sha256(document.encode()).hexdigest()


def read_effects(path: Path, identity: str) -> EffectMaps | None:
    """Read effect maps from a file; None if there is no file, or it holds others."""
    try:
        metadata, tensors = read_tensors(path, EFFECTS)
    except Refusal:
        return None
    return EffectMaps(**tensors) if metadata == {"format": FORMAT, "identity": identity} else None


def write_effects(path: Path, identity: str, effects: EffectMaps) -> None:
    """Write effect maps to a file, whole or not at all."""
    with suppress(*UNWRITABLE):
        write_tensors(path, effects._asdict(), {"format": FORMAT, "identity": identity})


def _world_of(case: Case) -> World:
    assert case.world is not None, "where nothing can be rendered, metrics that need it are left out"
    return case.world
