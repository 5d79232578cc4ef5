"""Class activation maps of what tells a class from others that are like it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Readout, logit
from ..registry import explainers
from .activation_map import FAMILY, ActivationMap, GradientMap
from .attribution.activations import Activations
from .attribution.contrasts import class_number, closest_classes
from .cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam

BASES: dict[str, Callable[..., GradientMap]] = {
    "gradcam": GradCam,
    "gradcam_pp": GradCamPlusPlus,
    "xgradcam": XGradCam,
    "layercam": LayerCam,
    "hirescam": HiResCam,
}


@explainers.register("finercam", **FAMILY, source="Zhang et al., CVPR 2025 (arXiv 2501.11309)", sign="positive")
@dataclass(frozen=True)
class FinerCam(ActivationMap):
    """A gradient CAM of y_c - gamma * mean of y_d, where d are classes that are like the target c.

    The logits are compared before the map's ReLU, so that what both classes share cancels. Costs what its base costs.
    A reference that is the target itself does not count; where no other is left, the target's logit is explained.
    """

    base: str = "gradcam"  # or gradcam_pp, xgradcam, layercam, hirescam
    gamma: float = 0.6  # how much the references count; 0 is the base itself
    references: str = "closest"  # the classes with the closest logits, or names of classes, as in red+blue
    count: int = 3  # of closest references

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known("base", self.base, BASES)
        if not 0 <= self.gamma < math.inf:
            raise WrongUsage(f"finercam: gamma is {self.gamma}; expected 0 or a positive number")
        if self.count < 1:
            raise WrongUsage(f"finercam: count is {self.count}; expected at least 1 reference")

    def look(self, classifier: Classifier, query: Query, layer: str | None) -> Activations:
        """Run the network up to one of the layers, and choose what is differentiated."""
        return super().look(classifier, query, layer)._replace(read=self.contrast_with_references(classifier))

    def contrast_with_references(self, classifier: Classifier) -> Readout:
        """A readout: the target's logit less gamma times the mean logit of its references."""
        named = self.named_references(classifier)

        def read(logits: Tensor, targets: Tensor) -> Tensor:
            if named is None:
                others = closest_classes(logits, targets, self.count)
            else:
                others = torch.tensor(named, device=targets.device).expand(len(targets), -1)
            counts = (others != targets[:, None]).to(logits)
            mean = (logits.gather(1, others) * counts).sum(1) / counts.sum(1).clamp(min=1)
            return logit(logits, targets) - self.gamma * mean

        return read

    def named_references(self, classifier: Classifier) -> list[int] | None:
        """The classes that `references` names; None if they are the closest ones."""
        if self.references == "closest":
            return None
        return [class_number(classifier, name.strip()) for name in self.references.split("+")]

    def coarse(self, seen: Activations) -> Tensor:
        """The map (B, h, w) that the base draws of one layer."""
        return BASES[self.base]().coarse(seen)

    def weights(self, seen: Activations) -> Tensor:
        """The weights of the base, from the gradient of the contrast."""
        return BASES[self.base]().weights(seen)
