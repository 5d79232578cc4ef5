"""Any attribution of Captum as a method: `captum:Occlusion(sliding_window_shapes=(3,8,8),strides=(3,4,4))`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ...case import Query
from ...models.classifier import Classifier
from ...models.networks.modules import LINEAR, MEANS, NORMS, Constant
from ...options import Arguments
from .copies import CountedCopy, canonical_copy, copy_network, find_layer, separate_operations
from .foreign import Foreign, Loan, Toolkit, parameters, required_parameters

RELEVANCE = {"LRP", "LayerLRP"}  # these multiply by the images, which must be the network's own input
KNOWN = (*LINEAR, *MEANS, *NORMS, nn.ReLU, nn.MaxPool2d, Constant)
WRAPPED = "attribution_method"  # the attribution that another one wraps, by its name


@dataclass(frozen=True)
class Captum(Foreign):
    """An attribution of Captum for the target's logit; channels are summed unless `pooling=` says otherwise.

    Arguments go to the constructor or to `attribute`, whichever takes them. Where a baseline is required and none is
    given, it is black. Layer attributions look at the classifier's target layer unless `layer=` says otherwise. LRP and
    LayerLRP are layer-wise relevance propagation, which is patented.

    Source: Kokhlikyan et al., arXiv 2009.07896.
    """

    toolkit: ClassVar[Toolkit] = Toolkit("captum", "captum", "captum.attr")
    rowwise: ClassVar[frozenset[str]] = frozenset(
        [
            "Saliency",
            "InputXGradient",
            "IntegratedGradients",
            "GuidedBackprop",
            "Deconvolution",
            "GuidedGradCam",
            "DeepLift",
            "LRP",
            "Occlusion",
            "FeatureAblation",
            "LayerGradCam",
            "LayerActivation",
            "LayerGradientXActivation",
            "LayerIntegratedGradients",
            "LayerConductance",
            "InternalInfluence",
            "LayerDeepLift",
            "LayerLRP",
        ]
    )
    blind: ClassVar[frozenset[str]] = frozenset({"LayerActivation"})

    def classes(self) -> Mapping[str, type]:
        """All attributions of Captum that take images, by name."""
        module = self.toolkit.load()
        kinds = inspect.getmembers(module, inspect.isclass)
        return {name: kind for name, kind in kinds if takes_images(kind)}

    def check_arguments(self) -> None:
        """Check the arguments of constructor and `attribute`: those without default are typed, or filled in here."""
        kind = self.toolkit_class
        constructor, call = self.share_out(kind.__init__, kind.attribute)
        present = {"model", "forward_func", "layer", "inputs", "target", "baselines", *constructor, *call}
        if missing := sorted((required_parameters(kind.__init__) | required_parameters(kind.attribute)) - present):
            raise WrongUsage(f"captum:{self.kind} needs {missing[0]}; write captum:{self.kind}({missing[0]}=VALUE)")
        if WRAPPED in constructor and constructor[WRAPPED] not in self.classes():
            raise WrongUsage(unknown("class of captum", str(constructor[WRAPPED]), self.classes()))

    def lend(self, classifier: Classifier) -> Loan:
        """Lend a plain copy, or one of known modules to attributions that replace their gradients."""
        wanted = parameters(self.toolkit_class.__init__)
        if "model" in wanted:
            network: nn.Module = separate_operations(canonical_copy(classifier, f"captum:{self.kind}", KNOWN))
        else:
            network = copy_network(classifier)
        layer = find_layer(network, classifier, self.layer) if "layer" in wanted else None
        if self.kind in RELEVANCE:
            give_rules(network)
        return Loan(CountedCopy(classifier, network, normalises=self.kind not in RELEVANCE), layer)

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """The attribution to pixels (B, 3, H, W), or what a layer attribution gives."""
        constructor, call = self.share_out(self.toolkit_class.__init__, self.toolkit_class.attribute)
        method = self.construct(loan, constructor)
        images = classifier.normalise(query.images).float() if self.kind in RELEVANCE else query.images
        inputs = images.detach().clone().requires_grad_()
        result = method.attribute(inputs, **self.fill_in(classifier, query, call), **call)
        return result[0] if isinstance(result, tuple) else result

    def construct(self, loan: Loan, arguments: Arguments) -> Any:
        """Construct the attribution of a model, or of another attribution that the arguments name."""
        if WRAPPED in arguments:
            inner = self.classes()[arguments[WRAPPED]]
            return self.toolkit_class(**{**arguments, WRAPPED: inner(loan.model)})
        return self.toolkit_class(*filter(None, loan), **arguments)

    def fill_in(self, classifier: Classifier, query: Query, call: Arguments) -> Arguments:
        """The arguments that `attribute` needs besides the images and what was typed."""
        names = inspect.signature(self.toolkit_class.attribute).parameters
        values: Arguments = {}
        if "target" in names or "kwargs" in names:
            values["target"] = query.targets
        if "internal_batch_size" in names:
            values["internal_batch_size"] = max(len(query.images), classifier.in_flight)
        if "baselines" in required_parameters(self.toolkit_class.attribute):
            values["baselines"] = torch.zeros_like(query.images[:1]).repeat(2, 1, 1, 1)  # some want more than one
        return {name: value for name, value in values.items() if name not in call}


def takes_images(kind: type) -> bool:
    """Whether a class of Captum attributes to inputs."""
    attribute = getattr(kind, "attribute", None)
    return callable(attribute) and not inspect.isabstract(kind) and "inputs" in parameters(attribute)


def give_rules(network: nn.Module) -> None:
    """Give rules of LRP to modules that Captum does not know: means and what moves values share out, shifts pass on."""
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    for module in network.modules():
        if isinstance(module, Constant):
            module.rule = IdentityRule()
        elif isinstance(module, MEANS) or not (any(module.children()) or isinstance(module, KNOWN)):
            module.rule = EpsilonRule()
