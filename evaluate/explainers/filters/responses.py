"""How strongly each filter of a network answers to an image: its ReLUs, listened to call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from an8flower.errors import WrongUsage

from ...models.networks.rectifiers import match_rectifier

OnResponse = Callable[[int, Tensor], None]  # (number of the call, its output (B, K, h, w))


class Listening(TorchFunctionMode):
    """A block in which every ReLU that gives maps (B, K, h, w) of more than one position is listened to.

    Calls are numbered from 0 in the order in which they run; what is heard may be changed in place where no gradient is
    wanted. ReLUs count as modules or functions, in place or not, any number of times. One that is written in other
    words, such as `clamp(min=0)`, does not count. Inside another mode, this one hears what that one makes of the ReLUs.
    """

    def __init__(self, on_response: OnResponse) -> None:
        super().__init__()
        self.on_response = on_response
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        rectifies = match_rectifier(getattr(func, "__name__", "").partition(".")[0], args, kwargs) is not None
        output = func(*args, **kwargs)
        if rectifies and output.ndim == 4 and output.shape[2:].numel() > 1:
            self.on_response(self.calls, output)
            self.calls += 1
        return output


def energies(maps: Tensor, root: bool = False) -> Tensor:
    """The squared Euclidean norm (B, K) of each of the maps (B, K, h, w), or the norm itself; single precision."""
    total = maps.float().square().sum((2, 3))
    return total.sqrt() if root else total


def response_vectors(layers: Sequence[Tensor], normalise: bool = True) -> Tensor:
    """Layers (B, K_l), each scaled to sum 1, side by side as (B, m); then, if `normalise`, each row to length 1.

    A layer that is silent stays zero, and so does a row of silent layers.
    """
    shares = torch.cat([divide(layer, layer.sum(1, keepdim=True)) for layer in layers], 1)
    return divide(shares, shares.norm(dim=1, keepdim=True)) if normalise else shares


def divide(values: Tensor, sizes: Tensor) -> Tensor:
    """Divide by sizes that are not negative; zeros where a size is 0."""
    return values / torch.where(sizes > 0, sizes, 1.0)


def layer_numbers(text: str | None, count: int | None = None) -> list[int]:
    """The calls of ReLUs that `0+3` or `-1` names, rising; all of `count` where it is None, negative ones from the end.

    Without a count only the spelling is checked.

    >>> layer_numbers("-1+0", 5)
    [0, 4]

    Raises:
        WrongUsage: these are no numbers, or there are not that many ReLUs.
    """
    try:
        numbers = list(range(count or 0)) if text is None else [int(number) for number in text.split("+")]
    except ValueError:
        raise WrongUsage(
            f'layers are "{text}"; expected numbers of ReLUs, such as 0+3 or -1 for the last one'
        ) from None
    if count is None:
        return numbers
    if missing := [number for number in numbers if not -count <= number < count]:
        raise WrongUsage(f"layers are {text}; ReLU {missing[0]} does not exist, {count} of them give maps")
    return sorted({number % count for number in numbers})
