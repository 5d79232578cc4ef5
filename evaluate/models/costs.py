"""The cost of calling a classifier, counted in passes and measured in operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .networks.guard import evaluating, freezing
from .networks.split import Split


@dataclass
class Cost:
    """The cost of calls of a classifier, in passes of one image through the whole network."""

    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forwards + other.forwards, self.backwards + other.backwards, self.seconds + other.seconds)


class Share(NamedTuple):
    """The cost of the halves of a split, as shares of the whole network's floating-point operations."""

    head: float
    tail: float


def backward_counter(cost: Cost, passes: float) -> Callable[[Tensor], None]:
    """A hook for a tensor that books passes backwards."""

    def book(gradient: Tensor) -> None:
        cost.backwards += passes

    return book


def measure_shares(network: nn.Module, halves: Split, image: Tensor) -> Share:
    """Count the floating-point operations of both halves and of the whole on one image."""
    with evaluating(network), freezing(network), torch.no_grad():  # the counter hooks what wants a gradient
        whole = count_operations(lambda: network(image))
        head = count_operations(lambda: halves.head(image))
        tail = count_operations(lambda: halves.tail(halves.head(image))) - head
    return Share(head / max(whole, 1), tail / max(whole, 1))


def count_operations(call: Callable[[], Any]) -> int:
    """The floating-point operations of a call, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
