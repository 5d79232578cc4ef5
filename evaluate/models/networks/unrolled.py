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
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from an8flower.errors import NotApplicable

from .guard import evaluating
from .split import OutputTracer, without_constants

# Functions and methods of tensors that stand for a module. Their arguments besides the input must be the module's.
ACTIVATIONS: dict[Any, Callable[[], nn.Module]] = {
    F.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    F.relu6: nn.ReLU6,
}


def unroll(network: nn.Module, sharing: bool = False) -> fx.GraphModule:
    """An own copy of a network in eval mode, one module a call; activations that are functions become modules.

    Each node's `meta["layers"]` names the submodules of the original, containers too, whose last output it gives.

    Args:
        sharing: have the copy's weights lie where those of the network lie, for who only reads them; they want no
            gradient.

    Raises:
        NotApplicable: torch.fx cannot follow the network.
    """
    with evaluating(network), without_constants(network):
        try:
            tracer = OutputTracer()
            graph = tracer.trace(network)
        except Exception as error:  # torch.fx runs foreign code on proxies, which fails in any way it likes
            raise NotApplicable(
                f"{type(network).__name__} cannot be traced by torch.fx ({error}); have its forward not branch on data"
            ) from error
        for path, module in network.named_modules(remove_duplicate=False):
            if module in tracer.outputs:
                layers_of(tracer.outputs[module]).append(path)
        owned: dict[str, Any] = {}
        twins = make_twins(network) if sharing else {}
        for node in list(graph.nodes):
            give_own_module(node, network, owned, twins)
    return fx.GraphModule(owned, graph, type(network).__name__).eval()


def make_twins(network: nn.Module) -> dict[int, nn.Parameter]:
    """For each weight of a network, by its `id`, one that lies at the same place in memory and wants no gradient."""
    weights = (tensor for tensor in network.parameters() if not nn.parameter.is_lazy(tensor))
    return {id(tensor): nn.Parameter(tensor.detach(), False) for tensor in weights}


def give_own_module(node: fx.Node, network: nn.Module, owned: dict[str, Any], twins: dict[int, nn.Parameter]) -> None:
    """Give a node a copy of its module or tensor that no other node uses, with `twins` in place of weights, by `id`."""
    if node.op == "call_module":
        owned[node.name] = copy.deepcopy(network.get_submodule(str(node.target)), dict(twins))
        node.target = node.name
    elif node.op == "get_attr":
        owned[str(node.target)] = copy.deepcopy(attribute_at(network, str(node.target)), dict(twins))
    elif node.target in ACTIVATIONS:
        owned[node.name] = ACTIVATIONS[node.target]()
        node.op, node.target, node.args, node.kwargs = "call_module", node.name, (operand(node),), {}


def operand(node: fx.Node) -> Any:
    """The operand of a node's operation: its first argument, or the argument called input."""
    return node.args[0] if node.args else node.kwargs.get("input")


def layers_of(node: fx.Node) -> list[str]:
    """The submodules of the original network whose last output a node gives."""
    return node.meta.setdefault("layers", [])


def attribute_at(network: nn.Module, path: str) -> Any:
    """The attribute of a network that a dotted path leads to."""
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)


def fold_batch_norms(network: fx.GraphModule) -> fx.GraphModule:
    """Fold every batch norm into the convolution or linear layer before it; the network changes in place.

    A batch norm that has no running statistics, or follows something else, stays; so does one without weights that
    follows a linear layer.
    """
    for node in list(network.graph.nodes):
        before = operand(node)
        fused = fuse(module_of(network, before), module_of(network, node))
        if fused is not None and len(before.users) == 1:
            setattr(network, str(before.target), fused)
            layers_of(before).extend(layers_of(node))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def fuse(layer: nn.Module | None, norm: nn.Module | None) -> nn.Module | None:
    """Fuse a layer and the batch norm behind it into one layer; None if that cannot be."""
    if getattr(norm, "running_mean", None) is None:
        return None
    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and norm.affine:
        return fuse_linear_bn_eval(layer, norm) if layer.out_features == norm.num_features else None
    return None


def module_of(network: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls; None if the node calls none."""
    calls = isinstance(node, fx.Node) and node.op == "call_module"
    return network.get_submodule(str(node.target)) if calls else None
