"""Relevance: the logit, handed down from layer to layer until the pixels hold it.

The rules are Zennit's. They run on a copy of the network (see `copy_canonically`) in which batch norms are folded into
the convolutions before them and residual sums are modules; a batch norm without such a convolution, an activation and a
number that is added or multiplied pass relevance on as it is, max-pooling gives it to the winner, and means, pooling
and sums hand it out in proportion to what each summand contributes. What has no rule is refused.

Normalisation is no layer: the relevance of a channel of a pixel is that of its normalised value. Relevance is computed
in at least single precision, that of bfloat16 models too. Besides a pass forwards, a map costs as many passes forwards
and backwards as the rule of the convolutions makes of one (`Rules.passes`); the ordinary gradient, which Zennit
computes on its way and discards, is not booked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..maps import upsample
from ..models.canonical import copy_canonically
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Readout, logit
from ..models.networks.features import at_least_single
from ..models.networks.modules import (
    ACTIVATIONS,
    LINEAR,
    MAXIMA,
    MEANS,
    NORMS,
    RECTIFIERS,
    Constant,
    first_linear_layers,
    sees_pixels,
    tap,
)
from ..registry import explainers
from . import patents
from .attribution.contrasts import describe_options, lead_over
from .attribution.pixels import PixelAttribution
from .ranges import Between, Choices, Layers, Ranges

FAMILY = {"family": "relevance", "needs": "a CNN of common layers"}
# Added to sums of what excites, which cannot cancel: much smaller than any activation, so that nothing is lost.
TINY = 1e-20
Hook = Any  # of Zennit, which is imported when it is needed


class Rules(NamedTuple):
    """The rule of propagation that each kind of layer gets."""

    first: Hook  # for the linear layers that see the image
    convolution: Hook
    dense: Hook
    means: Hook  # for means, average pooling and sums of layers
    activations: tuple[type[nn.Module], ...] = ACTIVATIONS  # that pass relevance on

    @property
    def passes(self) -> int:
        """How often the rule of the convolutions runs its layer, forwards and backwards."""
        return len(self.convolution.input_modifiers)

    @property
    def known(self) -> tuple[type[nn.Module], ...]:
        """The modules that have a rule; that of a maximum is its gradient."""
        return (*LINEAR, *MEANS, *NORMS, *self.activations, Constant, *MAXIMA)

    def rule_of(self, module: nn.Module) -> Hook | None:
        """The rule of a module that does not see the image; None where the gradient is the rule."""
        from zennit.rules import Pass

        if isinstance(module, nn.Linear):
            return self.dense
        if isinstance(module, LINEAR):
            return self.convolution
        if isinstance(module, MEANS):
            return self.means
        return Pass() if isinstance(module, (*NORMS, *self.activations, Constant)) else None


@explainers.register(
    "lrp",
    **FAMILY,
    source="Bach et al., PLoS ONE 2015; Kohlbrenner et al., IJCNN 2020",
    sign="signed",
    note=patents.LRP,
)
@dataclass(frozen=True, repr=False)
class Lrp(PixelAttribution):
    """Layer-wise relevance propagation, from the logit down, with a rule for each kind of layer.

    Composites, named for the rule of dense layers, of convolutions, and of the first layer where it has its own:
    `epsilon_plus_flat`, `epsilon_plus`, `epsilon` (everywhere), `epsilon_gamma_box` (the box is that of images in
    [0, 1]), `alpha2_beta1` (for convolutions; epsilon for dense layers). The map adds up to the logit but for what
    biases and epsilon take; with alpha2_beta1, also but for neurons with contributions of one sign only. LRP is
    patented, and free of charge for personal and scientific use alone, its authors say.
    """

    pooling: str = "sum"
    composite: str = "epsilon_plus_flat"
    epsilon: float = 1e-6  # of the epsilon rule
    gamma: float = 0.25  # of the gamma rule
    contrast: str | None = None  # a class by name, whose logit is handed down too, with a minus sign

    ranges: ClassVar[Ranges] = {
        "composite": Choices(("epsilon_plus_flat", "epsilon_plus", "epsilon", "epsilon_gamma_box", "alpha2_beta1")),
        "epsilon": Between(1e-6, 0.1, log=True),
        "gamma": Between(0.01, 1.0, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known("composite", self.composite, COMPOSITES)
        for name in ("epsilon", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise WrongUsage(f"lrp: {name} is {getattr(self, name)}; expected a number that is not negative")

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The relevance of each channel of each pixel."""
        lead = lead_over(classifier, self.contrast)
        return relevance("lrp", classifier, query, COMPOSITES[self.composite](self, classifier), hand_down(lead))

    def __repr__(self) -> str:
        return describe_options(self, ("contrast",))


