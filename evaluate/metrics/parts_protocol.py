"""The protocol of FunnyBirds on flowers: parts are taken away, and the map is held against what the model then says.

Important are the parts whose share of the map's positive sum is above a threshold; the threshold is chosen for each
method and model on validation rows. The docstring of each metric is the definition on its card.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from an8flower.evidence import shared_evidence
from an8flower.factors import PARTS
from an8flower.names import check_known
from an8flower.spec import DatasetSpec

from ..models.networks.batched_passes import logit
from ..seeds import seed_of
from .intervention import FUNNYBIRDS, register_intervention
from .interventions.effects import BITS, Interventions
from .interventions.important_parts import RELEVANCE, ImportantParts, Regions, at_threshold
from .metric import Asking, sentence

REMOVAL = "parts are taken away by rendering the scene without them; evidence by absence, by rendering the part"
WIDENED = "a part's pixels, widened by max-pooling with windows of 5 x 5 at 256 px, scaled to the size"
IMPORTANT = {
    "threshold": "of 80 from 0.01 to 0.50 the one with the largest (CSDC + PC + DC) / 3 + D on 60 validation rows, for "
    "each method and model; the middle one of several",
    "region": WIDENED,
    "removal": REMOVAL,
    "quirks": "FunnyBirds is relevance=sum: a uniform map marks the largest parts, and scores like the truth where the "
    "evidence is large. It takes the sum of M, not of max(M, 0), and chooses the threshold on the rows that it scores",
}
SHARED: dict[str, Any] = {"unit": "share", "bounds": (0.0, 1.0), "higher_is_better": True}


@dataclass(frozen=True)
class PartsScore(ABC):
    """A score that is read off the important parts of a row."""

    relevance: str = "excess"  # excess: a part's share of max(M, 0) less its share of the image; sum: the share itself

    def __post_init__(self) -> None:
        check_known("relevance", self.relevance, RELEVANCE)

    def __call__(self, batch: Interventions) -> Tensor:
        """The score of each row at the chosen threshold, (B,) float32 in [0, 1]."""
        return self.read(batch.compute_once(CHOSEN[self.relevance]))[:, 0].float()

    @abstractmethod
    def read(self, parts: ImportantParts) -> Tensor:
        """The score of each row at each threshold, (B, T) float64."""


# One function for each, so that all metrics of a batch share what they find.
CHOSEN = {relevance: partial(at_threshold, relevance=relevance) for relevance in RELEVANCE}


def register_check(name: str, abbreviation: str, undefined: str) -> Callable[[type[PartsScore]], type[PartsScore]]:
    """Register what is read off the important parts as a metric."""

    def file(read: type[PartsScore]) -> type[PartsScore]:
        register_intervention(
            name,
            Asking(Interventions, read()),
            sentence(read),
            sign="summed as they are over a part, and held against the sum of max(M, 0)",
            ties="a part whose relevance equals the threshold is not important",
            undefined=undefined,
            source=f"{FUNNYBIRDS} ({abbreviation}); relevance above a uniform map's: ours",
            needs=("model", "parts", "renderer", "threshold"),
            further={"oracle": "measured: whether this model does use the evidence, and nothing else", **IMPORTANT},
            **SHARED,
        )
        return read

    return file


@register_check("completeness_parts", "CSDC", "the row is classified wrongly, or nothing of its evidence can be seen")
class Completeness(PartsScore):
    """Share of a minimal set of parts sufficient for the class that is important; the largest of all such sets."""

    def read(self, parts: ImportantParts) -> Tensor:
        """The completeness of each row at each threshold, (B, T) float64."""
        return parts.completeness()


@register_check("preservation", "PC, preservation check", "never")
class Preservation(PartsScore):
    """Whether the model's prediction stays when all parts that are not important are taken away."""

    def read(self, parts: ImportantParts) -> Tensor:
        """Whether each row keeps its prediction at each threshold, (B, T) float64."""
        return parts.preservation()


@register_check("deletion_check", "DC, deletion check", "never")
class DeletionCheck(PartsScore):
    """Whether the model's prediction changes when the important parts are taken away."""

    def read(self, parts: ImportantParts) -> Tensor:
        """Whether each row loses its prediction at each threshold, (B, T) float64."""
        return parts.deletion()


@register_check(
    "distractibility", "D; there 1 where nothing is important", "no part is important, or no part is irrelevant"
)
class Distractibility(PartsScore):
    """1 less the share of the irrelevant parts that is important: of those whose removal alone costs less than 5 %.

    Of the size of the target's logit, that is; or whose removal raises it.
    """

    def read(self, parts: ImportantParts) -> Tensor:
        """The distractibility of each row at each threshold, (B, T) float64."""
        return parts.distractibility().where(parts.important.any(2), torch.nan)


