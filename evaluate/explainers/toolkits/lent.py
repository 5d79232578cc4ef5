"""Copies of a classifier that other toolkits may hook, patch and differentiate as they like."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable

from ...models.canonical import canonical, faithful
from ...models.classifier import Classifier
from ...models.networks.features import at_least_single, token_grid
from ...models.networks.modules import modular
from ...models.networks.split import submodule
from ...models.networks.unrolled import layers_of, unrolled


class Lent(nn.Module):
    """Images -> logits, in float32; passes are booked on the classifier that the network was copied from."""

    def __init__(
        self, classifier: Classifier, network: nn.Module, normalises: bool = True, portions: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.normalises = normalises  # False: images come normalised
        self.portions = portions  # False: all images at once, for who counts the calls
        self._lender = (classifier,)  # in a tuple, so that the classifier is no submodule

    def forward(self, images: Tensor) -> Tensor:
        """Without gradients, no more images at once than may be in flight."""
        if torch.is_grad_enabled() or not self.portions:
            return self.answer(images)
        return torch.cat([self.answer(portion) for portion in images.split(self._lender[0].in_flight)])

    def answer(self, images: Tensor) -> Tensor:
        """The logits of one portion."""
        (classifier,) = self._lender
        values = classifier.normalise(images) if self.normalises else images
        return classifier.count(self.network(at_least_single(values)), 1.0)


class Maps(nn.Module):
    """Tokens (B, T, D) as maps (B, D, h, w); those before the grid are left out."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        """Only the last h * w tokens."""
        height, width = self.grid
        # Not a view, since toolkits detach in place what they get.
        return tokens[:, -height * width :].transpose(1, 2).unflatten(2, self.grid).contiguous()


class Tokens(nn.Module):
    """The inverse of `Maps`, with the tokens that were left out."""

    def forward(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """(B, D, h, w) and the former (B, T, D) -> (B, T, D)."""
        last = maps.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, : tokens.shape[1] - last.shape[1]], last], dim=1)


def copied(classifier: Classifier) -> nn.Module:
    """A float32 copy of the network in which nothing works in place and every call has a module of its own.

    Where torch.fx cannot follow the network, a plain copy whose modules do not work in place.
    """
    try:
        network: nn.Module = modular(unrolled(classifier.network).float())
        if faithful(network, classifier):
            return network
    except NotApplicable:
        pass
    network = copy.deepcopy(classifier.network).float().eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return network


def canonical_copy(classifier: Classifier, method: str, known: Collection[type[nn.Module]]) -> fx.GraphModule:
    """A float32 copy with batch norms folded and nothing but known modules.

    Raises:
        NotApplicable: the network has operations that the method has no rule for.
    """
    return canonical(classifier, method, known).float()


def separated(network: fx.GraphModule) -> fx.GraphModule:
    """The same network, in which each operation is given a tensor of its own; changed in place.

    Some toolkits hook the tensor that a module is given, and would meet the gradient of all that it was given to, and
    the hooks of the module that gave it.
    """
    for node in list(network.graph.nodes):
        for user in list(node.users):
            with network.graph.inserting_before(user):
                user.replace_input_with(node, network.graph.call_method("clone", (node,)))
    network.recompile()
    return network


def layer_of(network: nn.Module, classifier: Classifier, layer: str | None) -> nn.Module:
    """The module of a copy that gives what a layer of the original gives, as maps (B, K, h, w).

    Of token models, whose layers give no maps, and of layers that share their module, a module is put there.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: its output has no spatial extent.
        NotApplicable: its output does not show in the graph.
    """
    name = layer or classifier.target_layer
    values = values_at(classifier, name)
    if isinstance(network, fx.GraphModule):
        return inserted(network, name, values)
    if values.ndim == 3:
        raise NotApplicable(f"{classifier.arch} cannot be traced by torch.fx, and its tokens are no maps; use gradcam")
    return submodule(network, name)


def values_at(classifier: Classifier, layer: str) -> Tensor:
    """What a layer gives for one plain image."""
    with torch.no_grad():
        return classifier.split(layer).head(classifier.probe(1)).values


def inserted(network: fx.GraphModule, layer: str, values: Tensor) -> nn.Module:
    """A module behind a layer whose output is that layer's, as maps; the network is changed in place."""
    place = next((node for node in network.graph.nodes if layer in layers_of(node)), None)
    if place is None:
        raise NotApplicable(f'the layer "{layer}" does not show in the graph of the network; use another')
    module = Maps(token_grid(values.shape[1])) if values.ndim == 3 else nn.Identity()
    users = list(place.users)
    with network.graph.inserting_after(place):
        maps = call(network, "lent_maps", module, (place,))
    behind = maps
    if values.ndim == 3:
        with network.graph.inserting_after(maps):
            behind = call(network, "lent_tokens", Tokens(), (maps, place))
    for user in users:
        user.replace_input_with(place, behind)
    network.recompile()
    return module


def call(network: fx.GraphModule, name: str, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
    """A new node that calls a new module."""
    network.add_submodule(name, module)
    return network.graph.call_module(name, args)
