"""What each part of a row does to the target's logit: the part is changed, or taken away, all else being equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from an8flower import interventions
from an8flower.evidence import evidence_parts
from an8flower.factors import PARTS

from ...data.world import IN_SIGHT
from ...models.networks.passes import logit
from ...seeds import seed_of
from .effects import BITS, Interventions, part_sums

DRAWS = 3  # how often what is left to chance is drawn again
GRAIN = 1e-5  # of the row's largest logit; effects that are closer are equal, since rounding differs between batches


class Changes(NamedTuple):
    """Rows of a batch, each with one part changed; a row comes once for each of its parts and draws."""

    table: np.ndarray  # (n,) their factors after the change
    rows: Tensor  # (n,) int64: positions in the batch
    parts: Tensor  # (n,) int64: which part was changed


class Unseen(NamedTuple):
    """Parts that their row hides or lacks, where they are seen after a change."""

    rows: Tensor  # (k,) int64
    parts: Tensor  # (k,) int64
    where: Tensor  # (k, H, W) bool
    weights: Tensor  # (k,) float64: one over the number of changes of this part


@dataclass(frozen=True, eq=False)
class Effects:
    """How much the target's logit falls when a part is changed, and where that part is."""

    drops: Tensor  # (B, P) float64; NaN where the part cannot be changed, or is seen neither before nor after
    seen: Tensor  # (B, P) float64: pixels of the part in the row
    unseen: Unseen

    def relevance(self, maps: Tensor, parts: Tensor) -> Tensor:
        """The sum of maps (B, H, W) over each part's pixels, (B, P) float64; part maps (B, H, W)."""
        return part_sums(maps, parts) + self._beyond(maps)

    def sizes(self, maps: Tensor) -> Tensor:
        """Pixels of each part, (B, P) float64; of a part that is not seen in its row, the mean over the changes."""
        return self.seen + self._beyond(torch.ones_like(maps))

    def _beyond(self, maps: Tensor) -> Tensor:
        """The sum of maps over what is seen only after the change."""
        rows, parts, where, weights = self.unseen
        inside = (maps[rows].double() * where).flatten(1).sum(1) * weights
        return added(self.seen.shape, rows, parts, inside)


def swapped(asked: Interventions) -> Effects:
    """Each part, the background included, changed as the data vary it; the mean where chance decides."""
    changes = swaps(asked)
    logits, unseen = looked_at(asked, changes)
    rows, parts = changes.rows, changes.parts
    targets = asked.case.query.targets
    falls = (logit(asked.logits, targets)[rows] - logit(logits, targets[rows])).double()
    counts = added(asked.seen.shape, rows, parts, torch.ones_like(falls))
    drops = added(asked.seen.shape, rows, parts, falls) / counts  # 0 / 0 where nothing was changed
    unseen = unseen._replace(weights=1 / counts[unseen.rows, unseen.parts])
    beyond = added(asked.seen.shape, unseen.rows, unseen.parts, unseen.where.flatten(1).sum(1).double())
    return Effects(levelled(asked, drops).where(asked.seen + beyond > 0, torch.nan), asked.seen, unseen)


def removed(asked: Interventions) -> Effects:
    """Each part that is seen taken away; the background cannot be."""
    rows, parts = (asked.seen[:, 1:] > 0).nonzero().T
    targets = asked.case.query.targets
    drops = torch.full_like(asked.seen, torch.nan)
    if len(rows):
        logits = asked.removed(rows, BITS.to(rows.device)[parts + 1])
        falls = logit(asked.logits, targets)[rows] - logit(logits, targets[rows])
        drops[rows, parts + 1] = falls.double()
    nowhere = torch.zeros(0, *asked.maps.shape[1:], dtype=torch.bool, device=rows.device)
    none = Unseen(rows[:0], parts[:0], nowhere, asked.seen.new_zeros(0))
    return Effects(levelled(asked, drops), asked.seen, none)


def levelled(asked: Interventions, drops: Tensor) -> Tensor:
    """Effects (B, P) in steps of GRAIN, so that rounding errors are no order."""
    grain = GRAIN * asked.logits.double().abs().amax(1, keepdim=True).clamp(min=torch.finfo().tiny)
    return (drops / grain).round() * grain


def added(shape: torch.Size, rows: Tensor, parts: Tensor, values: Tensor) -> Tensor:
    """Values (n,) summed by row and part, float64 of the given shape (B, P)."""
    sums = torch.zeros(shape, dtype=torch.float64, device=values.device)
    return sums.index_put((rows, parts), values, accumulate=True)


