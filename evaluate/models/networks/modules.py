"""A network's graph written the way rules for relevance want it: one module an operation, none of them in place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable

from .unrolled import layers_of, module_of, operand


class Sum(nn.Module):
    """The sum over the last dimension, along which summands are stacked."""

    def forward(self, stack: Tensor) -> Tensor:
        """Add up the last dimension: (..., n) -> (...)."""
        return stack.sum(-1)


class Mean(nn.Module):
    """The mean over the dimensions `dim` of a tensor."""

    def __init__(self, dim: int | tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.keepdim = keepdim

    def forward(self, values: Tensor) -> Tensor:
        """Take the mean of the values, as `torch.mean` does."""
        return values.mean(self.dim, self.keepdim)


class Constant(nn.Module):
    """A sum, difference, product or quotient of the values and one number."""

    def __init__(self, operation: Callable[[Tensor, float], Tensor], number: float) -> None:
        super().__init__()
        self.operation = operation
        self.number = number

    def forward(self, values: Tensor) -> Tensor:
        """Apply the operation to every element and the number."""
        return self.operation(values, self.number)


def stack_pair(first: Tensor, second: Tensor) -> Tensor:
    """Two summands side by side along a new last dimension, as `Sum` wants them."""
    return torch.stack(torch.broadcast_tensors(first, second), dim=-1)


def dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module | None:
    """The module of a call of dropout; None if it is active whatever the network's mode."""
    return None if training else nn.Identity()


def max_pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **others: Any
) -> nn.Module:
    """The module of a call of max_pool2d, whose arguments come in another order."""
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


def spellings(names: str) -> set[Any]:
    """All ways to call operations of these names in a graph: functions of torch, operators, names of methods."""
    places = (torch, F, operator)
    return {
        spelling
        for name in names.split()
        for spelling in (name, *(getattr(place, name) for place in places if hasattr(place, name)))
    }


def by_spelling(table: dict[str, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """A table by operations' names as a table by all their spellings in a graph."""
    return {spelling: value for names, value in table.items() for spelling in spellings(names)}


# What is called -> the module that does it, made of the further arguments of the call.
MODULES = by_spelling(
    {
        "max_pool2d": max_pool,
        "avg_pool2d": nn.AvgPool2d,
        "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
        "adaptive_max_pool2d": nn.AdaptiveMaxPool2d,
        "mean": Mean,
        "dropout dropout2d": dropout,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "hardswish": nn.Hardswish,
        "sigmoid": nn.Sigmoid,
        "softplus": nn.Softplus,
        "tanh": nn.Tanh,
    }
)


ARITHMETIC = by_spelling(
    {
        "add add_ iadd": operator.add,
        "sub sub_ isub": operator.sub,
        "mul mul_ imul": operator.mul,
        "div div_ truediv itruediv": operator.truediv,
    }
)


# Calls that move values about and leave them as they are: the plain gradient carries relevance through.
MOVES = spellings(
    "flatten view reshape squeeze unsqueeze permute transpose contiguous unflatten "
    "cat concat stack chunk split getitem clone pad pixel_shuffle"
) | {stack_pair}


MOVING = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.ConstantPad2d),
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, nn.PixelShuffle, nn.ChannelShuffle),
)


# Calls that ask for a tensor's shape, and attributes: what comes of them does not depend on the values.
SHAPES = spellings("size dim numel ndimension")


SHAPE_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


LINEAR = (nn.Conv1d, nn.Conv2d, nn.Linear)


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


MEANS = (Sum, Mean, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


MAXIMA = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)


RECTIFIERS = (nn.ReLU, nn.ReLU6)


ACTIVATIONS = (  # of single values
    *(*RECTIFIERS, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Softplus, nn.Tanh),
)


