"""Rows as they would be if something were otherwise: factors tables in which some values are changed, all else equal.

What a class factor says is changed by giving the row another class's values; what is left to chance is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np

from . import draw
from .evidence import discriminative_parts
from .factors import FACTORS, PARTS, part_of
from .looks import ABSENT, class_look
from .spec import DatasetSpec
from .terms import Range

SUPPRESSOR = "suppressor"  # the group of the two factors that share a value


def as_class(spec: DatasetSpec, table: np.ndarray, classes: np.ndarray, part: str | None = None) -> np.ndarray:
    """The same scenes with the class factors of other classes (n,), or those of one part alone."""
    changed = table.copy()
    for name, values in spec.classes.items():
        if part is None or part_of(name) == part:
            draw.fill(changed, name, np.array(values)[classes])
    return changed


def with_shortcut(spec: DatasetSpec, table: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The same scenes with the shortcut's value that goes along with classes (n,); the spec has to have a shortcut."""
    changed = table.copy()
    if spec.shortcut:
        draw.fill(changed, spec.shortcut.factor, np.array(spec.shortcut.values)[classes])
    return changed


def without(table: np.ndarray, part: str) -> np.ndarray:
    """The same scenes without a part."""
    return draw.override(table, {f"{part}.count": 0})


def redraw(
    spec: DatasetSpec, split: str, rows: np.ndarray, table: np.ndarray, names: Collection[str], repeat: int
) -> np.ndarray:
    """The same scenes with some nuisance factors drawn again; every `repeat` (from 0) is another draw."""
    changed = table.copy()
    if len(rows):
        again = draw.factors(another_draw(spec, repeat), split, int(rows.min()), int(rows.max()) + 1)
        for name in names:
            changed[name] = again[name][rows - rows.min()]
    return changed


def another_draw(spec: DatasetSpec, repeat: int) -> DatasetSpec:
    """The spec of rows that share nothing with these but what the spec says of all; none of them lies in any file."""
    return spec.model_copy(update={"seed": spec.seed + (repeat + 1) * 2**40})


def nuisance_of(spec: DatasetSpec, part: str | None = None) -> list[str]:
    """The factors that are left to chance: all of them, or those of a part (or of the `background`)."""
    names = [name for name in FACTORS if name not in spec.classes]
    return names if part is None else [name for name in names if name.partition(".")[0] == part]


def parts_of(spec: DatasetSpec) -> tuple[str, ...]:
    """The parts that some row has, the background left out, in the order of their ids."""
    return tuple(part for part in PARTS[1:] if _most(spec, f"{part}.count") > 0)


def groups_of(spec: DatasetSpec) -> dict[str, list[str]]:
    """What is left to chance and can be seen, by whose it is: `petals`, `head`, `view`, `light`, `background`, ...

    What a suppressor changes in evidence and background together is a group of its own, `suppressor`.
    """
    unseen = set(PARTS[1:]) - set(parts_of(spec))
    groups: dict[str, list[str]] = {}
    for name in nuisance_of(spec):
        owner = name.partition(".")[0]
        if owner not in unseen and _varies(spec, name):
            groups.setdefault(owner, []).append(name)
    return groups | ({SUPPRESSOR: list(spec.suppressor.factors)} if spec.suppressor else {})


def has(table: np.ndarray, part: str) -> np.ndarray:
    """Which scenes (n,) bool have a part; what is not counted, such as the background, all have."""
    name = f"{part}.count"
    return table[name] > 0 if name in FACTORS else np.ones(len(table), bool)


def apart(spec: DatasetSpec, part: str) -> np.ndarray:
    """Whether a part looks otherwise in one class than in another: (C, C) bool."""
    looks = [class_look(spec, label).get(part) for label in range(spec.class_count)]
    return np.array([[first != second for second in looks] for first in looks])


def shortcut_apart(spec: DatasetSpec, table: np.ndarray) -> np.ndarray:
    """Whether the shortcut would have another value in a scene if it went along with a class: (n, C) bool."""
    if not spec.shortcut:
        return np.zeros((len(table), spec.class_count), bool)
    now = table[spec.shortcut.factor].reshape(len(table), -1)[:, :1]
    return now != np.array(spec.shortcut.values).astype(now.dtype)


def shows_shortcut(spec: DatasetSpec, table: np.ndarray) -> np.ndarray:
    """In which scenes (n,) bool the shortcut's value can be seen: those with the part that carries it."""
    if not spec.shortcut:
        return np.zeros(len(table), bool)
    carrier, _, attribute = spec.shortcut.factor.partition(".")
    return has(table, carrier) | (attribute == "count")


def occurs(spec: DatasetSpec, label: int, part: str, donor: int) -> bool:
    """Whether some class looks like this one with a part of another: if so, a swap does not leave the data."""
    mixed = {**class_look(spec, label), part: class_look(spec, donor).get(part)}
    return any(class_look(spec, other) == mixed for other in range(spec.class_count))


def can_lack(spec: DatasetSpec, label: int, part: str) -> bool:
    """Whether rows that look like a class but for a missing part occur in the data."""
    if part in {part_of(name) for name in spec.classes}:
        bare = {**class_look(spec, label), part: ABSENT}
        return any(class_look(spec, other) == bare for other in range(spec.class_count))
    return _extreme(spec, f"{part}.count", min) == 0


def near_class(spec: DatasetSpec, label: int, chance: float, part: str | None = None) -> int:
    """Another class that differs from this one in as few parts as any does; `chance` in [0, 1) picks among them.

    Where a part is given, which has to be evidence for the class, only classes that differ in it are looked at.
    """
    others = [other for other in range(spec.class_count) if other != label]
    differing = {other: discriminative_parts(spec, label, other) for other in others}
    counts = {other: len(parts) for other, parts in differing.items() if part is None or part in parts}
    nearest = [other for other, parts in counts.items() if parts == min(counts.values())]
    return nearest[int(chance * len(nearest))]


def _most(spec: DatasetSpec, name: str) -> float:
    """The largest value that a count takes in any row."""
    return _extreme(spec, name, max)


def _extreme(spec: DatasetSpec, name: str, which: Callable[[Iterable[float]], float]) -> float:
    """The smallest or the largest value that a count takes in any row."""
    given = spec.classes.get(name, spec.nuisance.get(name, 1))
    if isinstance(given, Range):
        return which((given.low, given.high))
    return which(map(float, given if isinstance(given, tuple) else (given,)))


def _varies(spec: DatasetSpec, name: str) -> bool:
    """Whether a factor that tells no class differs between rows."""
    if (spec.shortcut and name == spec.shortcut.factor) or (spec.suppressor and name in spec.suppressor.factors):
        return True
    given = spec.nuisance[name]
    return given.low < given.high if isinstance(given, Range) else isinstance(given, tuple) and len(set(given)) > 1
