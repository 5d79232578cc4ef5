"""Rows photographed again with what is left to chance drawn anew, as far as it moves no pixel of the scene."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from an8flower import interventions
from an8flower.factors import FACTORS, part_of
from an8flower.spec import DatasetSpec

from ..data.world import World
from .questions import class_parts

ELSE = ("background.kind", "background.texture")  # beside colours, what changes pixels where they are


def unmoving_factors(spec: DatasetSpec) -> list[str]:
    """The factors left to chance that change colours, and not where anything is; evidence and shortcut keep theirs."""
    evidence = class_parts(spec)
    shortcut = spec.shortcut.factor if spec.shortcut else None
    return [
        name
        for name in interventions.nuisance_of(spec)
        if (FACTORS[name].kind == "colour" or name in ELSE) and part_of(name) not in evidence and name != shortcut
    ]


def photograph_again(world: World, rows: Tensor, repeat: int) -> tuple[Tensor, np.ndarray]:
    """Pictures (n, 3, S, S) of rows (n,) with those factors drawn again, and whether nothing moved in each, (n,) bool.

    A row in which some pixel shows another part than before, or in which the picture is the same, does not count.
    """
    table = world.factors(rows)
    names = unmoving_factors(world.spec)
    changed = interventions.redraw(world.spec, world.split.name, rows.cpu().numpy(), table, names, repeat)
    before, after = world.photograph(table), world.photograph(changed)
    still = (before.parts == after.parts).flatten(1).all(1)
    other = (before.images != after.images).flatten(1).any(1)
    return after.images, (still & other).cpu().numpy()
