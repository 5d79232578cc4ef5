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
from ...options import Arguments
from .copies import CountedCopy, copy_network, find_layer
from .foreign import Foreign, Loan, Toolkit, parameters, required_parameters

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
        """All classes of pytorch-grad-cam that take a model and layers, by name."""
        kinds = inspect.getmembers(self.toolkit.load(), inspect.isclass)
        return {name: kind for name, kind in kinds if explains_layers(kind)}

    def check_arguments(self) -> None:
        """Check the arguments of constructor and call."""
        constructor, _ = self.share_out(self.toolkit_class.__init__, self.toolkit_class.__call__)
        if WRAPPED in constructor and constructor[WRAPPED] not in self.classes():
            raise WrongUsage(unknown("class of grad_cam", str(constructor[WRAPPED]), self.classes()))

    def lend(self, classifier: Classifier) -> Loan:
        """Lend a plain copy of the network, and the layer in it."""
        network = copy_network(classifier)
        layer = find_layer(network, classifier, self.layer)
        names = parameters(self.toolkit_class.__init__)
        model = CountedCopy(classifier, network, in_portions="ablation_layer" not in names)
        # It differentiates with respect to the layer, which wants a gradient where some weight before it does.
        return Loan(model.requires_grad_(True).eval(), layer)

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """The maps (B, H, W) as the toolkit scales them."""
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        constructor, call = self.share_out(self.toolkit_class.__init__, self.toolkit_class.__call__)
        method = self.toolkit_class(loan.model, [loan.layer], **self.fill_in(classifier, constructor))
        targets = [ClassifierOutputTarget(target) for target in query.targets.tolist()]
        try:
            maps = method(query.images.clone(), targets, **call)
        finally:
            forget(method)
        return torch.as_tensor(maps, device=query.images.device)

    def fill_in(self, classifier: Classifier, constructor: Arguments) -> Arguments:
        """The constructor's arguments besides the model and its layer."""
        names = parameters(self.toolkit_class.__init__)
        defaults = {"batch_size": classifier.in_flight} if "batch_size" in names else {}
        inner = {WRAPPED: self.classes()[constructor[WRAPPED]]} if WRAPPED in constructor else {}
        return {**defaults, **constructor, **inner}


def forget(method: Any) -> None:
    """Drop the tensors that a method keeps of its passes: detaching them in place later fails for views."""
    hooks = getattr(method, "activations_and_grads", None)
    if hooks is not None:
        hooks.activations, hooks.gradients = [], []


def explains_layers(kind: type) -> bool:
    """Whether a class takes a model and its layers alone, is called with images, and is no base of others."""
    constructor: Any = kind.__init__  # type: ignore[misc]
    layers = {"model", "target_layers"}
    return required_parameters(constructor) == layers and "__call__" in dir(kind) and kind.__name__ != "BaseCAM"