def looked_at(asked: Interventions, changes: Changes) -> tuple[Tensor, Unseen]:
    """What the model says after each change, (n, C), and where changed parts that their rows do not show then are."""
    new = asked.seen[changes.rows, changes.parts] == 0
    logits, where = [], []
    for start, pictures in zip(range(0, len(changes.table), IN_SIGHT), asked.photographed(changes.table), strict=True):
        some = slice(start, start + IN_SIGHT)
        logits.append(asked.says(pictures.images))
        where.append(pictures.parts[new[some]] == changes.parts[some][new[some], None, None])
    rows, parts = changes.rows[new], changes.parts[new]
    return torch.cat(logits), Unseen(rows, parts, torch.cat(where), asked.seen.new_zeros(len(rows)))


def swaps(asked: Interventions) -> Changes:
    """Every change of every part: evidence becomes that of a class nearby, anything else what it could as well be."""
    tables, rows, parts = [], [], []
    for part, some, table in swaps_by_part(asked):
        new = unlike(table, asked.table[some])
        tables.append(table[new])
        rows.append(some[new])
        parts.append(np.full(int(new.sum()), PARTS.index(part)))
    where = (torch.from_numpy(np.concatenate(each)).to(asked.maps.device) for each in (rows, parts))
    return Changes(np.concatenate(tables), *where)


def swaps_by_part(asked: Interventions) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A part, rows of the batch (n,), and their factors (n,) with that part changed."""
    again = redrawn(asked)
    shortcut = asked.spec.shortcut
    for part in (PARTS[0], *interventions.parts_of(asked.spec)):
        told = np.array([part in evidence_parts(asked.spec, label) for label in asked.labels])
        evident, other = np.flatnonzero(told), np.flatnonzero(~told)
        if len(evident):
            yield part, evident, as_near_class(asked, evident, part)
        if shortcut and owner(shortcut.factor) == part:
            yield part, other, with_other_shortcut(asked, other)
        else:
            yield from ((part, other, mixed(asked, other, table, part)) for table in again)


def redrawn(asked: Interventions) -> list[np.ndarray]:
    """The batch's factors with everything that is left to chance drawn again, a table (B,) for each draw."""
    rows, names = asked.case.truth.rows.cpu().numpy(), interventions.nuisance_of(asked.spec)
    split = asked.world.split.name
    return [interventions.redraw(asked.spec, split, rows, asked.table, names, draw) for draw in range(DRAWS)]


def as_near_class(asked: Interventions, rows: np.ndarray, part: str) -> np.ndarray:
    """Rows (n,) with one evidence part of a class that differs in it, and in as little else as any."""
    indices = asked.case.truth.rows.tolist()
    chances = [seed_of("near class", indices[row]) / 2**63 for row in rows]
    pairs = zip(rows, chances, strict=True)
    near = [interventions.near_class(asked.spec, asked.labels[row], chance, part) for row, chance in pairs]
    return interventions.as_class(asked.spec, asked.table[rows], np.array(near), part)


def with_other_shortcut(asked: Interventions, rows: np.ndarray) -> np.ndarray:
    """Rows (n,) with the shortcut of the near class; where they show that one already, with that of their own."""
    truth, table = asked.case.truth, asked.table[rows]
    near = asked.world.near_classes(truth.rows, truth.labels).cpu().numpy()[rows]
    changed = interventions.with_shortcut(asked.spec, table, near)
    same = ~unlike(changed, table)
    changed[same] = interventions.with_shortcut(asked.spec, table[same], np.array(asked.labels)[rows][same])
    return changed


def mixed(asked: Interventions, rows: np.ndarray, again: np.ndarray, part: str) -> np.ndarray:
    """Rows (n,) with what is left to chance of one part taken from another draw (B,)."""
    changed = asked.table[rows]
    for name in interventions.nuisance_of(asked.spec, part):
        changed[name] = again[name][rows]
    return changed


def unlike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which rows (n,) bool of two factors tables differ."""
    wide = (len(first), first.dtype.itemsize)
    one, other = (np.ascontiguousarray(table).view(np.uint8).reshape(wide) for table in (first, second))
    return (one != other).any(1)


def owner(factor: str) -> str:
    """Whose factor it is: a part, the background, or something that no pixel belongs to."""
    return factor.partition(".")[0]
