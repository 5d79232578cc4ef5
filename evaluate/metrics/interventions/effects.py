"""What a model says of rows that are photographed again with something changed: the causes maps are held against.

Whatever the metrics of a batch ask passes through the network once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from an8flower.evidence import absent_evidence
from an8flower.factors import PARTS
from an8flower.interventions import parts_of
from an8flower.spec import DatasetSpec

from ...case import Case
from ...data.world import IN_SIGHT, Photographs, World
from ...models.streamlined import Streamlined, streamlined

BITS = 2 ** torch.arange(len(PARTS))
"""A set of parts is written as the sum of its parts' bits, by part id: (P,) int64."""

Made = TypeVar("Made")


class Memo:
    """Logits of changed rows by row and key: each pair is asked once, whoever wants it."""

    def __init__(self, ask: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._ask = ask  # (rows (n,), keys (n,)) -> logits (n, C), n > 0
        self._known: dict[tuple[int, int], Tensor] = {}

    def __call__(self, rows: Tensor, keys: Tensor) -> Tensor:
        """The logits (n, C) of rows (n,) int64 under keys (n,) int64, n > 0; pairs may come repeatedly."""
        pairs = list(zip(rows.tolist(), keys.tolist(), strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if new:
            self._known.update(zip(new, self._ask(*torch.tensor(new).T), strict=True))
        return torch.stack([self._known[pair] for pair in pairs])


@dataclass(frozen=True, eq=False)
class Interventions:
    """A batch of maps, its rows, and what the model says of them after changes; kept once it has been asked."""

    maps: Tensor  # (B, H, W) float32
    case: Case
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, make: Callable[[Interventions], Made]) -> Made:
        """What `make` makes of this: the same for every metric of the batch."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast(Made, self._made[make])

    @property
    def world(self) -> World:
        """Who renders the rows again."""
        assert self.case.world is not None, "where nothing can be rendered, metrics that need it are left out"
        return self.case.world

    @property
    def spec(self) -> DatasetSpec:
        """What the data set is."""
        return self.world.spec

    @property
    def parts(self) -> Tensor:
        """Part maps (B, H, W) uint8."""
        assert self.case.truth.parts is not None, "where there are no part maps, metrics that need them are left out"
        return self.case.truth.parts

    @cached_property
    def network(self) -> Streamlined:
        """The model."""
        assert self.case.classifier is not None, "metrics that ask the model are given it"
        return streamlined(self.case.classifier)

    @cached_property
    def labels(self) -> list[int]:
        """The rows' classes."""
        labels: list[int] = self.case.truth.labels.tolist()
        return labels

    @cached_property
    def table(self) -> np.ndarray:
        """The rows' factors, (B,)."""
        return self.world.factors(self.case.truth.rows)

    @cached_property
    def seen(self) -> Tensor:
        """How many pixels of each part are seen, (B, P) float64."""
        return part_sums(torch.ones_like(self.maps), self.parts)

    @cached_property
    def logits(self) -> Tensor:
        """What the model says of the rows as they are, (B, C)."""
        return self.says(self.case.query.images)

    def says(self, images: Tensor) -> Tensor:
        """Logits (n, C) of images (n, 3, H, W), n > 0."""
        return torch.cat([self.network(some) for some in images.split(self.network.in_flight)])

    def photographed(self, table: np.ndarray) -> Iterator[Photographs]:
        """Pictures of a factors table (n,), as many at a time as memory holds."""
        return (self.world.photographed(table[start : start + IN_SIGHT]) for start in range(0, len(table), IN_SIGHT))

    def explained(self, targets: Tensor) -> Tensor:
        """The maps (B, H, W) of the same method for other targets (B,)."""
        assert self.case.explain is not None, "metrics that ask the method are given it"
        key = tuple(targets.tolist())
        if key not in self._made:
            self._made[key] = self.case.explain(self.case.query._replace(targets=targets))
        return cast(Tensor, self._made[key])

    @cached_property
    def absent(self) -> list[dict[str, int]]:
        """For each row the evidence parts that its class lacks, with the count that they have elsewhere."""
        return [absent_evidence(self.spec, label) for label in self.labels]

    @cached_property
    def removable(self) -> Tensor:
        """The set of parts, (B,) int64, that can be taken away: what a row has, and what it tells by lacking it."""
        found = torch.zeros(len(self.table), dtype=torch.int64)
        for part in parts_of(self.spec):
            lacked = np.array([part in parts for parts in self.absent])
            found += torch.from_numpy((self.table[f"{part}.count"] > 0) | lacked) * BITS[PARTS.index(part)]
        return found.to(self.maps.device)

    @cached_property
    def removed(self) -> Memo:
        """Logits of rows without a set of parts; evidence by absence is taken away by putting the part there."""
        return Memo(self._without)

    def _without(self, rows: Tensor, sets: Tensor) -> Tensor:
        logits, changed = self.logits[rows], sets > 0
        if changed.any():
            pictures = self.photographed(self.lacking(rows[changed], sets[changed]))
            logits[changed] = torch.cat([self.says(some.images) for some in pictures])
        return logits

    def lacking(self, rows: Tensor, sets: Tensor) -> np.ndarray:
        """The factors (n,) of rows (n,) without sets (n,) of parts; evidence by absence is put there."""
        table = self.table[rows.cpu().numpy()]  # indexing copies
        for part in parts_of(self.spec):
            name = f"{part}.count"
            lost = (sets & BITS[PARTS.index(part)]).cpu().numpy() > 0
            instead = np.array([self.absent[row].get(part, 0) for row in rows.tolist()])
            table[name] = np.where(lost, np.where(table[name] > 0, 0, instead), table[name])
        return table


def part_sums(maps: Tensor, parts: Tensor) -> Tensor:
    """The sum of maps (B, H, W) over the pixels of each part of part maps (B, H, W) uint8: (B, P) float64."""
    sums = torch.zeros(len(maps), len(PARTS), dtype=torch.float64, device=maps.device)
    return sums.scatter_add_(1, parts.flatten(1).long(), maps.flatten(1).double())
