"""A plug-in as others write it: one explainer, and its entry point in setup.cfg."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.evaluate import Classifier, Query, register_explainer


@register_explainer(
    "garden-gradient", family="garden", source="tests", needs="a differentiable network", sign="positive"
)
@dataclass(frozen=True)
class GardenGradient:
    """The magnitude of the gradient to some power, summed over channels."""

    power: float = 1.0

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        images = query.images.detach().requires_grad_()
        logits = classifier(images).gather(1, query.targets[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), images)
        return gradient.abs().pow(self.power).sum(1)


@dataclass(frozen=True)
class Hooked:
    """Bad: its hook stays on the model."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        classifier.network.register_forward_hook(lambda module, inputs, output: None)
        return GardenGradient()(classifier, query)


@dataclass(frozen=True)
class Dicing:
    """Bad: it draws from torch's global random state."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        maps = GardenGradient()(classifier, query)
        return maps + 0.1 * maps.mean() * torch.rand(maps.shape).to(maps.device)


@dataclass(frozen=True)
class Raising:
    """Bad: it raises."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        raise ValueError("no flowers today")
