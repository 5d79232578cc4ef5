"""Maps that do not look at the classifier: what any explanation has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import WrongUsage

from ..case import Query
from ..models.classifier import Classifier
from ..registry import explainers
from ..seeds import generator
from .ranges import Between, Ranges

CONTROL: dict[str, Any] = {
    "family": "baselines",
    "source": "control",
    "needs": "nothing",
    "sign": "positive",
    "class_sensitive": False,
}


@explainers.register("random", **CONTROL)
@dataclass(frozen=True)
class Random:
    """Uniform noise in [0, 1), drawn for each row from its own seed on the CPU: the same in any batch and device."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        shape = query.images.shape[2:]
        noise = [torch.rand(shape, generator=generator(seed)) for seed in query.seeds.tolist()]
        return torch.stack(noise).to(query.images.device)


@explainers.register("center", **CONTROL)
@dataclass(frozen=True)
class Center:
    """A Gaussian around the middle of the image: where photographers put things."""

    width: float = 0.25  # standard deviation, as a share of the image's side

    ranges: ClassVar[Ranges] = {"width": Between(0.1, 0.5)}

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise WrongUsage(f"center: width is {self.width}; expected a positive share of the image's side")

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        count, _, height, width = query.images.shape
        return torch.outer(self._bell(height), self._bell(width)).to(query.images.device).repeat(count, 1, 1)

    def _bell(self, side: int) -> Tensor:
        offset = (torch.arange(side) + 0.5) / side - 0.5
        return torch.exp(-0.5 * (offset / self.width) ** 2)


@explainers.register("edges", **CONTROL)
@dataclass(frozen=True)
class Edges:
    """The magnitude of the Sobel gradient of the brightness."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        kernels = torch.stack([across, across.T])[:, None].to(query.images.device)
        padded = F.pad(brightness(query.images)[:, None], (1, 1, 1, 1), mode="replicate")
        return torch.hypot(*F.conv2d(padded, kernels).unbind(1))


@explainers.register("intensity", **CONTROL)
@dataclass(frozen=True)
class Intensity:
    """The brightness itself, in [0, 1]."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return brightness(query.images)


@explainers.register("fakecam", **CONTROL | {"source": "Poppi et al., CVPRW 2021"})
@dataclass(frozen=True)
class FakeCam:
    """One everywhere but for a zero in the top left corner: nearly perfect to metrics that only mask the image."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        maps = torch.ones_like(query.images[:, 0])
        maps[:, 0, 0] = 0
        return maps


def brightness(images: Tensor) -> Tensor:
    """The luma (ITU-R BT.601) of (B, 3, H, W) sRGB images: (B, H, W) in [0, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights)
