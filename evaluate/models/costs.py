"""The cost of calling a classifier, counted in passes and measured in operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .networks.guard import evaluating
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
    with evaluating(network), torch.no_grad():
        whole = count_operations(lambda: network(image))
        head = count_operations(lambda: halves.head(image))
        tail = count_operations(lambda: halves.tail(halves.head(image))) - head
    return Share(head / max(whole, 1), tail / max(whole, 1))


def count_operations(call: Callable[[], Any]) -> int:
    """The floating-point operations of a call, by the formulas that torch and its users have registered."""
    with OperationCounter() as counter:
        call()
    return counter.total


class OperationCounter(TorchDispatchMode):
    """Adds up the floating-point operations inside its block, as torch's FlopCounterMode does.

    That one brings along torch's compiler at its first operation, a second of imports; see below.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        from torch.utils.flop_counter import flop_registry

        self.total = 0
        self._formulas = flop_registry

    def _run(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it; what has no formula is taken apart where torch can, and else counts 0."""
        kwargs = kwargs or {}
        operation = getattr(function, "_overloadpacket", function)  # one of higher order has no overloads
        if operation not in self._formulas and hasattr(function, "decompose"):
            with self:
                output = function.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = function(*args, **kwargs)
        if operation in self._formulas:
            self.total += self._formulas[operation](*args, **kwargs, out_val=output)
        return output


# Given to the class afterwards: what stands in its body, torch wraps in a call that imports torch._dynamo.
OperationCounter.__torch_dispatch__ = OperationCounter._run  # type: ignore[assignment]