@explainers.register(
    "deep_taylor", **FAMILY, source="Montavon et al., Pattern Recognition 2017", sign="positive", note=patents.LRP
)
@dataclass(frozen=True)
class DeepTaylor(PixelAttribution):
    """Deep Taylor decomposition of the rectified logit: z+ in every layer and sum, the box rule for pixels in [0, 1].

    Biases get nothing. No relevance is negative; where the logit is, all of it is zero. Neurons that nothing excites
    lose what they get. A network may have no activations but ReLU and ReLU6.
    """

    pooling: str = "sum"

    def attribution(self, classifier: Classifier, query: Query) -> Tensor:
        """The relevance of each channel of each pixel."""
        plus = excitation()
        rules = plus._replace(first=box(classifier))
        return relevance("deep_taylor", classifier, query, rules, at_target(torch.relu))


@explainers.register("excitation_backprop", **FAMILY, source="Zhang et al., ECCV 2016", sign="positive")
@dataclass(frozen=True)
class ExcitationBackprop:
    """The probability that a winner-take-all walk from the class down through the network comes by each position.

    From a neuron it goes to those below with a probability in proportion to what they excite it by: activation times
    positive weight. The map is the sum over the channels of a layer, which the authors choose in the upper half of
    their networks (their marginal winning probability), made larger; it adds up to 1 at the layer's own resolution,
    but for walks that end at neurons that nothing excites. A network may have no activations but ReLU and ReLU6.
    """

    layer: str | None = None  # the path of a submodule; the classifier's target layer where None

    ranges: ClassVar[Ranges] = {"layer": Layers()}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        layer = self.layer or classifier.target_layer
        probabilities = relevance(
            "excitation_backprop", classifier, query, excitation(), at_target(torch.ones_like), layer
        )
        return upsample(probabilities.sum(1), query.images)


# The rules.


def epsilon(lrp: Lrp, classifier: Classifier) -> Rules:
    """The epsilon rule everywhere."""
    from zennit.rules import Epsilon, Norm

    rule = Epsilon(epsilon=lrp.epsilon)
    return Rules(rule, rule, rule, Norm())


def epsilon_plus(lrp: Lrp, classifier: Classifier) -> Rules:
    """The epsilon rule, but that convolutions hand out relevance to what excites."""
    from zennit.rules import ZPlus

    return epsilon(lrp, classifier)._replace(first=ZPlus(), convolution=ZPlus())


def epsilon_plus_flat(lrp: Lrp, classifier: Classifier) -> Rules:
    """The rules of `epsilon_plus`, but that the first layer hands out evenly, over all that it sees."""
    from zennit.rules import Flat

    return epsilon_plus(lrp, classifier)._replace(first=Flat())


def alpha2_beta1(lrp: Lrp, classifier: Classifier) -> Rules:
    """The epsilon rule, but that convolutions hand out twice to what excites, and take once from what inhibits."""
    from zennit.rules import AlphaBeta

    rule = AlphaBeta(alpha=2, beta=1)
    return epsilon(lrp, classifier)._replace(first=rule, convolution=rule)


def epsilon_gamma_box(lrp: Lrp, classifier: Classifier) -> Rules:
    """The epsilon rule, but that convolutions favour what excites, and pixels count from the bounds of their box."""
    from zennit.rules import Gamma

    return epsilon(lrp, classifier)._replace(first=box(classifier), convolution=Gamma(gamma=lrp.gamma))


COMPOSITES: dict[str, Callable[[Lrp, Classifier], Rules]] = {
    "epsilon_plus_flat": epsilon_plus_flat,
    "epsilon": epsilon,
    "epsilon_plus": epsilon_plus,
    "epsilon_gamma_box": epsilon_gamma_box,
    "alpha2_beta1": alpha2_beta1,
}


