"""On which part of the flower does the map lie, evidence or not?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from an8flower.factors import PARTS
from an8flower.names import check_known

from ..case import Truth
from .localisation import POSITIVE, register_localisation
from .metric import Reading, sentence
from .ranking import nan_where_empty, share


class Shown(NamedTuple):
    """A batch of maps beside the parts that are seen at each pixel."""

    maps: Tensor  # (B, H, W) float32
    parts: Tensor  # (B, H, W) uint8

    @classmethod
    def of(cls, maps: Tensor, truth: Truth) -> Shown:
        """Maps (B, H, W) beside the part maps of the truth."""
        assert truth.parts is not None, "metrics that need the parts are given them"
        return cls(maps, truth.parts)


@dataclass(frozen=True)
class PartMass:
    """Part of the sum of max(M, 0) that lies on the pixels of one part: unless another is named, of the background."""

    part: str = "background"

    def __post_init__(self) -> None:
        check_known("part", self.part, PARTS)

    def __call__(self, shown: Shown) -> Tensor:
        seen = shown.parts == PARTS.index(self.part)
        return nan_where_empty(share(shown.maps.clamp(min=0), seen), seen.flatten(1).sum(1))


register_localisation(
    "part_mass",
    Reading(Shown.of, PartMass()),
    sentence(PartMass),
    higher_is_better=False,
    constant=POSITIVE,
    sign="negative values count as 0",
    ties="none: every pixel counts by its value",
    undefined="the part is not seen in the row, or the map has no positive value",
    source="Arras, Osman, Samek: CLEVR-XAI, Information Fusion 81 (2022) 14-40 (relevance mass), of one part",
    needs=("parts",),
    further={
        "oracle": "0 on a part that is no evidence; evidence by absence lies on what is seen instead of a missing part",
        "quirks": "lower is better on the background and on any part that is no evidence; on an evidence part, higher",
    },
)
