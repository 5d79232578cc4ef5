"""A copy of a network that is written the way rules for relevance want it: one module an operation, none in place.

Rules are defined for a few kinds of layers. Whatever else works on the images is found, by name, so that a method can
say that it does not apply instead of taking the plain gradient there.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx, nn

from an8flower.errors import NotApplicable

from .classifier import Classifier
from .networks.agreement import agree
from .networks.arithmetic import multiplying_in_full
from .networks.features import at_least_single
from .networks.guard import evaluating
from .networks.modules import MOVING, modularise, unknown_operations
from .networks.unrolled import fold_batch_norms, unroll
from .transformers.description import follow_obstacle


def copy_canonically(classifier: Classifier, method: str, known: Collection[type[nn.Module]]) -> fx.GraphModule:
    """An own copy of a classifier's network, without its normalisation, for rules: (B, 3, H, W) -> (B, C).

    Every operation on the images that can be is a module of its own; batch norms are folded into the layer before them,
    as far as there is one; nothing works in place; weights are of at least single precision and want no gradient. The
    copy is made anew at every call, so that it never falls behind the classifier's weights; who may keep it, asks
    `Classifier.recall` for it.

    Args:
        method: who asks, for messages.
        known: the modules, besides those that only move values, that the method has a rule for.

    Raises:
        NotApplicable: the network cannot be traced, or has operations without a rule.
    """
    precision = torch.promote_types(classifier.dtype, torch.float32)
    network = modularise(fold_batch_norms(unroll(classifier.network).to(precision))).requires_grad_(False)
    if strange := unknown_operations(network, {*known, *MOVING}):
        follows = classifier.transformer is not None and not follow_obstacle(classifier.transformer)
        other = "tibav" if follows else "gradcam"
        raise NotApplicable(f"{method} has no rule for {' and '.join(strange)} in {classifier.arch}; use {other}")
    if not faithful(network, classifier):
        raise NotApplicable(
            f"{method}: {classifier.arch} computes something that torch.fx does not see; put it into modules"
        )
    return network


def faithful(network: nn.Module, classifier: Classifier) -> bool:
    """Whether a copy gives the logits of the classifier's network, as nearly as its precision allows."""
    images = classifier.probe(1)
    with evaluating(classifier), torch.no_grad(), multiplying_in_full():
        return agree(network(at_least_single(images)), classifier.network(images), classifier.dtype)
