"""Layers that training leaves alone: all up to one layer, with the statistics of their batch norms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal

from .cross_attention import BACKBONE, CrossAttentionPooled
from .networks.guard import evaluating
from .networks.split import submodule
from .probing import probe_network, run_on_grey
from .prototypes.network import PrototypeNetwork


class Frozen(NamedTuple):
    """The parts of a network that training leaves alone."""

    parameters: tuple[nn.Parameter, ...] = ()
    modules: tuple[nn.Module, ...] = ()  # which stay in eval mode, so that batch norms keep their statistics

    def hold(self) -> None:
        """Put the frozen modules into eval mode, after the whole network went into training mode."""
        for module in self.modules:
            module.eval()


NOTHING = Frozen()


def freeze_up_to(network: nn.Module, layer: str, size: int) -> Frozen:
    """What lies up to a layer, itself included: what has run when it is through, and what acts through it alone.

    A parameter of a module that encloses the layer, such as a class token, is frozen if its whole effect on the logits
    passes through the layer.

    Args:
        layer: the path of a submodule; `backbone`, of a network that is pooled by cross-attention, is all of it but the
            stream: its head, behind the stream, included.
        size: the side in pixels of images that the network takes.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: the layer gives nothing to the logits, no layer is left to train, or it lies behind the backbone of a
            network that learns prototypes.
    """
    if isinstance(network, CrossAttentionPooled) and layer == BACKBONE:
        return Frozen(tuple(network.backbone.parameters()), tuple(network.backbone.modules()))
    last, order = submodule(network, layer), probe_network(network, size).order
    if layer not in order:
        raise Refusal(f'--freeze "{layer}": this layer does not run in eval mode; name one that does')
    paths = dict(network.named_modules())
    ran = [paths[name] for name in order[: order.index(layer) + 1]]
    within = {parameter for module in ran for parameter in module.parameters()}
    before = {parameter for parameter in network.parameters() if parameter in within}
    before |= _acting_through(network, last, size) - before
    ordered = tuple(parameter for parameter in network.parameters() if parameter in before)
    if len(ordered) == len(list(network.parameters())):
        raise Refusal(f'--freeze "{layer}": no layer behind it is left to train; name an earlier one')
    if isinstance(network, PrototypeNetwork) and not before <= set(network.backbone.parameters()):
        raise Refusal(
            f'--freeze "{layer}": prototypes are learnt behind the backbone; name {BACKBONE}, or a layer in it'
        )
    return Frozen(ordered, tuple(dict.fromkeys(inner for module in ran for inner in module.modules())))


@contextmanager
def holding_still(frozen: Frozen) -> Iterator[None]:
    """A block in which frozen parameters want no gradients; afterwards they want what they wanted before."""
    before = [parameter.requires_grad for parameter in frozen.parameters]
    for parameter in frozen.parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in zip(frozen.parameters, before, strict=True):
            parameter.requires_grad_(wanted)


def _acting_through(network: nn.Module, layer: nn.Module, size: int) -> set[nn.Parameter]:
    """The parameters whose whole effect on the logits passes through a layer's output."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    usual = _gradients(network, parameters, size)
    hook = layer.register_forward_hook(lambda _module, _inputs, output: _detach(output))
    try:
        beyond = _gradients(network, parameters, size)
    finally:
        hook.remove()
    triples = zip(parameters, usual, beyond, strict=True)
    return {parameter for parameter, with_it, without in triples if with_it is not None and without is None}


def _gradients(network: nn.Module, parameters: Sequence[nn.Parameter], size: int) -> Sequence[Tensor | None]:
    with evaluating(network), torch.enable_grad():
        total = run_on_grey(network, size).sum()
        if not total.requires_grad:
            return [None] * len(parameters)
        return torch.autograd.grad(total, parameters, allow_unused=True)


def _detach(output: object) -> object:
    return output.detach() if isinstance(output, Tensor) else output
