"""What a network shows of itself when it is given one image: its logits, its layers in their order, its last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal

from .networks.guard import evaluating
from .transformers.description import describe


class NetworkProbe(NamedTuple):
    """What a network shows of itself when it is given one image."""

    classes: int  # logits
    layer: str | None  # the last module to give (B, K, h, w) with more than one position
    order: tuple[str, ...]  # the paths of all modules that ran, in the order in which they were through


def probe_network(network: nn.Module, size: int) -> NetworkProbe:
    """Show a network one grey image; it is given back as it was.

    Raises Refusal where it does not take it, or gives anything but a tensor (1, C).
    """
    order: list[str] = []
    spatial: list[str] = []

    def note(name: str, output: object) -> None:
        order.append(name)
        if is_spatial(output):
            spatial.append(name)

    with listening(network, note), evaluating(network), torch.no_grad():
        logits = run_on_grey(network, size)
    if not (isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == 1):
        kind = type(network).__name__
        if isinstance(logits, Tensor):
            raise Refusal(f"{kind} gives {tuple(logits.shape)} for one image; expected logits (1, C)")
        raise Refusal(
            f"{kind} gives {type(logits).__name__} for one image; expected logits (1, C): "
            "auxiliary outputs are for training mode, so return the logits alone in eval mode"
        )
    return NetworkProbe(logits.shape[1], spatial[-1] if spatial else None, tuple(order))


def choose_layer(network: nn.Module, probe: NetworkProbe) -> str | None:
    """The layer that CAMs look at in a bare network, where nobody names one; None if there is none.

    Of a vision transformer of a known family the last norm that the class depends on, else the last layer with spatial
    extent.
    """
    transformer = describe(network)
    return probe.layer if transformer is None else transformer.target_layer


def run_on_grey(network: nn.Module, size: int) -> Any:
    """What a network gives for one grey image; raises Refusal if it does not take it."""
    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device)
    try:
        return network(image)
    except Exception as error:  # foreign code fails in any way it likes
        raise Refusal(
            f"{type(network).__name__} does not take an image of {size} x {size} px ({type(error).__name__}: {error}); "
            "expected a network from (B, 3, S, S) to logits; give its S with --size, or data of that size"
        ) from error


@contextmanager
def listening(network: nn.Module, note: Callable[[str, object], None]) -> Iterator[None]:
    """A block in which `note` is called with the path and the output of every submodule that runs."""
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def is_spatial(output: object) -> bool:
    """Whether a layer's output is (B, K, h, w) with more than one position."""
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1
