"""What a network shows of itself when it is given one image: its logits, its layers in their order, its last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal

from .networks.guard import evaluating


class NetworkProbe(NamedTuple):
    """What a network shows of itself when it is given one image."""

    classes: int  # logits
    layer: str | None  # the last module to give maps (B, K, h, w) with more than one position
    order: tuple[str, ...]  # the paths of all modules that ran, in the order in which they were through
    tokens: tuple[str, ...] = ()  # those that gave tokens (B, T, D) after the last maps: norms and blocks in a row
    size: int = 0  # pixels: the side of the image


def probe_network(network: nn.Module, size: int) -> NetworkProbe:
    """Show a network one grey image; it is given back as it was.

    Raises Refusal where it does not take it, or gives anything but a tensor (1, C).
    """
    order: list[str] = []
    spatial: list[str] = []
    square: list[str] = []
    tokens: list[str] = []

    def note(name: str, output: object) -> None:
        order.append(name)
        if is_spatial(output):
            spatial.append(name)
        if is_square(output) and not is_within_attention(name) and not gives_copies(network, name):
            square.append(name)
            tokens.clear()
        elif are_tokens(output) and gives_tokens(network, name):
            tokens.append(name)

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
    maps = square or spatial
    return NetworkProbe(logits.shape[1], maps[-1] if maps else None, tuple(order), tuple(tokens), size)


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


def is_square(output: object) -> bool:
    """Whether a layer's output is (B, K, s, s) or (B, s, s, K), as the maps of square images are."""
    return is_spatial(output) and isinstance(output, Tensor) and _side(output) is not None


def are_channels_last(values: Tensor) -> bool:
    """Whether maps are (B, s, s, K), going by their shape alone; (B, s, s, s) is not."""
    return values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3]


def _side(values: Tensor) -> int | None:
    """The side of square maps, wherever their channels are; None where they are not square."""
    _, first, second, third = values.shape
    return second if second in (first, third) else None


def is_within_attention(path: str) -> bool:
    """Whether a module is a part of one that is called attention: what those give are products of tokens, not maps."""
    return any("attn" in part or "attention" in part for part in path.lower().split(".")[:-1])


def gives_copies(network: nn.Module, path: str) -> bool:
    """Whether a module pools to a size of its own, where places of a small image's maps are copies of each other."""
    return isinstance(network.get_submodule(path), nn.AdaptiveAvgPool2d)


def are_tokens(output: object) -> bool:
    """Whether a layer's output is (1, T, D), the tokens of one image, with more than one of them."""
    return isinstance(output, Tensor) and output.ndim == 3 and len(output) == 1 and output.shape[1] > 1


def gives_tokens(network: nn.Module, path: str) -> bool:
    """Whether a module is a norm of layers, or one of several blocks of one class in a row."""
    module = network.get_submodule(path)
    if isinstance(module, nn.LayerNorm):
        return True
    parent, _, name = path.rpartition(".")
    siblings = [type(sibling) for sibling in network.get_submodule(parent).children()]
    return name.isdecimal() and siblings.count(type(module)) > 1
