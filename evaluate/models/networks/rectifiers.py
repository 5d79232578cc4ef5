"""Other rules for the gradient of a ReLU, without touching the network that has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from an8flower.errors import NotApplicable

Rule = Literal["guided", "deconvnet"]

# What may be given by position to the functions that rectify; those whose name ends with _ work in place.
PARAMETERS = {
    "relu": ("input", "inplace"),
    "relu_": ("input",),
    "relu6": ("input", "inplace"),
    "hardtanh": ("input", "min_val", "max_val", "inplace"),
    "hardtanh_": ("input", "min_val", "max_val"),
}
# Activations that have no such rule, in place or not.
OTHERS = (
    *("celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid"),
    *("mish", "prelu", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink"),
    *("_threshold", "threshold"),
)


class Rectifier(NamedTuple):
    """One call of a ReLU: min(max(values, 0), ceiling)."""

    values: Tensor
    ceiling: float
    in_place: bool


class Rectifying(TorchFunctionMode):
    """A block in which every ReLU that is run gets another gradient; the values forwards stay what they are.

    With R the gradient at the output of a ReLU and x its input, what goes on is

    - `guided`: R where R > 0 and the ReLU's own gradient is not zero (0 < x, and x below the ceiling of a ReLU6),
    - `deconvnet`: R where R > 0, whatever x.

    ReLUs and ReLU6s are met as modules or functions, in place or not, any number of times, in traced graphs as well.
    The network is not changed. `torch.autograd.grad` may be called after the block. A ReLU that is written in other
    words, such as `clamp(min=0)`, or that runs in TorchScript, is not met and keeps its gradient.

        with Rectifying("guided") as relus:
            logits = classifier(images)
        require_relus("guided_backprop", classifier.arch, relus)

    Source: Springenberg et al., ICLR workshop 2015 (guided); Zeiler and Fergus, ECCV 2014 (deconvnet).
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.count = 0  # how many ReLUs were met
        self.others: set[str] = set()  # the names of other activations that were met

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0]  # an operator of an exported graph is a relu.default
        relu = match_rectifier(name, args, kwargs)
        if relu is not None:
            self.count += 1
            return Rectified.apply(*relu, self.rule)
        if name.removesuffix("_") in OTHERS:
            self.others.add(name.strip("_"))
        return func(*args, **kwargs)


def match_rectifier(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rectifier | None:
    """The rectifier that a call of a torch function is; None if it is no ReLU."""
    if name not in PARAMETERS:
        return None
    arguments = {**dict(zip(PARAMETERS[name], args, strict=False)), **kwargs}
    if name.startswith("hardtanh") and arguments.get("min_val", -1.0) != 0:
        return None
    ceiling = {"relu": math.inf, "relu6": 6.0, "hardtanh": arguments.get("max_val", 1.0)}[name.removesuffix("_")]
    return Rectifier(arguments["input"], ceiling, name.endswith("_") or bool(arguments.get("inplace", False)))


class Rectified(torch.autograd.Function):
    """A ReLU with one of the rules for its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ceiling: float, in_place: bool, rule: Rule) -> Tensor:
        """Rectify the values, and keep no more of the input than the rule needs."""
        if rule == "guided":
            ctx.save_for_backward((values <= 0) | (values >= ceiling))
        if not in_place:
            return values.clamp(0, ceiling)
        ctx.mark_dirty(values)
        return values.clamp_(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Stop negative gradients; in the guided rule, also those where the ReLU was not active. NaN is not hidden."""
        (gradient,) = gradients
        stopped = gradient <= 0
        for inactive in ctx.saved_tensors:
            stopped = stopped | inactive
        return torch.where(stopped, 0, gradient), None, None, None


def require_relus(method: str, arch: str, relus: Rectifying) -> None:
    """Check, after a pass forwards in the block, that the rule says something about all activations of the network.

    Raises:
        NotApplicable: there was no ReLU, or another activation besides.
    """
    if relus.others or not relus.count:
        activations = f"uses {' and '.join(sorted(relus.others))}" if relus.others else "has none"
        raise NotApplicable(f"{method} needs ReLUs; {arch} {activations}; use gradient")
