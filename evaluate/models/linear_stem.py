"""The first convolution of a network, apart from the rest: affine in the images, so that many of them can share it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from .networks.features import at_least_single
from .networks.unrolled import module_of
from .streamlined import Streamlined


@dataclass(frozen=True)
class StemCut:
    """A streamlined network in two: `rest(stem(images))` gives the logits, and the stem is affine in the images.

    Where no convolution is the only one that sees the images, the stem is nothing: images go through as they are.
    """

    whole: Streamlined
    convolution: nn.Module | None  # where None, the rest is the whole
    behind: nn.Module

    @property
    def in_flight(self) -> int:
        """The number of images whose features the rest may be given at once."""
        return self.whole.in_flight

    def stem(self, images: Tensor) -> Tensor:
        """From images (B, 3, H, W) to the features that `rest` takes."""
        return images if self.convolution is None else self.convolution(self.whole.normalise(images))

    def __call__(self, images: Tensor) -> Tensor:
        """From features, which stand for images, to logits (B, C); booked as a whole pass."""
        if self.convolution is None:
            return self.whole(images)
        return self.whole.classifier.count(at_least_single(self.behind(images)), 1.0)

    def pull_back(self, gradient: Tensor, images: Tensor) -> Tensor:
        """The gradient with respect to the images (B, 3, H, W) whose features have this one."""
        if self.convolution is None:
            return gradient
        leaves = images.detach().requires_grad_()
        return torch.autograd.grad(self.stem(leaves), leaves, gradient)[0]


def cut_stem(network: Streamlined, overwriting: bool = False) -> StemCut:
    """Cut a streamlined network behind its first convolution; nothing is copied.

    Args:
        overwriting: whether the part behind may write into the features, as an activation in place does.
    """
    module = network.network
    first = find_first_convolution(module) if isinstance(module, fx.GraphModule) else None
    if first is None or not isinstance(module, fx.GraphModule):
        return StemCut(network, None, module)
    return StemCut(network, module_of(module, first), drop_first(module, first, overwriting))


def find_first_convolution(network: fx.GraphModule) -> fx.Node | None:
    """The convolution that nothing but it sees the images; None where there is none, or a function takes its output."""
    images = next(node for node in network.graph.nodes if node.op == "placeholder")
    users = list(images.users)
    if len(users) != 1 or not isinstance(module_of(network, users[0]), nn.Conv2d):
        return None
    modules = [module_of(network, user) for user in users[0].users]
    return users[0] if modules and all(module is not None for module in modules) else None


def drop_first(network: fx.GraphModule, first: fx.Node, overwriting: bool) -> fx.GraphModule:
    """The network behind its first convolution; modules are shared, and none overwrites the features unless it may."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {first: graph.placeholder("features")}
    replaced: dict[str, nn.Module] = {}
    for node in network.graph.nodes:
        if node.op == "output":
            graph.output(fx.map_arg(node.args[0], copies.__getitem__))
        elif node is not first and node.op != "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
            module = module_of(network, node)
            writes = module is not None and first in node.all_input_nodes and getattr(module, "inplace", False)
            if module is not None and writes and not overwriting:
                replaced[str(node.target)] = copy.copy(module)
    rest = fx.GraphModule(network, graph)
    for name, module in replaced.items():
        module.inplace = False  # type: ignore[assignment]
        rest.add_submodule(name, module)
    return rest
