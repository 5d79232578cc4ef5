"""What several layers give in one pass, as tensors with respect to which the logits can be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from .guard import freezing
from .split import submodule


@contextmanager
def tapping(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Note what layers give in the passes inside the block, each in its last call; the first to run come first.

    What runs before the first of the layers keeps nothing for a way back, as long as the images want no gradient.

    Args:
        network: from images to logits; its weights want no gradient inside the block.
        layers: paths of submodules that give one tensor each.

    Raises:
        WrongUsage: there is no such layer.
    """
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(freezing(network))
        for layer in layers:
            hook = submodule(network, layer).register_forward_hook(note_into(outputs, layer))
            stack.callback(hook.remove)
        yield outputs


def note_into(outputs: dict[str, Tensor], layer: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that notes what a layer gives, and lets a copy go on: an operation in place may follow."""

    def note(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        outputs[layer] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[layer].clone()

    return note
