"""Which parts a map marks as important at a threshold, and whether the model agrees when parts are taken away.

Source: Hesse, Schaub-Meyer, Roth: FunnyBirds, ICCV 2023, and the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from an8flower.evidence import sufficient_sets
from an8flower.factors import PARTS

from ...models.networks.batched_passes import logit
from .effects import BITS, Interventions

REACH = 2 / 256  # of the image's width, by which the region of a part is widened: windows of 5 x 5 at 256 px
IRRELEVANT = 0.05  # share of the target's logit; a part whose removal costs less is irrelevant


@dataclass(frozen=True, eq=False)
class Regions:
    """Where a row's parts are, the background left out, and where evidence by absence would be if it were there."""

    asked: Interventions

    @cached_property
    def there(self) -> Tensor:
        """Which parts have pixels, (B, P) bool."""
        found = self.asked.seen > 0
        found[:, 0] = False
        rows, parts, where = self._absent
        return found.index_put((rows, parts), where.flatten(1).any(1))

    @cached_property
    def _absent(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (k,), parts (k,) and regions (k, H, W) bool of the evidence parts that rows lack."""
        asked = self.asked
        pairs = [(row, PARTS.index(part)) for row, lacked in enumerate(asked.absent) for part in lacked]
        rows, parts = torch.tensor(pairs, dtype=torch.int64, device=asked.maps.device).reshape(-1, 2).T
        if not pairs:
            return rows, parts, torch.zeros(0, *asked.maps.shape[1:], dtype=torch.bool, device=asked.maps.device)
        bits = BITS.to(parts.device)[parts]
        seen = torch.cat([pictures.parts for pictures in asked.photographed(asked.lacking(rows, bits))])
        return rows, parts, seen == parts[:, None, None]

    def covered(self, wanted: Tensor) -> Tensor:
        """Pixels (B, H, W) bool of the wanted parts (B, P) bool."""
        covered = wanted.gather(1, self.asked.parts.flatten(1).long()).view_as(self.asked.maps)
        rows, parts, where = self._absent
        for row, part, region in zip(rows.tolist(), parts.tolist(), where, strict=True):
            if wanted[row, part]:
                covered[row] |= region
        return covered

    def sums(self, maps: Tensor) -> Tensor:
        """The sum of maps (B, H, W) over each part's region and what lies closely beside it, (B, P) float64.

        0 for parts without a region.
        """
        sums = torch.zeros(self.there.shape, dtype=torch.float64, device=maps.device)
        for part in (self.asked.seen[:, 1:] > 0).any(0).nonzero()[:, 0].tolist():
            sums[:, part + 1] = inside(maps, self.asked.parts == part + 1)
        rows, parts, where = self._absent
        return sums.index_put((rows, parts), inside(maps[rows], where)) if len(rows) else sums

    def shares(self, maps: Tensor) -> Tensor:
        """These sums as shares of the sum of max(M, 0), (B, P) float64; 0 where a map has no positive value."""
        total = maps.clamp(min=0).flatten(1).sum(1, dtype=torch.float64)[:, None]
        return (self.sums(maps) / total).where(total > 0, 0)

    @cached_property
    def areas(self) -> Tensor:
        """The share of the image that the widened regions take, (B, P) float64."""
        return self.sums(torch.ones_like(self.asked.maps)) / self.asked.maps[0].numel()


def inside(maps: Tensor, regions: Tensor) -> Tensor:
    """The sum of maps (n, H, W) over regions (n, H, W) bool, widened: (n,) float64."""
    reach = round(REACH * maps.shape[-1])
    wide = F.max_pool2d(regions[:, None].float(), 2 * reach + 1, stride=1, padding=reach)[:, 0]
    return (maps * wide).flatten(1).sum(1, dtype=torch.float64)


# What of a part's region is held against the threshold, (B, P) float64.
RELEVANCE: dict[str, Callable[[Regions], Tensor]] = {
    "excess": lambda regions: regions.shares(regions.asked.maps) - regions.areas,  # above what a uniform map has there
    "sum": lambda regions: regions.shares(regions.asked.maps),  # as in FunnyBirds
}


def at_threshold(asked: Interventions, relevance: str) -> ImportantParts:
    """The important parts at the case's own threshold."""
    chosen = asked.case.thresholds
    assert chosen is not None, "where no threshold could be chosen, metrics that need one are left out"
    return ImportantParts(
        asked, torch.tensor([chosen[relevance]], dtype=torch.float64).to(asked.maps.device), relevance
    )


@dataclass(frozen=True, eq=False)
class ImportantParts:
    """The parts that a map marks as important at some thresholds, and what the model says without some of them."""

    asked: Interventions
    thresholds: Tensor  # (T,) float64: shares of the map's positive sum
    relevance: str = "excess"  # one of RELEVANCE

    @cached_property
    def regions(self) -> Regions:
        """Where the parts are."""
        return self.asked.once(Regions)

    @cached_property
    def important(self) -> Tensor:
        """Whether a part's relevance is above the threshold, (B, T, P) bool; never of a part without pixels."""
        shares = RELEVANCE[self.relevance](self.regions)
        return (shares[:, None] > self.thresholds[:, None]) & self.regions.there[:, None]

    @cached_property
    def _sets(self) -> Tensor:
        """The important parts as sets, (B, T) int64."""
        return (self.important * BITS.to(self.important.device)).sum(2)

    @cached_property
    def predicted(self) -> Tensor:
        """The class (B,) that the model sees in the rows as they are."""
        return self.asked.logits.argmax(1)

    def completeness(self) -> Tensor:
        """The largest share of a minimal sufficient set that is important, (B, T); NaN in rows classified wrongly.

        Parts that have no pixels in the row are left out of the sets; NaN where nothing is left.
        """
        found = torch.full(self.important.shape[:2], torch.nan, dtype=torch.float64)
        right = (self.predicted == self.asked.case.truth.labels).tolist()
        important, there = self.important.cpu(), self.regions.there.cpu()
        for row, label in enumerate(self.asked.labels):
            sets = [[PARTS.index(part) for part in parts] for parts in sufficient_sets(self.asked.spec, label)]
            visible = [[part for part in parts if there[row, part]] for parts in sets]
            shares = [important[row][:, parts].double().mean(1) for parts in visible if parts]
            if right[row] and shares:
                found[row] = torch.stack(shares).amax(0)
        return found.to(self.important.device)

    def preservation(self) -> Tensor:
        """Whether the prediction stays when every part that is not important is taken away, (B, T)."""
        return self._stays(self.asked.removable[:, None] & ~self._sets).double()

    def deletion(self) -> Tensor:
        """Whether the prediction changes when the important parts are taken away, (B, T)."""
        return (~self._stays(self._sets)).double()

    def _stays(self, sets: Tensor) -> Tensor:
        """Whether the prediction is the same without sets (B, T) of parts, (B, T) bool."""
        rows = torch.arange(len(sets), device=sets.device).repeat_interleave(sets.shape[1])
        without = self.asked.removed(rows, sets.flatten()).argmax(1)
        return (without == self.predicted[rows]).view(sets.shape)

    def distractibility(self) -> Tensor:
        """One less the share of the irrelevant parts that is important, (B, T); NaN where every part is relevant."""
        irrelevant = self.irrelevant[:, None]
        return 1 - (self.important & irrelevant).sum(2) / irrelevant.sum(2).double()

    @cached_property
    def irrelevant(self) -> Tensor:
        """Parts whose removal lowers the target's logit by less than a twentieth of its size, if at all: (B, P)."""
        rows, parts = self.regions.there.nonzero().T
        found = torch.zeros_like(self.regions.there)
        if len(rows):
            targets = self.asked.case.query.targets
            before = logit(self.asked.logits, targets)[rows]
            after = logit(self.asked.removed(rows, BITS.to(parts.device)[parts]), targets[rows])
            fall = before - after
            found[rows, parts] = (fall < IRRELEVANT * before.abs()) | (fall <= 0)  # the second where a logit is 0
        return found
