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
from ...models.networks.batched_passes import logit
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
    visible_pixels: Tensor  # (B, P) float64: pixels of the part in the row
    unseen: Unseen

    def relevance(self, maps: Tensor, parts: Tensor) -> Tensor:
        """The sum of maps (B, H, W) over each part's pixels, (B, P) float64; part maps (B, H, W)."""
        return part_sums(maps, parts) + self._beyond(maps)

    def sizes(self, maps: Tensor) -> Tensor:
        """Pixels of each part, (B, P) float64; of a part that is not seen in its row, the mean over the changes."""
        return self.visible_pixels + self._beyond(torch.ones_like(maps))

    def _beyond(self, maps: Tensor) -> Tensor:
        """The sum of maps over the pixels where parts are seen only after their change, (B, P) float64."""
        rows, parts, where, weights = self.unseen
        inside = (maps[rows].double() * where).flatten(1).sum(1) * weights
        return sum_by_part(self.visible_pixels.shape, rows, parts, inside)


def measure_swaps(batch: Interventions) -> Effects:
    """The effects of changing each part, the background too, as the data vary it; the mean of the random changes.

    They are measured once for all methods of a run.
    """
    values = dict(batch.measure_once("swaps", lambda: pack_effects(render_swaps(batch))))
    return Effects(values.pop("drops"), values.pop("visible_pixels"), Unseen(**values))


def pack_effects(effects: Effects) -> dict[str, Tensor]:
    """Effects as tensors by name."""
    return {"drops": effects.drops, "visible_pixels": effects.visible_pixels, **effects.unseen._asdict()}


def render_swaps(batch: Interventions) -> Effects:
    """The effects of swaps, from rows that are rendered with each part changed."""
    changes = list_swaps(batch)
    logits, unseen = classify_changes(batch, changes)
    rows, parts = changes.rows, changes.parts
    targets = batch.case.query.targets
    falls = (logit(batch.logits, targets)[rows] - logit(logits, targets[rows])).double()
    counts = sum_by_part(batch.visible_pixels.shape, rows, parts, torch.ones_like(falls))
    drops = sum_by_part(batch.visible_pixels.shape, rows, parts, falls) / counts  # 0 / 0 where nothing was changed
    unseen = unseen._replace(weights=1 / counts[unseen.rows, unseen.parts])
    beyond = sum_by_part(batch.visible_pixels.shape, unseen.rows, unseen.parts, unseen.where.flatten(1).sum(1).double())
    return Effects(
        round_effects(batch, drops).where(batch.visible_pixels + beyond > 0, torch.nan), batch.visible_pixels, unseen
    )


def measure_removals(batch: Interventions) -> Effects:
    """The effects of taking each visible part away; the background cannot be."""
    rows, parts = (batch.visible_pixels[:, 1:] > 0).nonzero().T
    targets = batch.case.query.targets
    drops = torch.full_like(batch.visible_pixels, torch.nan)
    if len(rows):
        logits = batch.logits_without(rows, BITS.to(rows.device)[parts + 1])
        falls = logit(batch.logits, targets)[rows] - logit(logits, targets[rows])
        drops[rows, parts + 1] = falls.double()
    nowhere = torch.zeros(0, *batch.maps.shape[1:], dtype=torch.bool, device=rows.device)
    none = Unseen(rows[:0], parts[:0], nowhere, batch.visible_pixels.new_zeros(0))
    return Effects(round_effects(batch, drops), batch.visible_pixels, none)


def round_effects(batch: Interventions, drops: Tensor) -> Tensor:
    """Round effects (B, P) to steps of GRAIN, so that rounding errors put no parts in order."""
    grain = GRAIN * batch.logits.double().abs().amax(1, keepdim=True).clamp(min=torch.finfo().tiny)
    return (drops / grain).round() * grain


def sum_by_part(shape: torch.Size, rows: Tensor, parts: Tensor, values: Tensor) -> Tensor:
    """Sum values (n,) by row and part: float64 of the given shape (B, P)."""
    sums = torch.zeros(shape, dtype=torch.float64, device=values.device)
    return sums.index_put((rows, parts), values, accumulate=True)


