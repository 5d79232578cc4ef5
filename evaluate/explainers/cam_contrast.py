"""Class activation maps of what tells a class from others that are like it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from an8flower import spec as specs
from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evidence import discriminative_parts
from an8flower.names import check_known

from ..case import Query
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Readout, logit
from ..registry import explainers
from .activation_map import FAMILY, ActivationMap, GradientMap
from .attribution.activations import Activations
from .attribution.contrasts import class_number, closest_classes
from .cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from .ranges import Between, Choices, Ranges

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
    Paired classes are known for a model that was trained on a preset.
    """

    base: str = "gradcam"  # or gradcam_pp, xgradcam, layercam, hirescam
    gamma: float = 0.6  # how much the references count; 0 is the base itself
    # The classes with the closest logits; or paired, those that differ in the fewest parts; or names, as in red+blue.
    references: str = "closest"
    count: int = 3  # of closest references

    ranges: ClassVar[Ranges] = {"base": Choices(tuple(BASES)), "gamma": Between(0.0, 1.5), "count": Between(1, 3)}

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
        table = self.table_of_references(classifier)

        def read(logits: Tensor, targets: Tensor) -> Tensor:
            if table is None:
                others = torch.zeros_like(logits).scatter(1, closest_classes(logits, targets, self.count), 1.0)
            else:
                others = table.to(logits)[targets]
            mean = (logits * others).sum(1) / others.sum(1).clamp(min=1)
            return logit(logits, targets) - self.gamma * mean

        return read

    def table_of_references(self, classifier: Classifier) -> Tensor | None:
        """Which classes (columns) are references of which (rows), (C, C) bool; None if they are the closest ones."""
        if self.references == "closest":
            return None
        if self.references == "paired":
            return paired_classes(classifier)
        columns = [class_number(classifier, name.strip()) for name in self.references.split("+")]
        table = torch.zeros(len(classifier.class_names), len(classifier.class_names), dtype=torch.bool)
        table[:, columns] = True
        return table.fill_diagonal_(False)

    def coarse(self, seen: Activations) -> Tensor:
        """The map (B, h, w) that the base draws of one layer."""
        return BASES[self.base]().coarse(seen)

    def weights(self, seen: Activations) -> Tensor:
        """The weights of the base, from the gradient of the contrast."""
        return BASES[self.base]().weights(seen)


def paired_classes(classifier: Classifier) -> Tensor:
    """Which classes (columns) differ from each class (rows) in as few parts as any does, (C, C) bool.

    Raises:
        NotApplicable: the model's card does not name a preset with its classes.
    """
    name = classifier.card.data.get("name", "")
    spec = specs.load(name) if name in specs.presets() else None
    if spec is None or tuple(spec.class_names) != classifier.class_names:
        raise NotApplicable(
            f"finercam: nothing is known of the design of the classes of {classifier.arch}, which was trained on no "
            "preset; name them, as in finercam:references=red+blue"
        )
    classes = range(len(classifier.class_names))
    counts = torch.tensor([[len(discriminative_parts(spec, first, second)) for second in classes] for first in classes])
    counts.fill_diagonal_(int(counts.max()) + 1)
    return counts == counts.amin(1, keepdim=True)
