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
from .foreign import Arguments, Foreign, Loan, Toolkit, needed, parameters
from .lent import Lent, canonical_copy, copied, layer_of, separated

RELEVANCE = {"LRP", "LayerLRP"}  # what they give is multiplied by the images, which must be the network's own input
KNOWN = (*LINEAR, *MEANS, *NORMS, nn.ReLU, nn.MaxPool2d, Constant)
WRAPPED = "attribution_method"  # the attribution that another one wraps, by its name


@dataclass(frozen=True)
class Captum(Foreign):
    """An attribution of Captum for the target's logit; channels are summed unless `pooling=` says otherwise.

    Arguments go to the constructor or to `attribute`, whichever takes them. Where a baseline is required and none is
    given, it is black. Layer attributions look at the classifier's target layer unless `layer=` says otherwise.

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
        """All attributions that take images."""
        module = self.toolkit.load()
        found = inspect.getmembers(module, inspect.isclass)
        return {name: each for name, each in found if takes_images(each)}

    def check_arguments(self) -> None:
        """Of constructor and `attribute`; those without default must be given, or be what is given anyway."""
        kind = self.thing
        made, called = self.shared_out(kind.__init__, kind.attribute)
        here = {"model", "forward_func", "layer", "inputs", "target", "baselines", *made, *called}
        if missing := sorted((needed(kind.__init__) | needed(kind.attribute)) - here):
            raise WrongUsage(f"captum:{self.kind} needs {missing[0]}; write captum:{self.kind}({missing[0]}=VALUE)")
        if WRAPPED in made and made[WRAPPED] not in self.classes():
            raise WrongUsage(unknown("class of captum", str(made[WRAPPED]), self.classes()))

    def lent(self, classifier: Classifier) -> Loan:
        """A plain copy, or one of known modules for what replaces their gradients."""
        wanted = parameters(self.thing.__init__)
        if "model" in wanted:
            network: nn.Module = separated(canonical_copy(classifier, f"captum:{self.kind}", KNOWN))
        else:
            network = copied(classifier)
        layer = layer_of(network, classifier, self.layer) if "layer" in wanted else None
        if self.kind in RELEVANCE:
            give_rules(network)
        return Loan(Lent(classifier, network, normalises=self.kind not in RELEVANCE), layer)

    def attribution(self, classifier: Classifier, loan: Loan, query: Query) -> Tensor:
        """(B, 3, H, W), or what a layer attribution gives."""
        made, called = self.shared_out(self.thing.__init__, self.thing.attribute)
        method = self.made(loan, made)
        images = classifier.normalise(query.images).float() if self.kind in RELEVANCE else query.images
        inputs = images.detach().clone().requires_grad_()
        found = method.attribute(inputs, **self.provided(classifier, query, called), **called)
        return found[0] if isinstance(found, tuple) else found

    def made(self, loan: Loan, arguments: Arguments) -> Any:
        """The attribution of a model, or of another attribution, given by its name."""
        if WRAPPED in arguments:
            inner = self.classes()[arguments[WRAPPED]]
            return self.thing(**{**arguments, WRAPPED: inner(loan.model)})
        return self.thing(*filter(None, loan), **arguments)

    def provided(self, classifier: Classifier, query: Query, called: Arguments) -> Arguments:
        """What `attribute` is given besides the images and what was typed."""
        names = inspect.signature(self.thing.attribute).parameters
        found: Arguments = {}
        if "target" in names or "kwargs" in names:
            found["target"] = query.targets
        if "internal_batch_size" in names:
            found["internal_batch_size"] = max(len(query.images), classifier.in_flight)
        if "baselines" in needed(self.thing.attribute):
            found["baselines"] = torch.zeros_like(query.images[:1]).repeat(2, 1, 1, 1)  # some want more than one
        return {name: value for name, value in found.items() if name not in called}


def takes_images(kind: type) -> bool:
    """Whether a class attributes to inputs."""
    attribute = getattr(kind, "attribute", None)
    return callable(attribute) and not inspect.isabstract(kind) and "inputs" in parameters(attribute)


def give_rules(network: nn.Module) -> None:
    """Rules of LRP for modules that Captum does not know: shares for means and what moves values; shifts pass it on."""
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    for module in network.modules():
        if isinstance(module, Constant):
            module.rule = IdentityRule()
        elif isinstance(module, MEANS) or not (any(module.children()) or isinstance(module, KNOWN)):
            module.rule = EpsilonRule()
