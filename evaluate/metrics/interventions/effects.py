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
from ...models.streamlined import Streamlined, streamline
from .filed import AnswerFile, KnownLogits, Tensors, measure_once

BITS = 2 ** torch.arange(len(PARTS))
"""A set of parts is written as the sum of its parts' bits, by part id: (P,) int64."""

Value = TypeVar("Value")


class Memo:
    """Logits of changed rows by row and key: each pair is asked once, whoever wants it."""

    def __init__(self, ask: Callable[[Tensor, Tensor], Tensor], filed: KnownLogits | None = None) -> None:
        self._ask = ask  # (rows (n,), keys (n,)) -> logits (n, C), n > 0
        self._filed = filed  # what was asked in other cells; None where keys mean something else for each map
        self._known = dict(filed.values) if filed else {}

    def __call__(self, rows: Tensor, keys: Tensor) -> Tensor:
        """The logits (n, C) of rows (n,) int64 under keys (n,) int64, n > 0; pairs may come repeatedly."""
        pairs = list(zip(rows.tolist(), keys.tolist(), strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if new:
            answers = dict(zip(new, self._ask(*torch.tensor(new).T), strict=True))
            self._known.update(answers)
            if self._filed:
                self._filed.add(answers)
        return torch.stack([self._known[pair] for pair in pairs])


@dataclass(frozen=True, eq=False)
class Interventions:
    """A batch of maps, its rows, and what the model says of the rows after changes, each computed once."""

    maps: Tensor  # (B, H, W) float32
    case: Case
    _values: dict[Any, Any] = field(default_factory=dict, repr=False)

    def compute_once(self, make: Callable[[Interventions], Value]) -> Value:
        """The value of `make` on this batch, computed once for all metrics of the batch."""
        if make not in self._values:
            self._values[make] = make(self)
        return cast(Value, self._values[make])

    @property
    def world(self) -> World:
        """The world that renders the rows again."""
        assert self.case.world is not None, "where nothing can be rendered, metrics that need it are left out"
        return self.case.world

    @property
    def spec(self) -> DatasetSpec:
        """The spec of the data set that the rows come from."""
        return self.world.spec

    @property
    def parts(self) -> Tensor:
        """The part maps of the rows, (B, H, W) uint8."""
        assert self.case.truth.parts is not None, "where there are no part maps, metrics that need them are left out"
        return self.case.truth.parts

    @cached_property
    def network(self) -> Streamlined:
        """The faster copy of the classifier that is asked."""
        assert self.case.classifier is not None, "metrics that ask the model are given it"
        return streamline(self.case.classifier)

    @cached_property
    def labels(self) -> list[int]:
        """The label of each row, (B,)."""
        labels: list[int] = self.case.truth.labels.tolist()
        return labels

    @cached_property
    def table(self) -> np.ndarray:
        """The table of the rows' factors, (B,)."""
        return self.world.factors(self.case.truth.rows)

    @cached_property
    def visible_pixels(self) -> Tensor:
        """How many pixels of each part are visible in each row, (B, P) float64."""
        return part_sums(torch.ones_like(self.maps), self.parts)

    @cached_property
    def logits(self) -> Tensor:
        """The model's logits (B, C) of the rows as they are."""
        images = self.case.query.images
        return self.measure_once("logits", lambda: {"logits": self.logits_of(images)})["logits"]

    def logits_of(self, images: Tensor) -> Tensor:
        """The model's logits (n, C) of images (n, 3, H, W), n > 0."""
        return torch.cat([self.network(portion) for portion in images.split(self.network.in_flight)])

    def photograph(self, table: np.ndarray) -> Iterator[Photographs]:
        """Render the scenes of a factors table (n,), as many at a time as memory holds."""
        return (self.world.photograph(table[start : start + IN_SIGHT]) for start in range(0, len(table), IN_SIGHT))

    def explain(self, targets: Tensor) -> Tensor:
        """Explain the rows with the same method for other targets (B,): maps (B, H, W)."""
        assert self.case.explain is not None, "metrics that ask the method are given it"
        key = tuple(targets.tolist())
        if key not in self._values:
            self._values[key] = self.case.explain(self.case.query._replace(targets=targets))
        return cast(Tensor, self._values[key])

    @cached_property
    def absent(self) -> list[dict[str, int]]:
        """For each row the evidence parts that its class lacks, with the count that they have elsewhere."""
        return [absent_evidence(self.spec, label) for label in self.labels]

    @cached_property
    def removable(self) -> Tensor:
        """The set of parts of each row, (B,) int64, that can be taken away: those there, and evidence by absence."""
        sets = torch.zeros(len(self.table), dtype=torch.int64)
        for part in parts_of(self.spec):
            lacked = np.array([part in parts for parts in self.absent])
            sets += torch.from_numpy((self.table[f"{part}.count"] > 0) | lacked) * BITS[PARTS.index(part)]
        return sets.to(self.maps.device)

    @cached_property
    def logits_without(self) -> Memo:
        """The logits of rows without a set of parts; evidence by absence is taken away by putting the part there."""
        return Memo(self._ask_without, KnownLogits.read(AnswerFile.of(self.case, "without"), self.maps.device))

    def measure_once(self, kind: str, measure: Callable[[], Tensors], asks_model: bool = True) -> Tensors:
        """What the rows and the model alone decide, measured once for all methods of a run and filed."""
        return measure_once(AnswerFile.of(self.case, kind, asks_model), self.maps.device, measure)

    def _ask_without(self, rows: Tensor, sets: Tensor) -> Tensor:
        logits, changed = self.logits[rows], sets > 0
        if changed.any():
            pictures = self.photograph(self.factors_without(rows[changed], sets[changed]))
            logits[changed] = torch.cat([self.logits_of(photographs.images) for photographs in pictures])
        return logits

    def factors_without(self, rows: Tensor, sets: Tensor) -> np.ndarray:
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
