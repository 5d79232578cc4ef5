"""Copies of a classifier that other toolkits may hook, patch and differentiate as they like."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable

from ...models.canonical import copy_canonically, faithful
from ...models.classifier import Classifier
from ...models.networks.features import at_least_single
from ...models.networks.modules import modularise
from ...models.networks.split import ChannelsLast, submodule
from ...models.networks.unrolled import layers_of, unroll


class CountedCopy(nn.Module):
    """A copy of a classifier's network, images -> logits in float32; its passes are booked on that classifier."""

    def __init__(
        self, classifier: Classifier, network: nn.Module, normalises: bool = True, in_portions: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.normalises = normalises  # False: images come normalised
        self.in_portions = in_portions  # False: all images in one call, for methods that count the calls
        self._lender = (classifier,)  # in a tuple, so that the classifier is no submodule

    def forward(self, images: Tensor) -> Tensor:
        """The logits of images; without gradients, no more images at once than may be in flight."""
        if torch.is_grad_enabled() or not self.in_portions:
            return self.run_portion(images)
        return torch.cat([self.run_portion(portion) for portion in images.split(self._lender[0].in_flight)])

    def run_portion(self, images: Tensor) -> Tensor:
        """The logits of one portion of the images."""
        (classifier,) = self._lender
        values = classifier.normalise(images) if self.normalises else images
        return classifier.count(self.network(at_least_single(values)), 1.0)


class TokensToMaps(nn.Module):
    """A module that turns tokens (B, T, D) into maps (B, D, h, w); tokens before the grid are left out."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        """The last h * w tokens as maps."""
        height, width = self.grid
        # Not a view, since toolkits detach in place what they get.
        return tokens[:, -height * width :].transpose(1, 2).unflatten(2, self.grid).contiguous()


class ChannelsToFront(nn.Module):
    """A module that turns (B, h, w, K), as the layers of a Swin transformer give it, into maps (B, K, h, w)."""

    def forward(self, values: Tensor) -> Tensor:
        """The values with their channels in front."""
        return values.permute(0, 3, 1, 2).contiguous()


class ChannelsToBack(nn.Module):
    """The inverse of `ChannelsToFront`, in the place of `MapsToTokens`."""

    def forward(self, maps: Tensor, values: Tensor) -> Tensor:
        """The maps (B, K, h, w) with their channels behind; the values that they were made of are not needed."""
        return maps.permute(0, 2, 3, 1)


class MapsToTokens(nn.Module):
    """The inverse of `TokensToMaps`, which puts the tokens that were left out in front again."""

    def forward(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """Tokens (B, T, D) from maps (B, D, h, w) and the tokens (B, T, D) that the maps were made of."""
        last = maps.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, : tokens.shape[1] - last.shape[1]], last], dim=1)


def copy_network(classifier: Classifier) -> nn.Module:
    """Copy the network in float32, so that nothing works in place and every call has a module of its own.

    Where torch.fx cannot follow the network, a plain copy whose modules do not work in place.
    """
    try:
        network: nn.Module = modularise(unroll(classifier.network).float())
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
    """Copy the network in float32, with batch norms folded and nothing but known modules.

    Raises:
        NotApplicable: the network has operations that the method has no rule for.
    """
    return copy_canonically(classifier, method, known).float()


def separate_operations(network: fx.GraphModule) -> fx.GraphModule:
    """Give each operation of a network a tensor of its own; the network is changed in place and returned.

    Some toolkits hook a module's input tensor. Shared with other modules, it would have the gradient of all of them,
    and the hooks of the module that it comes from.
    """
    for node in list(network.graph.nodes):
        for user in list(node.users):
            with network.graph.inserting_before(user):
                user.replace_input_with(node, network.graph.call_method("clone", (node,)))
    network.recompile()
    return network


def find_layer(network: nn.Module, classifier: Classifier, layer: str | None) -> nn.Module:
    """Find the module of a copy that gives what a layer of the original gives, as maps (B, K, h, w).

    In token models, whose layers give no maps, and for layers that share their module, a new module is inserted.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: its output has no spatial extent.
        NotApplicable: its output does not show in the graph.
    """
    name = layer or classifier.target_layer
    values = values_at(classifier, name)
    forms = forms_of(classifier, name, values)
    if isinstance(network, fx.GraphModule):
        return insert_layer(network, name, forms)
    if forms is not None:
        raise NotApplicable(f"{classifier.arch} cannot be traced by torch.fx, and its layer gives no maps; use gradcam")
    return submodule(network, name)


def values_at(classifier: Classifier, layer: str) -> Tensor:
    """The output of a layer for one plain image."""
    with torch.no_grad():
        return classifier.split(layer).head(classifier.probe(1)).values


def forms_of(classifier: Classifier, layer: str, values: Tensor) -> tuple[nn.Module, nn.Module] | None:
    """The modules that make maps of what a layer gives, and the other way round; None where it gives maps already."""
    if values.ndim == 3:
        return TokensToMaps(classifier.grid_of(values.shape[1])), MapsToTokens()
    return (ChannelsToFront(), ChannelsToBack()) if isinstance(classifier.split(layer), ChannelsLast) else None


def insert_layer(network: fx.GraphModule, layer: str, forms: tuple[nn.Module, nn.Module] | None) -> nn.Module:
    """Insert a module behind a layer that gives the layer's output as maps; the network is changed in place."""
    place = next((node for node in network.graph.nodes if layer in layers_of(node)), None)
    if place is None:
        raise NotApplicable(f'the layer "{layer}" does not show in the graph of the network; use another')
    module = nn.Identity() if forms is None else forms[0]
    users = list(place.users)
    with network.graph.inserting_after(place):
        maps = add_call(network, "lent_maps", module, (place,))
    behind = maps
    if forms is not None:
        with network.graph.inserting_after(maps):
            behind = add_call(network, "lent_form", forms[1], (maps, place))
    for user in users:
        user.replace_input_with(place, behind)
    network.recompile()
    return module


def add_call(network: fx.GraphModule, name: str, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
    """Add a node to the graph that calls a new module."""
    network.add_submodule(name, module)
    return network.graph.call_module(name, args)