def classify_changes(batch: Interventions, changes: Changes) -> tuple[Tensor, Unseen]:
    """The logits (n, C) after each change, and where the changed parts are that their rows do not show."""
    new = batch.visible_pixels[changes.rows, changes.parts] == 0
    logits, where = [], []
    for start, pictures in zip(range(0, len(changes.table), IN_SIGHT), batch.photograph(changes.table), strict=True):
        portion = slice(start, start + IN_SIGHT)
        logits.append(batch.logits_of(pictures.images))
        where.append(pictures.parts[new[portion]] == changes.parts[portion][new[portion], None, None])
    rows, parts = changes.rows[new], changes.parts[new]
    return torch.cat(logits), Unseen(rows, parts, torch.cat(where), batch.visible_pixels.new_zeros(len(rows)))


def list_swaps(batch: Interventions) -> Changes:
    """Every change of every part: evidence becomes that of a class nearby, anything else what it could as well be."""
    tables, rows, parts = [], [], []
    for part, indices, table in swaps_by_part(batch):
        new = differing_rows(table, batch.table[indices])
        tables.append(table[new])
        rows.append(indices[new])
        parts.append(np.full(int(new.sum()), PARTS.index(part)))
    where = (torch.from_numpy(np.concatenate(arrays)).to(batch.maps.device) for arrays in (rows, parts))
    return Changes(np.concatenate(tables), *where)


def swaps_by_part(batch: Interventions) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a part, rows of the batch (n,), and their factors (n,) with that part changed, part by part."""
    again = redraw_nuisance(batch)
    shortcut = batch.spec.shortcut
    for part in (PARTS[0], *interventions.parts_of(batch.spec)):
        is_evidence = np.array([part in evidence_parts(batch.spec, label) for label in batch.labels])
        evident, other = np.flatnonzero(is_evidence), np.flatnonzero(~is_evidence)
        if len(evident):
            yield part, evident, as_near_class(batch, evident, part)
        if shortcut and owner(shortcut.factor) == part:
            yield part, other, with_other_shortcut(batch, other)
        else:
            yield from ((part, other, redraw_part(batch, other, table, part)) for table in again)


def redraw_nuisance(batch: Interventions) -> list[np.ndarray]:
    """Draw again what is left to chance in the rows' factors: a table (B,) for each draw."""
    rows, names = batch.case.truth.rows.cpu().numpy(), interventions.nuisance_of(batch.spec)
    split = batch.world.split.name
    return [interventions.redraw(batch.spec, split, rows, batch.table, names, draw) for draw in range(DRAWS)]


def as_near_class(batch: Interventions, rows: np.ndarray, part: str) -> np.ndarray:
    """Rows (n,) with one evidence part of a class that differs in it, and in as little else as any."""
    indices = batch.case.truth.rows.tolist()
    chances = [seed_of("near class", indices[row]) / 2**63 for row in rows]
    pairs = zip(rows, chances, strict=True)
    near = [interventions.near_class(batch.spec, batch.labels[row], chance, part) for row, chance in pairs]
    return interventions.as_class(batch.spec, batch.table[rows], np.array(near), part)


def with_other_shortcut(batch: Interventions, rows: np.ndarray) -> np.ndarray:
    """Rows (n,) with the shortcut of the near class; where they show that one already, with that of their own."""
    truth, table = batch.case.truth, batch.table[rows]
    near = batch.world.near_classes(truth.rows, truth.labels).cpu().numpy()[rows]
    changed = interventions.with_shortcut(batch.spec, table, near)
    same = ~differing_rows(changed, table)
    changed[same] = interventions.with_shortcut(batch.spec, table[same], np.array(batch.labels)[rows][same])
    return changed


def redraw_part(batch: Interventions, rows: np.ndarray, again: np.ndarray, part: str) -> np.ndarray:
    """Rows (n,) with what is left to chance of one part taken from another draw (B,)."""
    changed = batch.table[rows]
    for name in interventions.nuisance_of(batch.spec, part):
        changed[name] = again[name][rows]
    return changed


def differing_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which rows of two factors tables (n,) differ, (n,) bool."""
    wide = (len(first), first.dtype.itemsize)
    left, right = (np.ascontiguousarray(table).view(np.uint8).reshape(wide) for table in (first, second))
    return (left != right).any(1)


def owner(factor: str) -> str:
    """The name of what a factor belongs to: a part, the background, or something without pixels such as the light."""
    return factor.partition(".")[0]
