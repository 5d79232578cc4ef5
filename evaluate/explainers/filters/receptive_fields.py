"""What part of an image a unit of a feature map can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from .resampling import pair
from .responses import Listening

# Functions that look at windows, with their parameters that may come by position.
WINDOWED = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
}


class AxisField(NamedTuple):
    """A field along one axis: unit u sees the pixels from low + u * jump up to, but without, high + u * jump."""

    low: int
    high: int
    jump: int

    def behind_window(self, kernel: int, stride: int, padding: int, dilation: int) -> AxisField:
        """The receptive field of a unit behind a window over such units."""
        ahead = (kernel - 1) * dilation - padding
        return AxisField(self.low - padding * self.jump, self.high + ahead * self.jump, self.jump * stride)


PIXEL = AxisField(0, 1, 1)


class ReceptiveField(NamedTuple):
    """What the units of a map see of the image; with padding, it may reach beyond the image."""

    vertical: AxisField = PIXEL
    horizontal: AxisField = PIXEL

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the field in pixels."""
        return self.vertical.high - self.vertical.low, self.horizontal.high - self.horizontal.low

    def behind_window(self, kernel: Any, stride: Any, padding: Any, dilation: Any) -> ReceptiveField:
        """The field of a unit behind a window over such units; arguments are numbers for both directions, or pairs."""
        window = zip(pair(kernel), pair(stride), pair(padding), pair(dilation), strict=True)
        return ReceptiveField(*(span.behind_window(*numbers) for span, numbers in zip(self, window, strict=True)))

    def join(self, other: ReceptiveField) -> ReceptiveField:
        """Join the fields of two branches: all that either sees. Their maps have one size, hence the same jumps."""
        return ReceptiveField(
            *(
                AxisField(min(mine.low, theirs.low), max(mine.high, theirs.high), mine.jump)
                for mine, theirs in zip(self, other, strict=True)
            )
        )


def receptive_fields(classifier: Classifier) -> list[ReceptiveField]:
    """The receptive fields of the maps of every ReLU, numbered as `Listening` does.

    Global operations, such as squeeze and excitation, do not count; functions that are neither convolutions nor
    poolings count as pointwise.

    Source: Araujo et al., Distill 2019; the recursion over kernel, stride and padding.
    """
    image, fields = classifier.probe(1), list[ReceptiveField]()
    tracing = Tracing(image)
    listening = Listening(lambda number, maps: fields.append(tracing.field(maps)))
    with evaluating(classifier), torch.no_grad(), tracing, listening:
        classifier.network(image)
    return fields


class Tracing(TorchFunctionMode):
    """A block in which each map of a forward pass gets its receptive field."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        # Tensors are kept too, so that no other one gets their id.
        self._known: dict[int, tuple[Tensor, ReceptiveField]] = {id(image): (image, ReceptiveField())}

    def field(self, maps: Tensor) -> ReceptiveField:
        """The receptive field of a map that the forward pass has given."""
        return self._known[id(maps)][1]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        fields = [self.field(value) for value in flatten((args, kwargs)) if id(value) in self._known]
        if fields and isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1:
            whole = reduce(ReceptiveField.join, fields)
            self._known[id(output)] = output, field_behind(whole, getattr(func, "__name__", ""), args, kwargs)
        return output


def field_behind(field: ReceptiveField, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ReceptiveField:
    """The receptive field of a function's output, from that of the maps it works on."""
    if function not in WINDOWED:
        return field
    arguments = {**dict(zip(WINDOWED[function], args, strict=False)), **kwargs}
    kernel = tuple(arguments["weight"].shape[2:]) if "weight" in arguments else arguments["kernel_size"]
    # A convolution without stride takes steps of one, a pooling steps as large as its window.
    stride = arguments.get("stride") or (1 if "weight" in arguments else kernel)
    dilation = arguments.get("dilation", 1)
    padding = arguments.get("padding", 0)
    if isinstance(padding, str):
        reach = [(size - 1) * spread // 2 for size, spread in zip(kernel, pair(dilation), strict=True)]
        padding = reach if padding == "same" else 0
    return field.behind_window(kernel, stride, padding, dilation)


def flatten(values: Any) -> Iterator[Any]:
    """Flatten nested tuples, lists and dicts to the values in them."""
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, tuple | list):
        yield values
        return
    for value in values:
        yield from flatten(value)