def modularise(network: fx.GraphModule) -> fx.GraphModule:
    """Put modules in place of a network's functions, as far as there are any; the network changes in place."""
    values = image_dependent_nodes(network.graph)
    for node in list(network.graph.nodes):
        if node in values and node.op in ("call_function", "call_method"):
            if node.target in ARITHMETIC:
                modularise_arithmetic(network, node, values)
            elif module := module_for(node):
                call_module(network, node, module)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def image_dependent_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on the images, not just on their shape."""
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (not asks_shape(node) and not dependent.isdisjoint(node.all_input_nodes)):
            dependent.add(node)
    return dependent


def asks_shape(node: fx.Node) -> bool:
    """Whether a node asks for a tensor's shape, type or device, and not for its values."""
    attribute = node.target is getattr and node.args[1] in SHAPE_ATTRIBUTES
    return attribute or (node.op in ("call_function", "call_method") and node.target in SHAPES)


def module_for(node: fx.Node) -> nn.Module | None:
    """The module that does what a node calls; None if there is none, or its arguments are no constants."""
    if node.target not in MODULES or any(need is not operand(node) for need in node.all_input_nodes):
        return None
    with suppress(TypeError):  # other arguments than the module takes
        return MODULES[node.target](*node.args[1:], **{k: v for k, v in node.kwargs.items() if k != "input"})
    return None


def call_module(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Have a node call a module on its operand instead of what it called."""
    network.add_submodule(node.name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", node.name, (operand(node),), {}


def modularise_arithmetic(network: fx.GraphModule, node: fx.Node, values: set[fx.Node]) -> None:
    """Make modules of sums of two tensors, and of what is done with one number; leave the rest."""
    operation, needs = ARITHMETIC[node.target], node.args
    if node.kwargs or len(needs) != 2:
        return
    if operation is operator.add and values.issuperset(needs):
        with network.graph.inserting_before(node):
            stack = network.graph.call_function(stack_pair, needs)
        node.args = (stack,)
        call_module(network, node, Sum())
        return
    if operation in (operator.add, operator.mul) and needs[1] in values:
        needs = needs[::-1]
    if needs[0] in values and isinstance(needs[1], (int, float)):
        node.args = needs[:1]
        call_module(network, node, Constant(operation, needs[1]))


def unknown_operations(network: fx.GraphModule, known: Collection[type[nn.Module]]) -> list[str]:
    """The names of the operations on the images that are neither known modules nor move values, each once."""
    values = image_dependent_nodes(network.graph)
    names = []
    for node in network.graph.nodes:
        module = module_of(network, node)
        if node not in values or node.op in ("placeholder", "output"):
            continue
        if module is None and node.target not in MOVES:
            names.append(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?"))
        elif isinstance(module, NORMS) and module.running_mean is None:
            names.append(f"{type(module).__name__} without running statistics")
        elif module is not None and type(module) not in known:
            names.append(type(module).__name__)
    return list(dict.fromkeys(names))


def first_linear_layers(network: fx.GraphModule) -> dict[str, fx.Node]:
    """The linear layers that no other one precedes, by the name of their module: the layers that see the image."""
    behind: dict[fx.Node, bool] = {}
    first = {}
    for node in network.graph.nodes:
        linear = isinstance(module_of(network, node), LINEAR)
        late = any(behind[need] for need in node.all_input_nodes)
        behind[node] = late or linear
        if linear and not late:
            first[str(node.target)] = node
    return first


def sees_pixels(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a layer works on the normalised image itself."""
    before = operand(node)
    while isinstance(module_of(network, before), (nn.Identity, nn.Dropout, nn.Dropout2d)):
        before = operand(before)
    return bool(before.op == "placeholder")


def tap(network: fx.GraphModule, layer: str | None) -> fx.GraphModule:
    """Have a network give its logits and the output of a layer of the original; the network changes in place.

    Args:
        layer: the path of a submodule of the original network; the network's own input where None.

    Raises:
        NotApplicable: the layer's output is no tensor of the graph.
    """
    output = next(node for node in network.graph.nodes if node.op == "output")
    named = (node for node in network.graph.nodes if (layer in layers_of(node) if layer else node.op == "placeholder"))
    place = next(named, None)
    if place is None:
        raise NotApplicable(f'the layer "{layer}" does not show in the graph of {type(network).__name__}; use another')
    output.args = ((output.args[0], place),)
    network.recompile()
    return network
