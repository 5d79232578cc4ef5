"""What a certificate asks: the same rows with one thing changed, as factors tables that wait to be photographed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch

from an8flower import interventions
from an8flower.evidence import sufficient_sets
from an8flower.factors import part_of
from an8flower.spec import DatasetSpec

from ..data.world import World
from ..metrics.interventions.reliance import donors_of, redundant_sets, shortcut_rivals
from ..seeds import seed_of

DONORS = 5  # other classes whose look, or whose shortcut, a row is given; all of them where there are no more
DRAWS = 2  # times that what is left to chance is drawn again
ALL = "everything"  # the group of all that is left to chance

QuestionKind = Literal["followed", "redrawn", "swapped", "removed", "contradicted", "sufficient"]


class Question(NamedTuple):
    """One change to every row that a certificate asks about."""

    kind: QuestionKind
    about: str  # a part, parts joined by +, a group of factors, or nothing in particular
    scenes: Callable[[], np.ndarray]  # the factors table (n,) after the change
    applies: np.ndarray  # (n,) bool: in which rows the change makes sense
    classes: np.ndarray  # (n,) int64: the class that the change comes from, -1 where it comes from none
    in_the_data: np.ndarray  # (n,) bool


@dataclass(frozen=True)
class CertifiedRows:
    """The rows that a certificate asks about, with their labels and factors."""

    world: World
    indices: np.ndarray  # (n,) within the split
    labels: np.ndarray  # (n,)
    table: np.ndarray  # (n,) their factors
    seed: int

    @property
    def spec(self) -> DatasetSpec:
        """The spec that the rows were made from."""
        return self.world.spec

    def donors(self, candidates: np.ndarray, name: str, count: int) -> np.ndarray:
        """Draw up to `count` classes for each row among candidates (n, C) bool: (count, n), -1 if there are no more."""
        return donors_of(candidates, self.indices, count, seed_of(self.seed, name))


def rows_of(world: World, indices: np.ndarray, seed: int) -> CertifiedRows:
    """Gather rows of a split with their labels and factors."""
    return CertifiedRows(world, indices, world.split.labels[indices], world.factors(torch.from_numpy(indices)), seed)


def questions_about(rows: CertifiedRows) -> Iterator[Question]:
    """Ask every question that the certificate rests on."""
    yield from _follow(rows)
    yield from _redraw(rows)
    for part in interventions.parts_of(rows.spec):
        yield from _swap(rows, part)
        yield from _remove(rows, part)
    if rows.spec.shortcut:
        yield from _contradict(rows)
    for parts in redundant_sets(rows.spec):
        yield from _swap_set(rows, parts)


def _follow(rows: CertifiedRows) -> Iterator[Question]:
    """Give the rows the class factors of other classes, all else equal."""
    others = np.arange(rows.spec.class_count) != rows.labels[:, None]
    for classes in rows.donors(others, "followed", DONORS):
        scenes = partial(interventions.as_class, rows.spec, rows.table, _or_own(classes, rows.labels))
        yield Question("followed", "", scenes, classes >= 0, classes, classes >= 0)


def _redraw(rows: CertifiedRows) -> Iterator[Question]:
    """Draw again what is left to chance: all of it, and each group by itself."""
    everything = interventions.nuisance_of(rows.spec)
    for group, names in {ALL: everything, **interventions.groups_of(rows.spec)}.items():
        there = interventions.has(rows.table, group)
        for draw in range(DRAWS):
            repeat = rows.seed * DRAWS + draw
            scenes = partial(
                interventions.redraw, rows.spec, rows.world.split.name, rows.indices, rows.table, names, repeat
            )
            yield Question("redrawn", group, scenes, there, np.full(len(there), -1), there)


def _swap(rows: CertifiedRows, part: str) -> Iterator[Question]:
    """Make one part look as in another class; a part that carries the shortcut gets another class's value of it."""
    spec, shortcut = rows.spec, rows.spec.shortcut
    if part in class_parts(spec):
        (classes,) = rows.donors(interventions.apart(spec, part)[rows.labels], part, 1)
        scenes = partial(interventions.as_class, spec, rows.table, _or_own(classes, rows.labels), part)
        pairs = zip(rows.labels.tolist(), classes.tolist(), strict=True)
        known = np.array([interventions.occurs(spec, label, part, donor) for label, donor in pairs])
        yield Question("swapped", part, scenes, classes >= 0, classes, known)
    elif shortcut and part_of(shortcut.factor) == part:
        there = interventions.shows_shortcut(spec, rows.table)[:, None]
        (classes,) = rows.donors(interventions.shortcut_apart(spec, rows.table) & there, part, 1)
        scenes = partial(interventions.with_shortcut, spec, rows.table, classes)
        yield Question("swapped", part, scenes, classes >= 0, classes, classes >= 0)


def _remove(rows: CertifiedRows, part: str) -> Iterator[Question]:
    """Take one part away from the rows that have it."""
    there = interventions.has(rows.table, part)
    lacking = np.array([interventions.can_lack(rows.spec, label, part) for label in rows.labels.tolist()])
    scenes = partial(interventions.without, rows.table, part)
    yield Question("removed", part, scenes, there, np.full(len(there), -1), lacking)


def _contradict(rows: CertifiedRows) -> Iterator[Question]:
    """Give the rows the shortcut's value of other classes than their own."""
    for classes in rows.donors(shortcut_rivals(rows.world, rows.table, rows.labels), "contradicted", DONORS):
        scenes = partial(interventions.with_shortcut, rows.spec, rows.table, classes)
        yield Question("contradicted", "", scenes, classes >= 0, classes, classes >= 0)


def _swap_set(rows: CertifiedRows, parts: frozenset[str]) -> Iterator[Question]:
    """Give rows that can be told by a set of parts this set of another class that can be told by it as well."""
    sets = [sufficient_sets(rows.spec, label) for label in range(rows.spec.class_count)]
    tells = np.array([any(minimal <= parts for minimal in of_class) for of_class in sets])
    others = (np.arange(len(tells)) != rows.labels[:, None]) & tells & tells[rows.labels][:, None]
    (classes,) = rows.donors(others, "sufficient", 1)
    scenes = partial(_with_parts_of, rows, _or_own(classes, rows.labels), parts)
    yield Question("sufficient", name_set(parts), scenes, classes >= 0, classes, np.zeros(len(classes), bool))


def _with_parts_of(rows: CertifiedRows, classes: np.ndarray, parts: frozenset[str]) -> np.ndarray:
    """The scenes of the rows with some parts as in other classes (n,)."""
    table = rows.table
    for part in sorted(parts):
        table = interventions.as_class(rows.spec, table, classes, part)
    return table


def name_set(parts: frozenset[str]) -> str:
    """The name of a set of parts, as in `disc+petals`."""
    return "+".join(sorted(parts))


def _or_own(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Replace classes (n,) that are -1, for lack of a donor, by the row's own label."""
    return np.where(classes < 0, labels, classes)


def class_parts(spec: DatasetSpec) -> set[str | None]:
    """The parts whose factors tell the classes apart."""
    return {part_of(name) for name in spec.classes}
