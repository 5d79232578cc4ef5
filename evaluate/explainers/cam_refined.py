"""A class activation map that several layers agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import NotApplicable
from an8flower.names import check_known

from ..case import Query
from ..maps import normalise_range, upsample
from ..models.classifier import Classifier
from ..registry import explainers
from .activation_map import FAMILY
from .attribution.activations import differentiate_layers
from .attribution.stages import list_stages
from .cam_contrast import BASES
from .ranges import Choices, Ranges

MOST = 3  # layers, where the user names none


@explainers.register("refinecam", **FAMILY, source="arXiv 2605.14641", sign="positive")
@dataclass(frozen=True)
class RefineCam:
    """The product of the maps of several layers: high where all of them say so, as sharp as the finest of them.

    Each map is scaled to [0, 1], resized to the finest layer's resolution, multiplied with the others, and the product
    scaled to [0, 1] and upsampled. Without `layer`: the target layer and those before it, the last one of each
    resolution, three in all; in a vision transformer, the same norm in each of the last three blocks. Costs one
    pass, and the way back from the logits to the first of the layers; without `layer`, a pass of one image more.
    """

    layer: str | None = None  # paths of submodules, as in layer2+layer3+layer4
    base: str = "gradcam_pp"  # or gradcam, xgradcam, layercam, hirescam

    ranges: ClassVar[Ranges] = {"base": Choices(tuple(BASES))}

    def __post_init__(self) -> None:
        check_known("base", self.base, BASES)
        BASES[self.base](layer=self.layer)  # which checks the paths

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        layers = layers_to_refine(classifier) if self.layer is None else self.layer.split("+")
        base = BASES[self.base]()
        seen = differentiate_layers(classifier, query, [layer.strip() for layer in layers])
        maps = [base.coarse(layer) for layer in seen]
        return upsample(refine(maps), query.images)


def refine(maps: list[Tensor]) -> Tensor:
    """The product, in [0, 1], of maps (B, h, w), each scaled to [0, 1], at the size of the largest of them."""
    size = [max(sides) for sides in zip(*(layer.shape[1:] for layer in maps), strict=True)]
    scaled = [F.interpolate(normalise_range(layer)[:, None], size, mode="bilinear")[:, 0] for layer in maps]
    return normalise_range(torch.stack(scaled).prod(0))


def layers_to_refine(classifier: Classifier) -> list[str]:
    """The target layer and layers before it, at most `MOST` in all, the first one first."""
    stages = list_stages(classifier)
    if not stages:
        raise NotApplicable(f"{classifier.arch} has no layers that give maps; use a method that only masks pictures")
    return stages[-MOST:]
