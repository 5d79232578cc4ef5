"""Strided convolutions whose gradient has no grid: the way back of "visual explanation by interpretation"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PARAMETERS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}


class Resampling(TorchFunctionMode):
    """A block in which the gradient goes back through every strided convolution as if it had no stride.

    The transpose of a strided convolution spreads each gradient over a part of the kernel only, which leaves a grid.
    Here the gradient is resized, by nearest neighbours, to what the convolution would give without its stride, and goes
    back through that one. The values forwards stay what they are. The size of the gradient grows with the square of the
    stride, so that only its shape means something. `torch.autograd.grad` may be called after the block.

    Source: Oramas, Wang and Tuytelaars, ICLR 2019, and the authors' released demo.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").partition(".")[0] == "conv2d":
            arguments = {**DEFAULTS, **dict(zip(PARAMETERS, args, strict=False)), **kwargs}
            # Strings pad to keep the size, which torch allows without stride alone, or do not pad.
            if pair(arguments["stride"]) != (1, 1):
                arguments["padding"] = 0 if arguments["padding"] == "valid" else arguments["padding"]
                return Resampled.apply(*(arguments[name] for name in PARAMETERS))
        return func(*args, **kwargs)


class Resampled(torch.autograd.Function):
    """A convolution whose gradient with respect to its input is that of `Resampling`; weights get none."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        """Convolve, and keep what the way back needs."""
        ctx.save_for_backward(weight)
        ctx.how, ctx.size = how, images.shape[2:]
        return F.conv2d(images, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Resize to the output without stride, then the transpose without stride."""
        (weight,), (_, padding, dilation, groups) = ctx.saved_tensors, ctx.how
        extents = zip(ctx.size, pair(padding), pair(dilation), weight.shape[2:], strict=True)
        unstrided = [size + 2 * pad - spread * (kernel - 1) for size, pad, spread, kernel in extents]
        # Nearest to the centre of the cell, as image libraries mean it: torch's own "nearest" takes the upper left.
        resized = F.interpolate(gradients[0], unstrided, mode="nearest-exact")
        back = F.conv_transpose2d(resized, weight, None, 1, padding, groups=groups, dilation=dilation)
        return back, *(None,) * (len(PARAMETERS) - 1)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """The parameter of a convolution as a pair: down and across."""
    if isinstance(value, int):
        return value, value
    height, width = value if len(value) == 2 else (value[0], value[0])
    return int(height), int(width)
