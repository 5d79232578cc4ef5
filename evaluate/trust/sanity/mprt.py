"""Model parameter randomisation tests: what becomes of a method's maps when the model is drawn anew, layer by layer.

Every explanation of a randomised model is made once, and compared by all similarities. Both sides of a comparison have
the same images, targets and seeds: noise that a method draws, and not its model, makes its maps alike, and counts
against it.

Source: Adebayo et al., NeurIPS 2018 (cascading, independent); Hedström et al., Sanity Checks Revisited, XAI in Action
workshop, NeurIPS 2023 (smooth, efficient).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...case import Query
from ...models.classifier import Classifier
from ...seeds import generator, seed_of
from .layers import Step
from .randomisation import RandomisableCopy, RedrawnParameter
from .similarity import ComparedMaps, entropies, similarities

Explain = Callable[[Classifier, Query], Tensor]  # maps (N, H, W) float32
Note = Callable[[Collection[str], int, Tensor], None]  # what was drawn anew, in which draw, and the maps (N, H, W)
Likeness = dict[str, np.ndarray]  # by similarity: (N,)
Order = Literal["cascading", "independent", "bottom_up"]
NOISE = 0.1  # standard deviation of the smooth test's noise, as a share of an image's range


@dataclass(frozen=True)
class Randomisation:
    """The parameters that are drawn anew, step by step, and the copy of the model that takes them on."""

    copy: RandomisableCopy
    steps: tuple[Step, ...]  # from the logits down
    draws: tuple[dict[str, RedrawnParameter], ...]  # the whole network, drawn from several seeds
    calibration: Tensor | None = None  # images to take batch norms' statistics from; None keeps the trained ones
    note: Note = lambda parameters, draw, maps: None  # called with all maps that are made

    @property
    def everything(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(name for step in self.steps for name in step.parameters)

    def maps(self, explain: Explain, query: Query, names: Collection[str], draw: int = 0) -> Tensor:
        """The maps (N, H, W) of a method on the model with these parameters drawn anew."""
        with self.copy.only(names, self.draws[draw], self.calibration) as classifier:
            maps = explain(classifier, query)
        self.note(names, draw, maps)
        return maps


@dataclass(frozen=True)
class Point:
    """A step of a walk down or up the network, and how alike the maps still are."""

    layer: str
    likeness: Likeness


def parameters_reached(steps: Sequence[Step], order: Order) -> list[tuple[str, tuple[str, ...]]]:
    """Each step's name, with the parameters that are drawn anew when a walk in this order has come to it."""
    walk = list(reversed(steps)) if order == "bottom_up" else list(steps)
    if order == "independent":
        return [(step.name, step.parameters) for step in walk]
    return [
        (step.name, tuple(name for passed in walk[: count + 1] for name in passed.parameters))
        for count, step in enumerate(walk)
    ]


def walk_down(
    randomisation: Randomisation,
    explain: Explain,
    query: Query,
    original: ComparedMaps,
    *,
    known: dict[frozenset[str], Likeness],
) -> dict[str, list[Point]]:
    """Walk from the logits down, cascading and independently; where the walks meet, the model is explained once.

    `known` holds the similarities computed so far, by the parameters that were drawn anew, and receives the others.
    """
    walks: dict[str, list[Point]] = {}
    for order in ("cascading", "independent"):
        walks[order] = []
        for name, parameters in parameters_reached(randomisation.steps, order):
            key = frozenset(parameters)
            if key not in known:
                known[key] = similarities(original, ComparedMaps(randomisation.maps(explain, query, parameters)))
            walks[order].append(Point(name, known[key]))
    return walks


@dataclass(frozen=True)
class FullRandomisation:
    """The similarities and entropies with every parameter drawn anew; the last axis counts the draws."""

    likeness: Likeness  # (N, D)
    rise: np.ndarray  # (N, D): of the entropy, relative to the original map's; NaN where that has none


def randomise_fully(
    randomisation: Randomisation, explain: Explain, query: Query, original: ComparedMaps
) -> FullRandomisation:
    """The efficient test, and the similarities at the end of the cascade, for every draw."""
    before = entropies(original)
    before = np.where(before > 0, before, np.nan)
    likeness, rises = [], []
    for draw in range(len(randomisation.draws)):
        maps = ComparedMaps(randomisation.maps(explain, query, randomisation.everything, draw))
        likeness.append(similarities(original, maps))
        rises.append((entropies(maps) - before) / before)
    stacked = {name: np.stack([of_draw[name] for of_draw in likeness], 1) for name in likeness[0]}
    return FullRandomisation(stacked, np.stack(rises, 1))


def walk_smoothly(randomisation: Randomisation, explain: Explain, query: Query, samples: int) -> list[Point]:
    """The smooth test: a walk from the input up, in which every map is the mean over noisy images.

    Signed maps are averaged, then compared.
    """
    noisy = [add_noise(query, sample) for sample in range(samples)]

    def average_maps(parameters: Collection[str]) -> ComparedMaps:
        total = torch.zeros_like(query.images[:, 0])
        for portion in noisy:
            total += randomisation.maps(explain, portion, parameters)
        return ComparedMaps(total / samples)

    original = average_maps(())
    return [
        Point(name, similarities(original, average_maps(parameters)))
        for name, parameters in parameters_reached(randomisation.steps, "bottom_up")
    ]


def add_noise(query: Query, sample: int) -> Query:
    """A query whose images have Gaussian noise, drawn for each row from its own seed, and are kept in [0, 1]."""
    images = query.images
    noise = [
        torch.randn(images.shape[1:], generator=generator(seed_of("smooth", seed, sample)))
        for seed in query.seeds.tolist()
    ]
    spread = NOISE * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    return query._replace(images=(images + spread * torch.stack(noise).to(images)).clamp(0, 1))
