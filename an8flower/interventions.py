"""Rows as they would be if something were otherwise: factors tables in which some values are changed, all else equal.

What a class factor says is changed by giving the row another class's values; what is left to chance is drawn again.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from . import draw
from .evidence import discriminative_parts
from .factors import FACTORS, PARTS, part_of
from .spec import DatasetSpec, Range


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


def redrawn(
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


def near_class(spec: DatasetSpec, label: int, chance: float) -> int:
    """Another class that differs from this one in as few parts as any does; `chance` in [0, 1) picks among them."""
    others = [other for other in range(spec.class_count) if other != label]
    apart = {other: len(discriminative_parts(spec, label, other)) for other in others}
    nearest = [other for other in others if apart[other] == min(apart.values())]
    return nearest[int(chance * len(nearest))]


def _most(spec: DatasetSpec, name: str) -> float:
    """The largest value that a count takes in any row."""
    given = spec.classes.get(name, spec.nuisance.get(name, 1))
    return given.high if isinstance(given, Range) else max(map(float, given if isinstance(given, tuple) else (given,)))
