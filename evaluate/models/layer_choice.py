"""The layer that CAMs look at in a network where nobody names one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .networks.guard import evaluating, freezing
from .probing import NetworkProbe, listening
from .transformers.description import describe

SMALL = 1e-6  # of the largest gradient: below, a position counts for nothing


def choose_layer(network: nn.Module, probe: NetworkProbe) -> str | None:
    """The layer that CAMs look at in a bare network, where nobody names one; None if there is none.

    Of a vision transformer of a known family the last norm that the class depends on. Of other networks the last layer
    that gives maps; where tokens come after it, the last norm or block whose patches the logits depend on.
    """
    transformer = describe(network)
    if transformer is not None:
        return transformer.target_layer
    if probe.tokens and (layer := last_read(network, probe)):
        return layer
    return probe.layer


def last_read(network: nn.Module, probe: NetworkProbe) -> str | None:
    """The last layer of tokens of which the logits depend on more than one; None where they depend on none.

    Behind the last attention of a network that reads a class token, the logits depend on that token alone.
    """
    outputs: dict[str, Tensor] = {}

    def note(name: str, output: object) -> None:
        if name in probe.tokens and isinstance(output, Tensor):
            outputs[name] = output

    logits = run_with_gradients(network, probe.size, note)
    if logits is None:
        return None
    names = [name for name in dict.fromkeys(reversed(probe.tokens)) if outputs[name].requires_grad]
    probe_sum = (logits * torch.linspace(1, 2, logits.shape[1]).to(logits)).sum()
    gradients = torch.autograd.grad(probe_sum, [outputs[name] for name in names], allow_unused=True)
    sizes = {name: gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    return next((name for name in sizes if count_positions(sizes[name]) > 1), None)


def run_with_gradients(network: nn.Module, size: int, note: object) -> Tensor | None:
    """The logits of an image of noise, as part of a graph; None where the network keeps no graph."""
    like = next(network.parameters(), torch.zeros(()))
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(like).requires_grad_()
    try:
        with listening(network, note), evaluating(network), freezing(network), torch.enable_grad():  # type: ignore[arg-type]
            logits: Tensor = network(image)
    except Exception:  # foreign code fails in any way it likes, and then the layer of the maps is taken
        return None
    return logits if logits.requires_grad else None


def count_positions(gradient: Tensor) -> int:
    """The number of tokens (1, T, D) at which a gradient is not negligible."""
    sizes = gradient.abs().amax(2)
    return int((sizes > SMALL * sizes.max()).sum())
