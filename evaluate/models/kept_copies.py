"""What is made of a classifier's weights, such as a folded copy of its network, kept for as long as they stay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import torch
from torch import nn

MEMORY = 512 * 2**20  # bytes that copies may take together; the last one is kept whatever it takes
Made = TypeVar("Made")


class KeptCopies:
    """What was made of one network, by key; all of it is forgotten as soon as the network shows that it has changed.

    A write that torch does not count (through `.data`, or in inference mode) does not show, so use this only where
    somebody watches over the network, and forgets, if need be: inside an explanation, or a cell.
    """

    def __init__(self) -> None:
        self._state: Hashable = None
        self._made: OrderedDict[Hashable, Any] = OrderedDict()

    def recall(self, network: nn.Module, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gave for a key when it was first called; what was last asked for the longest ago makes room."""
        state = state_of(network)
        if state is None:
            return make()
        if state != self._state:
            self._state, self._made = state, OrderedDict()
        key = (key, torch.is_inference_mode_enabled())  # copies made there have no gradients
        if key not in self._made:
            self._make_room(bytes_of(network))
            self._made[key] = make()
        self._made.move_to_end(key)
        return cast(Made, self._made[key])

    def _make_room(self, size: int) -> None:
        """Forget copies until another one of so many bytes has room."""
        while self._made and size + sum(map(bytes_of, self._made.values())) > MEMORY:
            self._made.popitem(last=False)


def state_of(network: nn.Module) -> Hashable | None:
    """What changes when a module is replaced, or torch counts a write to a weight; None where it counts none."""
    tensors = (*network.parameters(), *network.buffers())
    if any(tensor.is_inference() or torch.nn.parameter.is_lazy(tensor) for tensor in tensors):
        return None
    modules = tuple((id(module), type(module)) for module in network.modules())
    return modules, tuple((id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors)


def bytes_of(made: Any) -> int:
    """The bytes of a network's weights; nothing for what is no network."""
    if not isinstance(made, nn.Module):
        return 0
    return sum(tensor.numel() * tensor.element_size() for tensor in (*made.parameters(), *made.buffers()))
