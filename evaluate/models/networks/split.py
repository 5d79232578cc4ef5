"""A cut through a network at a named layer, so that the part behind the layer can be run, and differentiated, alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown

from .agreement import agree
from .arithmetic import multiplying_in_full
from .features import Features
from .guard import evaluating


class Split(Protocol):
    """The two halves of a network in eval mode: `tail(head(images))` equals `network(images)`."""

    def head(self, images: Tensor) -> Features:
        """From (B, 3, H, W) normalised images to the layer's output."""
        ...

    def tail(self, features: Features) -> Tensor:
        """From the layer's output to (B, C) logits; the features themselves stay as they are."""
        ...


def split(network: nn.Module, layer: str, images: Tensor) -> Split:
    """Cut a network behind the last call of a layer; weights are shared, nothing is copied.

    Where the network cannot be traced, or its halves do not compose to the whole, the split runs the whole network
    with a hook instead: the same numbers, without the savings.

    Args:
        network: from (B, 3, H, W) to (B, C); its modes and weights are left alone.
        layer: the path of a submodule, such as `layer4.1.conv2`.
        images: (B, 3, H, W), to try the halves on.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: its output has no spatial extent.
    """
    module = submodule(network, layer)
    with evaluating(network), without_constants(network), torch.no_grad():
        hooks = HookSplit(network, module)
        refuse_flat(layer, hooks.probe(images))
        try:
            halves = trace_split(network, module, images)
            return halves if compose(halves, hooks, network, images) else hooks
        except Exception:  # torch.fx runs foreign code on proxies, which fails in any way it likes
            return hooks


def submodule(network: nn.Module, layer: str) -> nn.Module:
    """The submodule at a path; raises WrongUsage with the nearest path."""
    paths = dict(network.named_modules(remove_duplicate=False))
    if not layer or layer not in paths:
        raise WrongUsage(unknown("layer", layer, filter(None, paths)))
    return paths[layer]


def refuse_flat(layer: str, values: Any) -> None:
    """Raise a Refusal unless a layer's output is (B, K, h, w) or (B, T, D) with more than one position."""
    if not isinstance(values, Tensor):
        raise Refusal(f'layer "{layer}" gives {type(values).__name__}, not one tensor; choose a layer with one output')
    extent = {3: values.shape[1:2], 4: values.shape[2:]}.get(values.ndim, ())
    if not any(positions > 1 for positions in extent):
        shape = " x ".join(map(str, values.shape))
        raise Refusal(f'layer "{layer}" gives {shape}, which has no spatial extent; choose one before the pooling')


class HookSplit:
    """A split that runs the whole network twice: the head listens at the layer, the tail replaces what it gives."""

    def __init__(self, network: nn.Module, module: nn.Module) -> None:
        self._network = network
        self._module = module
        self._calls = 0

    def probe(self, images: Tensor) -> Any:
        """Run the network once, count the calls of the layer and return its last output."""
        outputs: list[Any] = []
        self._run(images, lambda output: outputs.append(output))
        self._calls = len(outputs)
        return outputs[-1] if outputs else None

    def head(self, images: Tensor) -> Features:
        """The layer's last output; the images are carried along for the tail."""
        outputs: list[Tensor] = []
        # A copy, because an in-place layer may follow.
        self._run(images, lambda output: outputs.append(output.clone()))
        return Features(outputs[-1], (images,))

    def tail(self, features: Features) -> Tensor:
        """Run the whole network, with the given values in place of the layer's last output."""
        calls = iter(range(1, self._calls + 1))
        return self._run(features.carried[0], lambda _: features.values.clone() if next(calls) == self._calls else None)

    def _run(self, images: Tensor, at_layer: Callable[[Any], Any]) -> Tensor:
        handle = self._module.register_forward_hook(lambda module, inputs, output: at_layer(output))
        try:
            return self._network(images)
        finally:
            handle.remove()


class GraphSplit:
    """A split of the traced graph: each half runs its own share of the operations, on the network's own weights."""

    def __init__(self, head: fx.GraphModule, tail: fx.GraphModule) -> None:
        self._head = head
        self._tail = tail

    @property
    def modules(self) -> tuple[fx.GraphModule, fx.GraphModule]:
        """Both halves: from images to (values, *carried), and from these to logits; the tail may work in place."""
        return self._head, self._tail

    def head(self, images: Tensor) -> Features:
        """Run the operations up to the layer's last output."""
        values, *carried = self._head(images)
        return Features(values, tuple(carried))

    def tail(self, features: Features) -> Tensor:
        """Run the operations behind the layer."""
        # Copies, because in-place layers may follow; they must not overwrite features, nor leaves that want gradients.
        return self._tail(features.values.clone(), *(tensor.clone() for tensor in features.carried))


