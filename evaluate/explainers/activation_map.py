"""The formula that all class activation maps share, at one layer or fused over several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..maps import normalise_range, upsample
from ..models.classifier import Classifier
from .attribution.activations import Activations, activations
from .attribution.contrasts import describe_options, lead_over
from .ranges import Layers, Ranges

FAMILY = {"family": "cam", "needs": "a layer with spatial extent"}

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {  # (layers, B, H, W) -> (B, H, W)
    "mean": lambda maps: maps.mean(0),
    "max": lambda maps: maps.amax(0),
}


@dataclass(frozen=True)
class ActivationMap(ABC):
    """S = h(sum_k w_k A_k), where A_k are the layer's channels; h is a ReLU, or the identity where a variant says so.

    What tells one variant from another is the weights. The map of one layer is raw: brought to the images' resolution,
    not normalised. Those of several layers are normalised, each image's to [0, 1], and then fused.
    """

    layer: str | None = None  # paths of submodules, as in layer3+layer4; the classifier's target layer where None
    fuse: str = "mean"  # or max: how several layers become one map

    ranges: ClassVar[Ranges] = {"layer": Layers()}

    def __post_init__(self) -> None:
        check_known("fusion", self.fuse, FUSIONS)
        if "" in self.layers():
            raise WrongUsage(
                f'layer is "{self.layer}"; expected the path of a submodule, or several as in layer3+layer4'
            )

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        maps = [self.draw(self.look(classifier, query, layer)) for layer in self.layers()]
        return (
            maps[0] if len(maps) == 1 else FUSIONS[self.fuse](torch.stack([normalise_range(layer) for layer in maps]))
        )

    def layers(self) -> list[str | None]:
        """The layers that the map is made of, by their paths."""
        return [None] if self.layer is None else [path.strip() for path in self.layer.split("+")]

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up; of several layers, those of the finest."""
        first = Query(*(tensor[:1] for tensor in query))
        shapes = [self.look(classifier, first, layer).channels.shape[2:] for layer in self.layers()]
        height, width = max(shapes, key=lambda shape: shape.numel())
        return height, width

    def look(self, classifier: Classifier, query: Query, layer: str | None) -> Activations:
        """Run the network up to one of the layers."""
        return activations(classifier, query, layer)

    def draw(self, seen: Activations) -> Tensor:
        """Draw the map (B, H, W) of one layer at the images' resolution."""
        return upsample(self.coarse(seen), seen.query.images)

    def coarse(self, seen: Activations) -> Tensor:
        """The map (B, h, w) of one layer at its own resolution."""
        return self.rectify((self.weights(seen) * self.channels(seen)).sum(1))

    @abstractmethod
    def weights(self, seen: Activations) -> Tensor:
        """The weights w in the formula: (B, K, 1, 1), or (B, K, h, w)."""

    def channels(self, seen: Activations) -> Tensor:
        """The channels A in the formula: (B, K, h, w)."""
        return seen.channels

    def rectify(self, maps: Tensor) -> Tensor:
        """Apply h of the formula to maps (B, h, w): drop evidence against the class, unless a variant keeps it."""
        return maps.relu()


@dataclass(frozen=True, repr=False)
class GradientMap(ActivationMap):
    """A class activation map whose weights come from a gradient: of the target's logit, or of its lead over a class."""

    contrast: str | None = field(default=None, kw_only=True)  # a class by name: explain the lead over its logit

    def look(self, classifier: Classifier, query: Query, layer: str | None) -> Activations:
        """Run the network up to one of the layers, and choose what is differentiated."""
        return super().look(classifier, query, layer)._replace(read=lead_over(classifier, self.contrast))

    def __repr__(self) -> str:
        return describe_options(self, ("contrast",))
