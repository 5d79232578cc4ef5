"""Any class of pytorch-grad-cam as a method: `grad_cam:GradCAMPlusPlus`, `grad_cam:AblationCAM(batch_size=16)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ...case import Query
from ...models.classifier import Classifier
from .foreign import Arguments, Foreign, Loan, Toolkit, needed, parameters
from .lent import Lent, copied, layer_of

WRAPPED = "base_method"  # the class that another one wraps, by its name


@dataclass(frozen=True)
class PytorchGradCam(Foreign):
    """A class activation map of pytorch-grad-cam, in [0, 1] and positive, as it scales them.

    Arguments go to the constructor or to the call, whichever takes them.
    """

    toolkit: ClassVar[Toolkit] = Toolkit("grad_cam", "grad-cam", "pytorch_grad_cam")
    rowwise: ClassVar[frozenset[str]] = frozenset(
        [
            "GradCAM",
            "GradCAMPlusPlus",
            "GradCAMElementWise",
            "HiResCAM",
            "XGradCAM",
            "LayerCAM",
            "EigenCAM",
            "EigenGradCAM",
            "ScoreCAM",
        ]
    )
    blind: ClassVar[frozenset[str]] = frozenset({"EigenCAM", "SegEigenCAM", "KPCA_CAM", "FEM", "RandomCAM"})

    def classes(self) -> Mapping[str, type]:
        """All that take a model and layers."""
        found = inspect.getmembers(self.toolkit.load(), inspect.isclass)
        return {name: each for name, each in found if explains_layers(each)}

    def check_arguments(self) -> None:
        """Of constructor and call."""
        made, _ = self.shared_out(self.thing.__init__, self.thing.__call__)
        if WRAPPED in made and made[WRAPPED] not in self.classes():
            raise WrongUsage(unknown("class of grad_cam", str(made[WRAPPED]), self.classes()))

    def lent(self, classifier: Classifier) -> Loan:
        """A plain copy, and the layer."""
        network = copied(classifier)
        layer = layer_of(network, classifier, self.layer)
        model = Lent(classifier, network, portions="ablation_layer" not in parameters(self.thing.__init__))
        # It differentiates with respect to the layer, which wants a gradient where some weight before it does.
        return Loan(model.requires_grad_(True).eval(), layer)

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """(B, H, W)."""
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        made, called = self.shared_out(self.thing.__init__, self.thing.__call__)
        method = self.thing(loan.model, [loan.layer], **self.provided(classifier, made))
        targets = [ClassifierOutputTarget(target) for target in query.targets.tolist()]
        try:
            maps = method(query.images.clone(), targets, **called)
        finally:
            forget(method)
        return torch.as_tensor(maps, device=query.images.device)

    def provided(self, classifier: Classifier, made: Arguments) -> Arguments:
        """What the constructor is given besides the model and its layer."""
        found = {"batch_size": classifier.in_flight} if "batch_size" in parameters(self.thing.__init__) else {}
        inner = {WRAPPED: self.classes()[made[WRAPPED]]} if WRAPPED in made else {}
        return {**found, **made, **inner}


def forget(method: Any) -> None:
    """Drop what a method has kept of its passes: it would detach that in place later, which fails for views."""
    kept = getattr(method, "activations_and_grads", None)
    if kept is not None:
        kept.activations, kept.gradients = [], []


def explains_layers(kind: type) -> bool:
    """Whether a class is made of a model and its layers alone, is called with images, and is no base of others."""
    made: Any = kind.__init__  # type: ignore[misc]
    layers = {"model", "target_layers"}
    return needed(made) == layers and "__call__" in dir(kind) and kind.__name__ != "BaseCAM"
