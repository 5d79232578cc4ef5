"""Insertion and deletion without leaving the data: pixels are replaced by those of the same scene as another class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.interventions import as_class

from ..case import Case
from ..models.networks.batched_passes import probability
from .intervention import register_intervention
from .interventions.effect_map import effects_of
from .interventions.effects import Interventions, Memo
from .masking import Masking
from .metric import Asking, sentence

Towards = Literal["other", "original"]


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """Rows beside the same scenes as another class, and what the model says of any mixture of the two pictures."""

    batch: Interventions

    @cached_property
    def other(self) -> Tensor:
        """The same scenes with every class factor of the near class, (B, 3, H, W) float32."""
        filed = self.batch.measure_once("near", lambda: {"pictures": pack(self.render_other())}, asks_model=False)
        return unpack(filed["pictures"])

    def render_other(self) -> Tensor:
        """Render the same scenes as the near class, (B, 3, H, W) float32 in [0, 1]."""
        truth, world = self.batch.case.truth, self.batch.world
        near = world.near_classes(truth.rows, self.batch.case.query.targets).cpu().numpy()
        pictures = self.batch.photograph(as_class(world.spec, self.batch.table, near))
        return torch.cat([photographs.images for photographs in pictures])

    @cached_property
    def _differing(self) -> Tensor:
        """Where the two pictures differ, with the pixels in the order of the map, (B, N) bool."""
        differ = (self.batch.case.query.images != self.other).any(1).flatten(1)
        return torch.zeros_like(differ).scatter_(1, self._ranks, differ)

    @cached_property
    def _ranks(self) -> Tensor:
        """Each pixel's place in the order of decreasing values, chance ordering equal ones: (B, N) int64."""
        return Masking.of(self.batch.maps, self.batch.case).ranks.flatten(1).long()

    @cached_property
    def _counts(self) -> Tensor:
        """At k: how many of the first k pixels differ, (B, N + 1) int64. Only these are worth a pass."""
        return torch.nn.functional.pad(self._differing.cumsum(1), (1, 0))

    @property
    def size(self) -> Tensor:
        """How many pixels differ, (B,) int64."""
        return self._counts[:, -1]

    @cached_property
    def _memo(self) -> Memo:
        return Memo(self._ask)

    def _ask(self, rows: Tensor, keys: Tensor) -> Tensor:
        """The logits (n, C) of mixed pictures, not more of them at once than the network may hold."""
        portion = self.batch.network.in_flight
        portions = zip(rows.split(portion), keys.split(portion), strict=True)
        return torch.cat([self.batch.logits_of(self.mix(some_rows, some_keys)) for some_rows, some_keys in portions])

    def mix(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Pictures (n, 3, H, W) of rows (n,): with key k >= 0 the original, of which the first k differing pixels are
        the other's; with -1 - k the other, of which the first k differing pixels are the original's."""
        images, other, ranks = self.batch.case.query.images[rows], self.other[rows], self._ranks[rows]
        limits = torch.where(keys < 0, -1 - keys, keys).to(ranks.device)
        taken = self._counts[rows].gather(1, ranks + 1) <= limits[:, None]  # at a differing pixel: is it one of k?
        swapped = (taken == (keys >= 0).to(ranks.device)[:, None]).view(len(rows), 1, *images.shape[2:])
        return torch.where(swapped, other, images)

    def curve(self, towards: Towards, steps: int) -> Tensor:
        """The target's probability (B, steps + 1) while the pixels of one picture replace those of the other one."""
        pixels = self._differing.shape[1]
        cuts = torch.tensor([round(step * pixels / steps) for step in range(steps + 1)], device=self._ranks.device)
        replaced, size = self._counts[:, cuts], self.size[:, None]
        back = torch.where(replaced == 0, size, torch.where(replaced == size, 0, -1 - replaced))
        keys = replaced if towards == "other" else back  # the ends of both ways are the same two pictures
        rows = torch.arange(len(keys), device=keys.device).repeat_interleave(steps + 1)
        logits = self._memo(rows, keys.flatten())
        return probability(logits, self.batch.case.query.targets[rows]).view(keys.shape)


def pack(images: Tensor) -> Tensor:
    """Images in [0, 1] that were made of bytes as bytes again, uint8; others as they are."""
    whole = (images * 255).round().byte()
    return whole if torch.equal(unpack(whole), images) else images


def unpack(images: Tensor) -> Tensor:
    """Images in [0, 1] as floats, whether they are bytes or floats."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class CounterfactualArea:
    """The area under the target's probability on the way from one picture of a row to the other."""

    towards: ClassVar[Towards]
    steps: int = 28  # as in the large runs of RISE: 224 x 8 pixels of 224 x 224 at a time

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(self, batch: Interventions) -> Tensor:
        """The area under each row's curve, (B,) float32 in [0, 1]."""
        return area(batch.compute_once(Counterfactual), self.towards, self.steps)

    def ideal_maps(self, case: Case) -> Tensor:
        """The effect maps (B, H, W) float32, which order pixels as the model uses them; the mask in rows without one.

        The mask alone leaves the order within it to chance, so a map that knows the model would score above 1.
        """
        effects = effects_of(case).maps
        return effects.where(~effects.isnan(), (case.truth.masks > 0).float())


class CounterfactualDeletion(CounterfactualArea):
    """Area under the target's probability while pixels, largest M first, become those of the scene as another class.

    The near class: one that differs in the fewest parts.
    """

    towards = "other"


class CounterfactualInsertion(CounterfactualArea):
    """Area under the target's probability while the scene as another class gets the image's pixels, largest M first.

    The near class: one that differs in the fewest parts.
    """

    towards = "original"


def check_steps(steps: int) -> None:
    """Raise WrongUsage for less than one step."""
    if steps < 1:
        raise WrongUsage(f"steps: came {steps}; expected at least 1")


def area(between: Counterfactual, towards: Towards, steps: int) -> Tensor:
    """The area under a curve by trapezoids, (B,) float32; NaN where both pictures are the same."""
    curve = between.curve(towards, steps).double()
    areas = (curve.sum(1) - (curve[:, 0] + curve[:, -1]) / 2) / steps
    return areas.float().where(between.size > 0, torch.nan)


SHARED = {
    "sign": "read by rank: only the order of the values counts, whatever their sign",
    "ties": "equal values are put in an order by chance, fixed by the row's seed",
    "undefined": "the scene looks the same as another class",
    "unit": "probability",
    "bounds": (0.0, 1.0),
    "needs": ("model", "renderer"),
    "version": 2,  # 1: calibrated so that the mask has 1
    "source": "after Petsiuk, Das, Saenko: RISE, BMVC 2018; the replacement: ours",
}
BEST = "{}: the first of n steps holds every pixel that differs; p, q: the probabilities of the image, of the other"
NOTES = {
    "oracle": "measured: the effect map, which orders pixels as the model uses them; the mask in rows without one",
    "replacement": "every picture on the way is made of two rendered ones: there is no black, grey or blurred pixel",
    "threshold": "steps of equal numbers of pixels, out of all pixels of the image, not only those that differ",
}
register_intervention(
    "counterfactual_deletion",
    Asking(Interventions, CounterfactualDeletion()),
    sentence(CounterfactualDeletion),
    higher_is_better=False,
    further={**NOTES, "best": BEST.format("(p / 2 + (n - 1/2) q) / n")},
    **SHARED,
)
register_intervention(
    "counterfactual_insertion",
    Asking(Interventions, CounterfactualInsertion()),
    sentence(CounterfactualInsertion),
    higher_is_better=True,
    further={**NOTES, "best": BEST.format("(q / 2 + (n - 1/2) p) / n")},
    **SHARED,
)