class ChannelsLast:
    """A split at a layer that gives (B, h, w, K): the features of its halves are maps (B, K, h, w), as elsewhere."""

    def __init__(self, halves: Split) -> None:
        self._halves = halves

    def head(self, images: Tensor) -> Features:
        """The layer's output, its channels in front."""
        features = self._halves.head(images)
        return features._replace(values=features.values.permute(0, 3, 1, 2))

    def tail(self, features: Features) -> Tensor:
        """Run the operations behind the layer."""
        return self._halves.tail(features._replace(values=features.values.permute(0, 2, 3, 1)))


@contextmanager
def without_constants(network: nn.Module) -> Iterator[None]:
    """Take the attributes away again that torch.fx gives to a network for the constants that it meets."""
    before = set(vars(network))
    try:
        yield
    finally:
        for name in set(vars(network)) - before:
            if re.fullmatch(r"_\w+_constant_?\d+", name):
                delattr(network, name)


class OutputTracer(fx.Tracer):
    """Traces a network and remembers the node that every module, leaf or container, gave in its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[nn.Module, fx.Node] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a call as torch.fx does, and note which node the module gave."""
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            self.outputs[m] = output.node
        return output


class TensorFinder(fx.Interpreter):
    """Runs a graph and remembers which nodes gave a tensor that depends on the images."""

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        super().__init__(network, graph=graph)
        self.image_tensors: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Run a node as torch.fx does, and note whether it gave a tensor of the images."""
        result = super().run_node(n)
        depends = n.op == "placeholder" or not self.image_tensors.isdisjoint(n.all_input_nodes)
        if depends and isinstance(result, Tensor):
            self.image_tensors.add(n)
        return result


def trace_split(network: nn.Module, module: nn.Module, images: Tensor) -> GraphSplit:
    """The network's graph, cut behind a module."""
    tracer = OutputTracer()
    graph = tracer.trace(network)
    finder = TensorFinder(network, graph)
    finder.run(images)
    return cut(network, graph, tracer.outputs[module], finder.image_tensors)


def cut(network: nn.Module, graph: fx.Graph, last: fx.Node, tensors: set[fx.Node]) -> GraphSplit:
    """Cut a graph behind a node, in the order in which the operations run, so that in-place ones keep their meaning."""
    nodes = list(graph.nodes)
    place = nodes.index(last) + 1
    before, after, (result,) = nodes[:place], nodes[place:-1], nodes[-1].args
    carried, again = nodes_across_cut(before, after, tensors)
    return GraphSplit(
        subgraph(network, before[:1], before[1:], (last, *carried)),
        subgraph(network, [last, *carried], again + after, result),
    )


def nodes_across_cut(
    before: list[fx.Node], after: list[fx.Node], tensors: set[fx.Node]
) -> tuple[list[fx.Node], list[fx.Node]]:
    """The nodes before a cut, the last one aside, that those behind it need: tensors to carry, and nodes to run again.

    Sizes and constants are run again: only tensors of the batch travel.
    """
    early, carried, again = set(before), set(), {before[-1]}
    wanted = [need for node in after for need in node.all_input_nodes]
    while wanted:
        node = wanted.pop()
        if node not in early or node in again:
            continue
        if node in tensors:
            carried.add(node)
        else:
            again.add(node)
            wanted += node.all_input_nodes
    return [node for node in before if node in carried], [node for node in before[:-1] if node in again]


def subgraph(network: nn.Module, inputs: list[fx.Node], nodes: list[fx.Node], output: Any) -> fx.GraphModule:
    """A module that runs some nodes of a network's graph."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(fx.map_arg(output, copies.__getitem__))
    return fx.GraphModule(network, graph)


def compose(halves: Split, hooks: Split, network: nn.Module, images: Tensor) -> bool:
    """Whether the halves give what the layer and the whole network give."""
    with multiplying_in_full():
        features = halves.head(images)
        pairs = ((features.values, hooks.head(images).values), (halves.tail(features), network(images)))
    return all(agree(output, expected, images.dtype) for output, expected in pairs)
