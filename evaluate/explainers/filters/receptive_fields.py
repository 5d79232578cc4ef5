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

# Functions that look at windows, with what may be given to them by position.
WINDOWED = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
}


class Span(NamedTuple):
    """Along one direction, unit u sees the pixels from low + u * jump up to, but without, high + u * jump."""

    low: int
    high: int
    jump: int

    def seen_through(self, kernel: int, stride: int, padding: int, dilation: int) -> Span:
        """What a unit behind a window over such units sees."""
        ahead = (kernel - 1) * dilation - padding
        return Span(self.low - padding * self.jump, self.high + ahead * self.jump, self.jump * stride)


PIXEL = Span(0, 1, 1)


class Field(NamedTuple):
    """What the units of a map see of the image; it may reach beyond the image, where there is padding."""

    vertical: Span = PIXEL
    horizontal: Span = PIXEL

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.vertical.high - self.vertical.low, self.horizontal.high - self.horizontal.low

    def seen_through(self, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
        """What a unit behind a window over such units sees; numbers for both directions, or one for each."""
        window = zip(pair(kernel), pair(stride), pair(padding), pair(dilation), strict=True)
        return Field(*(span.seen_through(*numbers) for span, numbers in zip(self, window, strict=True)))

    def joined(self, other: Field) -> Field:
        """All that either of two branches sees; they meet in maps of the same size, hence with the same jumps."""
        return Field(
            *(
                Span(min(mine.low, theirs.low), max(mine.high, theirs.high), mine.jump)
                for mine, theirs in zip(self, other, strict=True)
            )
        )


def receptive_fields(classifier: Classifier) -> list[Field]:
    """The receptive fields of the maps of every ReLU, numbered as `Listening` does.

    What is global, such as squeeze and excitation, does not count; functions that are neither convolutions nor poolings
    count as pointwise.

    Source: Araujo et al., Distill 2019; the recursion over kernel, stride and padding.
    """
    image, found = classifier.probe(1), list[Field]()
    tracing = Tracing(image)
    listening = Listening(lambda number, maps: found.append(tracing.field(maps)))
    with evaluating(classifier), torch.no_grad(), tracing, listening:
        classifier.network(image)
    return found


class Tracing(TorchFunctionMode):
    """A block in which each map of a forward pass gets its receptive field."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Field]] = {id(image): (image, Field())}  # the tensor keeps its id taken

    def field(self, maps: Tensor) -> Field:
        """The receptive field of a map that was met."""
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
        fields = [self.field(given) for given in flattened((args, kwargs)) if id(given) in self._known]
        if fields and isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1:
            whole = reduce(Field.joined, fields)
            self._known[id(output)] = output, behind(whole, getattr(func, "__name__", ""), args, kwargs)
        return output


def behind(field: Field, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Field:
    """The receptive field of what a function makes of maps with this one."""
    if function not in WINDOWED:
        return field
    given = {**dict(zip(WINDOWED[function], args, strict=False)), **kwargs}
    kernel = tuple(given["weight"].shape[2:]) if "weight" in given else given["kernel_size"]
    # A convolution without stride takes steps of one, a pooling steps as large as its window.
    stride = given.get("stride") or (1 if "weight" in given else kernel)
    dilation = given.get("dilation", 1)
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        reach = [(size - 1) * spread // 2 for size, spread in zip(kernel, pair(dilation), strict=True)]
        padding = reach if padding == "same" else 0
    return field.seen_through(kernel, stride, padding, dilation)


def flattened(values: Any) -> Iterator[Any]:
    """What lies in nested tuples, lists and dicts."""
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, tuple | list):
        yield values
        return
    for value in values:
        yield from flattened(value)
