"""The convolutional networks with cross-attention pooling in place of the mean: `resnet18+ca-stream` and its like.

`ca-stream` has cross-attention behind every stage, `ca-final` behind the last one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from ...registry import archs
from ..cross_attention import POOLINGS, BackboneStages, CrossAttentionPooled
from .flowernet import flowernet
from .torchvision_cnns import convnext_tiny, mobilenet_v2, resnet18, resnet50


class Base(NamedTuple):
    """A network that takes cross-attention: its function, its stages, and the channels of their outputs."""

    make: Callable[[int, int], nn.Module]
    stages: BackboneStages
    widths: tuple[int, ...]


RESNET = BackboneStages((("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)), "fc")
CONVNEXT = BackboneStages(  # the last module of each stage is the one that is attended to
    (
        ("features.0",),
        ("features.1", "features.2"),
        ("features.3", "features.4"),
        ("features.5", "features.6", "features.7"),
    ),
    "classifier",
    flat=False,
)


def _span(first: int, last: int) -> tuple[str, ...]:
    """The paths of consecutive modules in `features`."""
    return tuple(f"features.{i}" for i in range(first, last + 1))


FLOWERNET = BackboneStages((_span(0, 2), _span(3, 5), _span(6, 8), _span(9, 11)), "classifier")
MOBILENET = BackboneStages((_span(0, 1), _span(2, 3), _span(4, 6), _span(7, 13), _span(14, 18)), "classifier")

BASES = {
    "flowernet": Base(flowernet, FLOWERNET, (16, 32, 64, 64)),
    "resnet18": Base(resnet18, RESNET, (64, 64, 128, 256, 512)),
    "resnet50": Base(resnet50, RESNET, (64, 256, 512, 1024, 2048)),
    "mobilenet_v2": Base(mobilenet_v2, MOBILENET, (16, 24, 32, 96, 1280)),
    "convnext_tiny": Base(convnext_tiny, CONVNEXT, (96, 192, 384, 768)),
}


@dataclass(frozen=True)
class PooledBase:
    """A convolutional network, pooled by cross-attention in place of the mean."""

    base: Base
    pooling: str

    def __call__(self, classes: int, size: int) -> nn.Module:
        """A network for so many classes; any size."""
        widths = self.base.widths if self.pooling == "ca-stream" else self.base.widths[-1:]
        return CrossAttentionPooled(self.base.make(classes, size), self.base.stages, widths)


def _register(name: str, base: Base, pooling: str) -> None:
    """Register a base with a pooling, under the name `base+pooling`; all else is as the base was registered."""
    about = {
        **archs[name].about,
        "layer": f"backbone.{base.stages.parts[-1][-1]}",
        "source": "Torres et al., XAI4CV at CVPR 2024",
        "pooling": pooling,
    }
    archs.register(f"{name}+{pooling}", **about)(PooledBase(base, pooling))


for _name, _base in BASES.items():
    for _pooling in POOLINGS:
        _register(_name, _base, _pooling)
