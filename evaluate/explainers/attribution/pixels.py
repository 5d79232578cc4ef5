"""What methods share that attribute to every colour channel of every pixel and then pool the channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...case import Query
from ...maps import POOLINGS, check_pooling
from ...models.classifier import Classifier
from ..ranges import Choices, Ranges


@dataclass(frozen=True)
class PixelAttribution(ABC):
    """An explainer that is a signed attribution to channels of pixels, and a named way to make one map of it."""

    pooling: str = "abs_max"  # over the colour channels; variants override it with what their source does

    ranges: ClassVar[Ranges] = {"pooling": Choices(tuple(POOLINGS))}

    def __post_init__(self) -> None:
        check_pooling(self.pooling)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return POOLINGS[self.pooling](self.attribution(classifier, query))

    @abstractmethod
    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """What each channel of each pixel contributes (B, 3, H, W), float32, signed; `__call__` pools it."""
