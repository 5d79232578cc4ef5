"""A copy of a network in which every call has a module of its own, so that modules can be folded, hooked or replaced.

In the original one module may serve many calls, and activations may be functions that no hook sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from an8flower.errors import NotApplicable

from .split import evaluating

# Functions and methods of tensors that stand for a module. Their arguments besides the input must be the module's.
ACTIVATIONS: dict[Any, Callable[[], nn.Module]] = {
    F.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    F.relu6: nn.ReLU6,
}


def unrolled(network: nn.Module) -> fx.GraphModule:
    """An own copy of a network in eval mode, one module a call; activations that are functions become modules.

    Raises:
        NotApplicable: torch.fx cannot follow the network.
    """
    with evaluating(network):
        try:
            graph = fx.Tracer().trace(network)
        except Exception as error:  # torch.fx runs foreign code on proxies, which fails in any way it likes
            raise NotApplicable(
                f"{type(network).__name__} cannot be traced by torch.fx ({error}); have its forward not branch on data"
            ) from error
        owned: dict[str, Any] = {}
        for node in list(graph.nodes):
            own(node, network, owned)
    return fx.GraphModule(owned, graph, type(network).__name__).eval()


def own(node: fx.Node, network: nn.Module, owned: dict[str, Any]) -> None:
    """Give a node a module or a tensor of its own."""
    if node.op == "call_module":
        owned[node.name] = copy.deepcopy(network.get_submodule(str(node.target)))
        node.target = node.name
    elif node.op == "get_attr":
        owned[str(node.target)] = copy.deepcopy(attribute(network, str(node.target)))
    elif node.target in ACTIVATIONS:
        owned[node.name] = ACTIVATIONS[node.target]()
        node.op, node.target, node.args, node.kwargs = "call_module", node.name, node.args[:1], {}


def attribute(network: nn.Module, path: str) -> Any:
    """What a dotted path leads to."""
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)


def folded(network: fx.GraphModule) -> fx.GraphModule:
    """The same network with every batch norm folded into the convolution before it; changed in place."""
    for node in list(network.graph.nodes):
        norm = module_of(network, node)
        before: Any = node.args[0] if node.args else None
        convolution = module_of(network, before)
        if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            setattr(network, before.target, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def module_of(network: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls; None where it is no such node."""
    calls = isinstance(node, fx.Node) and node.op == "call_module"
    return network.get_submodule(str(node.target)) if calls else None
