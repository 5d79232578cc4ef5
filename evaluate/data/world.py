"""The world that pictures come from: rows of a rendered data set can be photographed again after a change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from an8flower import interventions
from an8flower.errors import NotApplicable
from an8flower.evidence import discriminative_parts
from an8flower.factors import PARTS
from an8flower.render import render
from an8flower.scene import build
from an8flower.spec import DatasetSpec
from an8flower.store import FlowerSplit

from ..seeds import seed_of
from .images import as_images

IN_SIGHT = 1024  # rows photographed at a time: 112 px of them take 150 MB as floats


@dataclass(frozen=True)
class Photographs:
    """Pictures of scenes, with the parts that are visible in them."""

    images: Tensor  # (n, 3, S, S) float32 in [0, 1]
    parts: Tensor  # (n, S, S) uint8: id of the part visible at the pixel's centre


@dataclass(frozen=True)
class World:
    """The rows of one split, and what their pictures would be if something in the scene were different."""

    spec: DatasetSpec
    split: FlowerSplit
    device: torch.device
    threads: int = 1
    folder: Path | None = None  # for what is measured once for all methods; None: not kept on disk

    @classmethod
    def of(cls, split: FlowerSplit, device: torch.device) -> World:
        """The world of a split; raises NotApplicable if the data set was imported, so that nobody can render it."""
        if split.store.spec is None:
            raise NotApplicable(
                f"{split.store.path}: no spec, so its rows cannot be rendered again with one thing changed; "
                "use a data set made by `an8flower generate`"
            )
        return cls(split.store.spec, split, device, torch.get_num_threads())

    def factors(self, rows: Tensor) -> np.ndarray:
        """The factors table (n,) of rows (n,) of the split, in any order."""
        indices, back = np.unique(rows.cpu().numpy(), return_inverse=True)
        table = self.split.take(indices).factors
        assert table is not None, "a file with a spec has factors"
        return table[back]

    def photograph(self, table: np.ndarray) -> Photographs:
        """Render the scenes that a factors table (n,) describes."""
        images, parts = self.render(table)
        pictures = as_images(images, self.device)
        return Photographs(pictures, torch.from_numpy(parts).to(self.device))

    def render(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pictures (n, S, S, 3) uint8 and parts (n, S, S) uint8 of a factors table (n,), on the CPU."""
        return render(build(table, self.split.album), self.spec.size, self.threads)

    def near_classes(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Another class (n,) for each row, of those that differ in the fewest parts; fixed by its index."""
        chances = [seed_of("near class", row) / 2**63 for row in rows.tolist()]
        pairs = zip(labels.tolist(), chances, strict=True)
        classes = [interventions.near_class(self.spec, label, chance) for label, chance in pairs]
        return torch.tensor(classes, dtype=torch.int64, device=self.device)

    def differing_parts(self, first: Tensor, second: Tensor) -> Tensor:
        """Which parts tell two classes apart, for classes (n,) and (n,): (n, P) bool by part id."""
        differs = torch.zeros(len(first), len(PARTS), dtype=torch.bool)
        for row, (label, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            for part in discriminative_parts(self.spec, label, other):
                differs[row, PARTS.index(part)] = True
        return differs.to(self.device)
