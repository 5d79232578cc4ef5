"""What a method says of one row while the model is drawn anew, layer by layer, from the logits down."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from an8flower.store import StoredRows

from ...results.kept_maps import to_half_precision
from .layers import Step
from .mprt import Point, parameters_reached

TRAINED = "trained"  # the first step: nothing is drawn anew


@dataclass(frozen=True)
class Cascade:
    """The maps of one row, noted as the walks make them: nothing is explained for the sake of a picture."""

    place: int  # of the row among those that are explained
    _noted: dict[frozenset[str], np.ndarray] = field(default_factory=dict)

    def note(self, parameters: Collection[str], places: np.ndarray, maps: Tensor) -> None:
        """Maps (n, H, W) of the rows at some places, of the model with these parameters drawn anew."""
        for row in np.flatnonzero(places == self.place).tolist():
            self._noted[frozenset(parameters)] = maps[row].detach().float().cpu().numpy()

    def arrays(
        self, row: np.ndarray, shown: StoredRows, original: Tensor, steps: Sequence[Step], points: Sequence[Point]
    ) -> dict[str, np.ndarray]:
        """What a page shows of it.

        Args:
            row: (1,) its index within the split.
            shown: that row alone.
            original: (N, H, W) the maps of the trained model.
            points: of the cascading walk down these steps.

        Returns:
            `row` () int64, `image` (S, S, 3) uint8, `mask` (S, S) uint8 as stored, `steps` (T,) str from "trained" on,
            `maps` (T, S, S) float16, `similarity` (T,) float32 to the first, by Spearman of absolute values; NaN where
            a map is constant.
        """
        walk = parameters_reached(steps, "cascading")
        self.note((), np.arange(len(original)), original)
        maps = [self._noted[frozenset(parameters)] for parameters in ((), *(names for _, names in walk))]
        alike = [point.likeness["spearman_abs"][self.place] for point in points]
        return {
            "row": np.array(row[0], np.int64),
            "image": shown.images[0],
            "mask": shown.masks[0],
            "steps": np.array([TRAINED, *(name for name, _ in walk)]),
            "maps": to_half_precision(np.stack(maps)),
            "similarity": np.array([1.0 if np.ptp(maps[0]) else np.nan, *alike], np.float32),
        }
