"""The head of a network, its last linear layer: found, replaced for other classes, its outputs put in another order."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from an8flower.errors import Refusal

from .networks.guard import evaluating
from .probing import NetworkProbe, probe_network
from .prototypes.protopnet import ProtoPNet

REMEDY = "write a factory of the number of classes: def network(classes, size)"


def find_head(network: nn.Module, probe: NetworkProbe) -> str | None:
    """The path of the linear layer that gives the logits; None if the last layer with weights is another."""
    modules = dict(network.named_modules())
    weighty = [name for name in probe.order if any(True for _ in modules[name].parameters(recurse=False))]
    last = modules[weighty[-1]] if weighty else None
    return weighty[-1] if isinstance(last, nn.Linear) and last.out_features == probe.classes else None


def find_auxiliary_heads(network: nn.Module, probe: NetworkProbe) -> list[str]:
    """The paths of linear layers that give as many values as there are logits, and run in training mode alone."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == probe.classes and name not in probe.order
    ]


def replace_heads(network: nn.Module, probe: NetworkProbe, classes: int, name: str) -> str:
    """Give a network a new last linear layer for another number of classes, and say so.

    Linear layers of the same width that run in training mode alone (auxiliary heads) are replaced as well.

    Args:
        name: how the sentence calls the network.

    Raises:
        Refusal: the logits come from no linear layer.
    """
    head = find_head(network, probe)
    if head is None:
        raise Refusal(
            f"{name} tells {probe.classes} classes apart, the data have {classes}, and it has no last linear layer "
            f"that could be replaced; {REMEDY}"
        )
    paths = [head, *find_auxiliary_heads(network, probe)]
    for path in paths:
        _put(network, path, _linear_like(network.get_submodule(path), classes))
    auxiliary = f" (and those of its auxiliary outputs, {', '.join(paths[1:])})" if len(paths) > 1 else ""
    return f"{name}: its last linear layer, {head}, was replaced{auxiliary}: {probe.classes} to {classes} classes"


def order_outputs(network: nn.Module, size: int, order: Sequence[int], name: str) -> nn.Module:
    """A copy of a network whose output i is output `order[i]` of the network: the rows of its head change places.

    Args:
        size: the side in pixels of images that it takes.
        name: how the sentence calls the network.

    Raises:
        Refusal: the outputs cannot be put in another order by the last linear layer.
    """
    ordered, head = copy.deepcopy(network), find_head(network, probe_network(network, size))
    if head is not None:
        with torch.no_grad():
            for values in ordered.get_submodule(head).parameters(recurse=False):
                values.copy_(values[list(order)])
        if isinstance(ordered, ProtoPNet):  # each prototype stands for a class
            ordered.order_classes(order)
    if head is None or not _is_ordered(network, ordered, size, order):
        raise Refusal(
            f"{name}: its outputs cannot be put in the order of the data's classes, since they do not come straight "
            "from a last linear layer; have it give them in that order"
        )
    return ordered


def _is_ordered(network: nn.Module, ordered: nn.Module, size: int, order: Sequence[int]) -> bool:
    """Whether the outputs have changed places and nothing else, on noise."""
    like = next(network.parameters())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(like)
    with evaluating(network), evaluating(ordered), torch.no_grad():
        return torch.allclose(network(images)[:, list(order)], ordered(images), rtol=1e-4, atol=1e-5)


def _linear_like(layer: nn.Module, classes: int) -> nn.Linear:
    """A new linear layer of other outputs, on the device and in the dtype of a layer."""
    assert isinstance(layer, nn.Linear), "a head is a linear layer"
    weight = layer.weight
    return nn.Linear(layer.in_features, classes, layer.bias is not None, weight.device, weight.dtype)


def _put(network: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at the path of another one."""
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, layer)
