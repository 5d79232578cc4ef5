"""Explanations from the gradient of the class's logit with respect to the pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..case import Query
from ..classifier import Classifier
from ..passes import input_gradient
from ..pooling import POOLINGS, check_pooling
from ..registry import explainers


@explainers.register(
    "gradient",
    family="gradients",
    source="Simonyan et al., ICLR workshop 2014",
    needs="a differentiable network",
    sign="positive, unless pooling=sum",
)
@dataclass(frozen=True)
class Gradient:
    """How strongly the logit reacts to each pixel."""

    pooling: str = "abs_max"  # over the colour channels

    def __post_init__(self) -> None:
        check_pooling(self.pooling)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return POOLINGS[self.pooling](input_gradient(classifier, query.images, query.targets))