class Rivals(NamedTuple):
    """Two other classes, and the parts by which a row looks like each of them: sets that have nothing in common."""

    classes: tuple[int, int]
    sets: tuple[int, int]


def target_sensitivity(batch: Interventions) -> Tensor:
    """Whether the parts that a row shares with class a weigh more in the map for a than in that for b, and the reverse.

    a and b: classes that share different evidence with the row; the mean of both comparisons.
    """
    values = torch.full((len(batch.maps),), torch.nan, device=batch.maps.device)
    pairs = rivals(batch)
    rows = torch.tensor(sorted(pairs), dtype=torch.int64, device=batch.maps.device)
    if not len(rows):
        return values
    classes, sets = (torch.tensor([pairs[row][k] for row in rows.tolist()], device=rows.device) for k in (0, 1))
    holds = is_premise_met(batch, rows, classes, sets)
    values[rows] = compare(batch, rows, classes, sets).where(holds, torch.nan)
    return values


def rivals(batch: Interventions) -> dict[int, Rivals]:
    """By row, a pair of classes, drawn by the row's index; rows that have none, or do not show it, are left out."""
    pairs = {label: rival_pairs(batch.spec, label) for label in set(batch.labels)}
    present = (batch.compute_once(Regions).has_pixels * BITS.to(batch.maps.device)).sum(1).tolist()
    chosen = {}
    for row, (index, label) in enumerate(zip(batch.case.truth.rows.tolist(), batch.labels, strict=True)):
        shown = [
            Rivals(pair.classes, (pair.sets[0] & present[row], pair.sets[1] & present[row])) for pair in pairs[label]
        ]
        shown = [pair for pair in shown if all(pair.sets)]
        if shown:
            chosen[row] = shown[seed_of("rivals", index) % len(shown)]
    return chosen


def rival_pairs(spec: DatasetSpec, label: int) -> list[Rivals]:
    """All pairs of other classes with which a class shares evidence, no part of it with both."""
    shared = {other: shared_set(spec, label, other) for other in range(spec.class_count) if other != label}
    pairs = combinations([other for other, parts in shared.items() if parts], 2)
    return [Rivals((a, b), (shared[a], shared[b])) for a, b in pairs if not shared[a] & shared[b]]


def shared_set(spec: DatasetSpec, label: int, other: int) -> int:
    """The evidence parts of another class that look the same in this one, as a set."""
    return sum(int(BITS[PARTS.index(part)]) for part in shared_evidence(spec, label, other))


def is_premise_met(batch: Interventions, rows: Tensor, classes: Tensor, sets: Tensor) -> Tensor:
    """Whether the model itself weighs rows (n,) so: each class's logit is lower without that class's parts than without
    the other's, (n,) bool.
    """
    without = [batch.logits_without(rows, sets[:, k]) for k in (0, 1)]
    falls = [logit(without[k], classes[:, k]) < logit(without[1 - k], classes[:, k]) for k in (0, 1)]
    return falls[0] & falls[1]


def compare(batch: Interventions, rows: Tensor, classes: Tensor, sets: Tensor) -> Tensor:
    """The mean of two comparisons of sets of parts by weight in a map, (n,) in [0, 1]; equal weights count half."""
    regions, inside = batch.compute_once(Regions), (sets[:, :, None] & BITS.to(sets.device)) > 0
    shares = []
    for k in (0, 1):
        targets = batch.case.query.targets.index_put((rows,), classes[:, k])
        shares.append(regions.shares(batch.explain(targets))[rows])
    wins = [torch.sign(((shares[k] - shares[1 - k]) * inside[:, k]).sum(1)) for k in (0, 1)]
    return ((2 + wins[0] + wins[1]) / 4).float()


register_intervention(
    "target_sensitivity",
    Asking(Interventions, target_sensitivity),
    sentence(target_sensitivity),
    sign="summed as they are over parts, by the sum of max(M, 0); a map without positive values counts as zeros",
    ties="equal weights count half",
    undefined="no two classes share different evidence with the row's class, or the model itself weighs it otherwise",
    source=f"{FUNNYBIRDS} (TS), there on parts' sums without a common scale",
    needs=("model", "method", "parts", "renderer"),
    further={
        "oracle": "1: what the row shares with a class is all that its map shows",
        "region": WIDENED,
        "removal": REMOVAL,
        "premise": "without the parts shared with a, a's logit is lower than without those shared with b; and the "
        "reverse",
    },
    **SHARED,
)