def box(classifier: Classifier) -> Hook:
    """The rule for pixels in [0, 1]; its bounds are those of normalised images."""
    from zennit.rules import ZBox

    black, white = torch.zeros_like(classifier.mean), torch.ones_like(classifier.mean)
    return ZBox(*(at_least_single(classifier.normalise(colour)) for colour in (black, white)))


def excitation() -> Rules:
    """Rules by which all layers, biases aside, hand out relevance to what excites: none ever turns negative."""
    from zennit.core import BasicHook, Stabilizer
    from zennit.rules import ZPlus

    stable = Stabilizer(epsilon=TINY)
    rule = ZPlus(stabilizer=stable, zero_params="bias")
    summands = BasicHook(
        input_modifiers=[lambda values: values.clamp(min=0)],
        gradient_mapper=lambda relevance, outputs: [relevance / stable(outputs[0])],
    )
    return Rules(rule, rule, rule, summands, RECTIFIERS)


# Where relevance starts.

Start = Callable[[Tensor, Tensor], Tensor]


def at_target(value: Callable[[Tensor], Tensor]) -> Start:
    """Start with some value (b,) of each row's target logit, at that logit."""

    def start(logits: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros_like(logits).scatter(1, targets[:, None], value(logit(logits, targets))[:, None])

    return start


def hand_down(read: Readout) -> Start:
    """Start with what each logit adds to a readout that is linear in the logits, such as the lead over a class."""

    def start(logits: Tensor, targets: Tensor) -> Tensor:
        leaves = logits.detach().requires_grad_()
        return logits * torch.autograd.grad(read(leaves, targets).sum(), leaves)[0]

    return start


# Applying them.


def relevance(
    method: str,
    classifier: Classifier,
    query: Query,
    rules: Rules,
    start: Start,
    layer: str | None = None,
) -> Tensor:
    """The relevance for the target that arrives at the pixels (B, 3, H, W), or at the output of a layer (B, K, h, w).

    Args:
        method: the method's name, for messages.
        start: from logits (b, C) and targets (b,) to the relevance of the logits, (b, C), that is handed down.
        layer: the path of a submodule of the classifier's network; the pixels where None.

    Raises:
        NotApplicable: the network has layers without a rule.
        WrongUsage: there is no such layer.
    """
    share = classifier.share(layer).tail if layer else 1.0
    key = ("relevance", method, layer, rules.known)
    network = classifier.recall(key, lambda: tap(copy_canonically(classifier, method, rules.known), layer))
    composite = compose(method, classifier, network, rules)
    # A quarter, because the rules keep several tensors of every layer where a gradient keeps one.
    size = max(classifier.in_flight // 4, 1)
    portions = zip(query.images.split(size), query.targets.split(size), strict=True)
    with composite.context(network):
        relevances = [
            propagate(classifier, network, images, targets, start, rules.passes * share) for images, targets in portions
        ]
    return torch.cat(relevances)


def compose(method: str, classifier: Classifier, network: fx.GraphModule, rules: Rules) -> Any:
    """Compose these rules to Zennit's composite for a canonical network.

    Raises:
        NotApplicable: the rules have a box, and the first layer does not see the image itself.
    """
    from zennit.core import Composite
    from zennit.rules import ZBox

    first = first_linear_layers(network)
    if isinstance(rules.first, ZBox) and not all(sees_pixels(network, node) for node in first.values()):
        raise NotApplicable(
            f"{method}: something precedes the first layer of {classifier.arch}, so that the bounds of its input are "
            "not known; use lrp:composite=epsilon_plus_flat"
        )
    return Composite(lambda context, name, module: rules.first if name in first else rules.rule_of(module))


def propagate(
    classifier: Classifier,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    start: Start,
    passes: float,
) -> Tensor:
    """Propagate the relevance of a portion of images, under the hooks of a composite."""
    pixels = at_least_single(classifier.normalise(images)).requires_grad_()
    logits, place = network(pixels)
    classifier.count(logits.detach(), 1.0)
    logits = classifier.count(logits, passes)
    return torch.autograd.grad(logits, place, start(logits.detach(), targets))[0]
