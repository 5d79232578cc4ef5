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

    batch: Interventions

    @cached_property
    def has_pixels(self) -> Tensor:
        """Which parts have pixels, (B, P) bool."""
        visible = self.batch.visible_pixels > 0
        visible[:, 0] = False
        rows, parts, where = self._absent
        return visible.index_put((rows, parts), where.flatten(1).any(1))

    @cached_property
    def _absent(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (k,), parts (k,) and regions (k, H, W) bool of the evidence parts that rows lack."""
        batch = self.batch
        pairs = [(row, PARTS.index(part)) for row, lacked in enumerate(batch.absent) for part in lacked]
        rows, parts = torch.tensor(pairs, dtype=torch.int64, device=batch.maps.device).reshape(-1, 2).T
        if not pairs:
            return rows, parts, torch.zeros(0, *batch.maps.shape[1:], dtype=torch.bool, device=batch.maps.device)
        bits = BITS.to(parts.device)[parts]
        seen = torch.cat([pictures.parts for pictures in batch.photograph(batch.factors_without(rows, bits))])
        return rows, parts, seen == parts[:, None, None]

    def pixels_of(self, wanted: Tensor) -> Tensor:
        """The pixels (B, H, W) bool of the wanted parts (B, P) bool."""
        covered = wanted.gather(1, self.batch.parts.flatten(1).long()).view_as(self.batch.maps)
        rows, parts, where = self._absent
        for row, part, region in zip(rows.tolist(), parts.tolist(), where, strict=True):
            if wanted[row, part]:
                covered[row] |= region
        return covered

    def sums(self, maps: Tensor) -> Tensor:
        """The sum of maps (B, H, W) over each part's region and what lies closely beside it, (B, P) float64.

        0 for parts without a region.
        """
        sums = torch.zeros(self.has_pixels.shape, dtype=torch.float64, device=maps.device)
        for part in (self.batch.visible_pixels[:, 1:] > 0).any(0).nonzero()[:, 0].tolist():
            sums[:, part + 1] = sum_inside(maps, self.batch.parts == part + 1)
        rows, parts, where = self._absent
        return sums.index_put((rows, parts), sum_inside(maps[rows], where)) if len(rows) else sums

    def shares(self, maps: Tensor) -> Tensor:
        """The sum over each part's region as a share of the sum of max(M, 0): (B, P) float64; 0 if that sum is 0."""
        total = maps.clamp(min=0).flatten(1).sum(1, dtype=torch.float64)[:, None]
        return (self.sums(maps) / total).where(total > 0, 0)

    @cached_property
    def areas(self) -> Tensor:
        """The share of the image that the widened regions take, (B, P) float64."""
        return self.sums(torch.ones_like(self.batch.maps)) / self.batch.maps[0].numel()


def sum_inside(maps: Tensor, regions: Tensor) -> Tensor:
    """The sum of maps (n, H, W) over regions (n, H, W) bool, widened: (n,) float64."""
    reach = round(REACH * maps.shape[-1])
    wide = F.max_pool2d(regions[:, None].float(), 2 * reach + 1, stride=1, padding=reach)[:, 0]
    return (maps * wide).flatten(1).sum(1, dtype=torch.float64)


# What of a part's region is held against the threshold, (B, P) float64.
RELEVANCE: dict[str, Callable[[Regions], Tensor]] = {
    "excess": lambda regions: regions.shares(regions.batch.maps) - regions.areas,  # above what a uniform map has there
    "sum": lambda regions: regions.shares(regions.batch.maps),  # as in FunnyBirds
}


def at_threshold(batch: Interventions, relevance: str) -> ImportantParts:
    """The parts that are important at the threshold of the case."""
    chosen = batch.case.thresholds
    assert chosen is not None, "where no threshold could be chosen, metrics that need one are left out"
    return ImportantParts(
        batch, torch.tensor([chosen[relevance]], dtype=torch.float64).to(batch.maps.device), relevance
    )


@dataclass(frozen=True, eq=False)
class ImportantParts:
    """The parts that a map marks as important at some thresholds, and what the model says without some of them."""

    batch: Interventions
    thresholds: Tensor  # (T,) float64: shares of the map's positive sum
    relevance: str = "excess"  # one of RELEVANCE

    @cached_property
    def regions(self) -> Regions:
        """The regions in which the parts are."""
        return self.batch.compute_once(Regions)

    @cached_property
    def important(self) -> Tensor:
        """Whether a part's relevance is above the threshold, (B, T, P) bool; never of a part without pixels."""
        shares = RELEVANCE[self.relevance](self.regions)
        return (shares[:, None] > self.thresholds[:, None]) & self.regions.has_pixels[:, None]

    @cached_property
    def _sets(self) -> Tensor:
        """The important parts as sets, (B, T) int64."""
        return (self.important * BITS.to(self.important.device)).sum(2)

    @cached_property
    def predictions(self) -> Tensor:
        """The class (B,) that the model sees in the rows as they are."""
        return self.batch.logits.argmax(1)

    def completeness(self) -> Tensor:
        """The largest share of a minimal sufficient set that is important, (B, T); NaN in rows classified wrongly.

        Parts that have no pixels in the row are left out of the sets; NaN where nothing is left.
        """
        largest = torch.full(self.important.shape[:2], torch.nan, dtype=torch.float64)
        right = (self.predictions == self.batch.case.truth.labels).tolist()
        important, visible = self.important.cpu(), self.regions.has_pixels.cpu()
        for row, label in enumerate(self.batch.labels):
            sets = [[PARTS.index(part) for part in parts] for parts in sufficient_sets(self.batch.spec, label)]
            shown = [[part for part in parts if visible[row, part]] for parts in sets]
            shares = [important[row][:, parts].double().mean(1) for parts in shown if parts]
            if right[row] and shares:
                largest[row] = torch.stack(shares).amax(0)
        return largest.to(self.important.device)

    def preservation(self) -> Tensor:
        """Whether the prediction stays when every part that is not important is taken away, (B, T)."""
        return self._stays(self.batch.removable[:, None] & ~self._sets).double()

    def deletion(self) -> Tensor:
        """Whether the prediction changes when the important parts are taken away, (B, T)."""
        return (~self._stays(self._sets)).double()

    def _stays(self, sets: Tensor) -> Tensor:
        """Whether the prediction is the same without sets (B, T) of parts, (B, T) bool."""
        rows = torch.arange(len(sets), device=sets.device).repeat_interleave(sets.shape[1])
        without = self.batch.logits_without(rows, sets.flatten()).argmax(1)
        return (without == self.predictions[rows]).view(sets.shape)

    def distractibility(self) -> Tensor:
        """One less the share of the irrelevant parts that is important, (B, T); NaN where every part is relevant."""
        irrelevant = self.irrelevant[:, None]
        return 1 - (self.important & irrelevant).sum(2) / irrelevant.sum(2).double()

    @cached_property
    def irrelevant(self) -> Tensor:
        """Parts whose removal lowers the target's logit by less than a twentieth of its size, if at all: (B, P)."""
        rows, parts = self.regions.has_pixels.nonzero().T
        irrelevant = torch.zeros_like(self.regions.has_pixels)
        if len(rows):
            targets = self.batch.case.query.targets
            before = logit(self.batch.logits, targets)[rows]
            after = logit(self.batch.logits_without(rows, BITS.to(parts.device)[parts]), targets[rows])
            fall = before - after
            irrelevant[rows, parts] = (fall < IRRELEVANT * before.abs()) | (fall <= 0)  # the second where a logit is 0
        return irrelevant
