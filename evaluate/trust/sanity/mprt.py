"""Model parameter randomisation tests: what becomes of a method's maps when the model is drawn anew, layer by layer.

Every explanation of a randomised model is made once, and compared by all similarities. Rows are dealt among the draws
of the random model: each row is explained with one draw, so that many draws cost no more explanations than one. Both
sides of a comparison have the same images, targets and seeds: noise that a method draws, and not its model, makes its
maps alike, and counts against it.

Source: Adebayo et al., NeurIPS 2018 (cascading, independent); Hedström et al., Sanity Checks Revisited, XAI in Action
workshop, NeurIPS 2023 (smooth, efficient).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
Note = Callable[[Collection[str], np.ndarray, Tensor], None]  # what was drawn anew, the places of rows, their maps
Lend = Callable[[Classifier], AbstractContextManager[None]]
Likeness = dict[str, np.ndarray]  # by similarity: (N,)
NO_GUARD: Lend = lambda classifier: nullcontext()  # noqa: E731
NO_NOTE: Note = lambda parameters, places, maps: None  # noqa: E731
Order = Literal["cascading", "independent", "bottom_up"]
NOISE = 0.1  # standard deviation of the smooth test's noise, as a share of an image's range


@dataclass(frozen=True)
class Randomisation:
    """The parameters that are drawn anew, step by step, and the copy of the model that takes them on."""

    copy: RandomisableCopy
    steps: tuple[Step, ...]  # from the logits down
    draws: Sequence[dict[str, RedrawnParameter]]  # the whole network, drawn from several seeds
    calibration: Tensor | None = None  # images to take batch norms' statistics from; None keeps the trained ones
    note: Note = NO_NOTE  # called with all maps that are made
    lend: Lend = NO_GUARD  # entered with the copy for all explanations in a row

    @property
    def everything(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(name for step in self.steps for name in step.parameters)

    @property
    def walks(self) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
        """Both walks down the network, cascading and independent, as `parameters_reached` gives them."""
        orders: tuple[Order, ...] = ("cascading", "independent")
        return {order: parameters_reached(self.steps, order) for order in orders}

    @property
    def stops(self) -> dict[frozenset[str], tuple[str, ...]]:
        """The sets of parameters that are drawn anew together on the walks down, each once; all parameters are one."""
        return {frozenset(parameters): parameters for walk in self.walks.values() for _, parameters in walk}

    def place(self, known: Mapping[frozenset[str], Likeness]) -> dict[str, list[Point]]:
        """The similarities at all stops, in the order of each walk."""
        return {
            order: [Point(name, known[frozenset(parameters)]) for name, parameters in walk]
            for order, walk in self.walks.items()
        }

    def deal(self, query: Query) -> np.ndarray:
        """The number of the draw that each row is explained with, (N,) int; a draw gets rows of all targets."""
        return deal_rows(query.targets.cpu().numpy(), len(self.draws))

    def maps(self, explain: Explain, query: Query, names: Collection[str]) -> Tensor:
        """The maps (N, H, W) of a method on the model with these parameters drawn anew."""
        return self.explain_all(explain, query, [names])[0]

    def explain_all(self, explain: Explain, query: Query, wanted: Sequence[Collection[str]]) -> list[Tensor]:
        """The maps (N, H, W) on the models with each of these sets of parameters drawn anew."""
        if not wanted:
            return []
        draws = self.deal(query)
        maps = [torch.empty_like(query.images[:, 0]) for _ in wanted]
        with self.lend(self.copy.classifier), self.copy.walking():
            for draw in np.unique(draws).tolist():
                places, values = np.flatnonzero(draws == draw), self.draws[draw]
                there = torch.from_numpy(places).to(query.images.device)
                rows = Query(*(tensor[there] for tensor in query))
                for names, into in zip(wanted, maps, strict=True):
                    with self.copy.only(names, values, self.calibration) as classifier:
                        into[there] = explain(classifier, rows)
                    self.note(names, places, into[there])
        return maps


@dataclass(frozen=True)
class Point:
    """A step of a walk down or up the network, and how alike the maps still are."""

    layer: str
    likeness: Likeness


def deal_rows(targets: np.ndarray, draws: int) -> np.ndarray:
    """Deal rows to draws, (N,) int: as many to each as to any other, give or take one, and so of each target.

    >>> deal_rows(np.array([0, 1, 0, 1]), 2)
    array([0, 0, 1, 1])
    """
    dealt = np.empty(len(targets), np.int64)
    dealt[np.argsort(targets, kind="stable")] = np.arange(len(targets)) % draws
    return dealt


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
    wanted = [parameters for key, parameters in randomisation.stops.items() if key not in known]
    for parameters, maps in zip(wanted, randomisation.explain_all(explain, query, wanted), strict=True):
        known[frozenset(parameters)] = similarities(original, ComparedMaps(maps))
    return randomisation.place(known)


@dataclass(frozen=True)
class FullRandomisation:
    """The similarities and entropies with every parameter drawn anew."""

    likeness: Likeness
    rise: np.ndarray  # (N,): of the entropy, relative to the original map's; NaN where that has none


def randomise_fully(
    randomisation: Randomisation, explain: Explain, query: Query, original: ComparedMaps
) -> FullRandomisation:
    """The efficient test, and the similarities at the end of the cascade."""
    return compare_fully(original, ComparedMaps(randomisation.maps(explain, query, randomisation.everything)))


def compare_fully(original: ComparedMaps, maps: ComparedMaps) -> FullRandomisation:
    """Compare maps of the trained model with those of models of which every parameter is drawn anew."""
    before = entropies(original)
    before = np.where(before > 0, before, np.nan)
    return FullRandomisation(similarities(original, maps), (entropies(maps) - before) / before)


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
