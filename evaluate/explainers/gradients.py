"""Explanations from the gradient of the class's logit with respect to the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..case import Query
from ..classifier import Classifier
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


def input_gradient(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """The gradient (B, 3, H, W) of each image's target logit with respect to its own pixels."""
    images = images.detach().requires_grad_()
    chosen = classifier(images).gather(1, targets[:, None])
    # Rows do not mix in eval mode, so that the gradient of the sum holds that of every row.
    return torch.autograd.grad(chosen.sum(), images)[0]
