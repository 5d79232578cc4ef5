"""Networks whose input gradients are differentiated once more, at the cost of a few fused operations for each layer.

What torch differentiates a second time by itself is right and slow: it runs each group of a convolution by itself, and
takes a batch norm apart into some twenty passes over its features. Here both are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from .rectifiers import match_rectifier

Pair = tuple[int, int]
NORM_FORWARD = torch.ops.aten.native_batch_norm
NORM_BACKWARD = torch.ops.aten.native_batch_norm_backward
CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward


class TwiceDifferentiable(TorchFunctionMode):
    """A block in which a network is run so that its input gradient is cheap to differentiate, and may be guided.

    Convolutions of images, batch norms in training mode and ReLUs are met as modules or functions; whatever else a
    network does is left to torch. Values and gradients are those of torch, but for rounding. The network is not
    changed. After the block:

        with ways.towards_inputs(guided=True):
            (target,) = torch.autograd.grad(total, images, retain_graph=True)
        with ways.towards_inputs():
            (gradient,) = torch.autograd.grad(total, images, create_graph=True)
        (loss + distance(gradient, target)).backward()  # gives weights their gradients, and inputs none
    """

    def __init__(self) -> None:
        super().__init__()
        self.guided = False  # whether ReLUs stop negative gradients
        self.inputs_only = False  # whether weights get no gradients

    @contextmanager
    def towards_inputs(self, *, guided: bool = False) -> Iterator[None]:
        """Have passes backwards inside the block reach inputs alone, by guided backpropagation if it is asked for."""
        self.inputs_only, self.guided = True, guided
        try:
            yield
        finally:
            self.inputs_only = self.guided = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d and (convolution := match_convolution(*args, **kwargs)) is not None:
            return Convolved.apply(*convolution, self)
        if func is F.batch_norm and (norm := match_batch_norm(*args, **kwargs)) is not None:
            return Normalised.apply(*norm, self)
        name = getattr(func, "__name__", "").partition(".")[0]
        if (relu := match_rectifier(name, args, kwargs)) is not None:
            return SwitchedRectifier.apply(*relu, self)
        return func(*args, **kwargs)


class ConvolutionSettings(NamedTuple):
    """The settings of a convolution of images, as the functions of torch take them."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    dtype: torch.dtype  # to multiply in

    def run(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve images (B, C, H, W)."""
        return F.conv2d(images, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def differentiate(
        self, gradient: Tensor, images: Tensor, weight: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of images, weight and bias, as far as they are wanted."""
        sizes, settings = [weight.shape[0]], (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        gradients: tuple[Tensor, Tensor, Tensor] = CONVOLUTION_BACKWARD(
            gradient, images, weight, sizes, *settings, list(wanted)
        )
        return gradients


def match_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, ConvolutionSettings] | None:
    """What `Convolved` takes for a call of `conv2d`; None where that is no batch, or its padding is a word."""
    if input.ndim != 4 or isinstance(padding, str):
        return None
    settings = (_as_pair(stride), _as_pair(padding), _as_pair(dilation), groups, multiplied_in(input))
    return input, weight, bias, ConvolutionSettings(*settings)


def _as_pair(value: int | Sequence[int]) -> Pair:
    first, *rest = (value, value) if isinstance(value, int) else value
    return first, (rest or [first])[0]


def multiplied_in(values: Tensor) -> torch.dtype:
    """The dtype in which autocast has values multiplied, or their own."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


class Convolved(torch.autograd.Function):
    """A convolution of images whose gradient is a convolution that can be differentiated in the same way."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        settings: ConvolutionSettings,
        ways: TwiceDifferentiable,
    ) -> Tensor:
        """Convolve, and keep images and weight in the dtype in which they are multiplied."""
        # Inputs of the network get a gradient in passes towards inputs alone.
        ctx.of_inputs = images.is_leaf and not isinstance(images, nn.Parameter)
        ctx.dtypes = [values if values is None else values.dtype for values in (images, weight, bias)]
        ctx.settings, ctx.ways = settings, ways
        multiplied = images.to(settings.dtype)
        ctx.save_for_backward(multiplied, weight)
        with torch.autocast(images.device.type, enabled=False):
            return settings.run(
                multiplied, weight.to(settings.dtype), None if bias is None else bias.to(settings.dtype)
            )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of images, weight and bias; of weight and bias none in a pass towards inputs alone."""
        (gradient,), (images, weight), settings = gradients, ctx.saved_tensors, ctx.settings
        towards_inputs, images = ctx.ways.inputs_only, images.detach()
        wanted = [ctx.needs_input_grad[i] and not towards_inputs for i in (1, 2)]
        back = ctx.needs_input_grad[0] and (towards_inputs or not ctx.of_inputs)
        if torch.is_grad_enabled():
            first = ConvolvedBack.apply(gradient, weight, images, settings) if back else None
            rest: Sequence[Tensor | None] = [None, None]
            if any(wanted):
                raise NotImplementedError("the gradient of weights is not differentiated again")
        else:
            first, *rest = settings.differentiate(gradient, images, weight.to(settings.dtype), (back, *wanted))
        pairs = zip((first, *rest), ctx.dtypes, (back, *wanted), strict=True)
        return (*(values.to(dtype) if yes and values is not None else None for values, dtype, yes in pairs), None, None)


class ConvolvedBack(torch.autograd.Function):
    """The gradient of a convolution's images, which is linear in the gradient of its output and in the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, images: Tensor, settings: ConvolutionSettings) -> Tensor:
        """The gradient of the images, whose values do not matter."""
        ctx.settings = settings
        ctx.save_for_backward(gradient, weight)
        return settings.differentiate(gradient, images, weight.to(settings.dtype), (True, False, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """The gradients of the gradient and of the weight."""
        (direction,), (gradient, weight), settings = directions, ctx.saved_tensors, ctx.settings
        multiplied = weight.to(settings.dtype)
        forwards = settings.run(direction, multiplied, None)
        if not ctx.needs_input_grad[1]:
            return forwards, None, None, None
        _, of_weight, _ = settings.differentiate(gradient, direction, multiplied, (False, True, False))
        return forwards, of_weight.to(weight.dtype), None, None


def match_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...] | None:
    """What `Normalised` takes for a call of `batch_norm`; None where running statistics are used, or no weights."""
    if not training or weight is None or bias is None:
        return None
    return input, weight, bias, running_mean, running_var, momentum, eps


class Normalised(torch.autograd.Function):
    """A batch norm by the statistics of the batch whose gradient is cheap to differentiate."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        ways: TwiceDifferentiable,
    ) -> Tensor:
        """Normalise, and update the running statistics once."""
        output, mean, scale = NORM_FORWARD(values, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.ways, ctx.eps = ways, eps
        ctx.save_for_backward(values, weight, mean, scale)
        return torch.as_tensor(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of values, weight and bias; of weight and bias none in a pass towards inputs alone."""
        values, of_weight, of_bias = NormalisedBack.apply(gradients[0], *ctx.saved_tensors, ctx.eps)
        rest = (None, None) if ctx.ways.inputs_only else (of_weight, of_bias)
        return (values, *rest, *(None,) * 5)


class NormalisedBack(torch.autograd.Function):
    """The gradient of a batch norm: w / s (g - mean g - z mean gz), with z the normalised values and s their spread.

    It is linear in g and its own transpose, so the gradient of g is the same function of the direction u; that of the
    values follows from both results, g' and u': - (mean(gz) u' + mean(uz) g') / s - w t z / (n s), with
    t = (sum ug - n mean u mean g - n mean(uz) mean(gz)) / s, the gradient of the weight.
    """

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, values: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of values, weight and bias."""
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        results = _norm_back(gradient, values, weight, mean, scale, eps)
        ctx.save_for_backward(gradient, values, weight, mean, scale, *results)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of gradient, values and weight."""
        gradient, values, weight, mean, scale, back, products, total = ctx.saved_tensors
        direction, *others = directions
        if any(other is not None for other in others):
            raise NotImplementedError("the gradient of weights is not differentiated again")
        if direction is None:
            return (None,) * 6
        n = values.numel() // values.shape[1]
        forwards, u_products, u_total = _norm_back(direction, values, weight, mean, scale, ctx.eps)
        both = _dot(direction, gradient, mean)
        of_weight = scale * (both - u_total * total / n - u_products * products / n)
        of_values = _shift_and_scale(values, mean, -weight * of_weight * scale**2 / n)
        for factor, tensor in ((products, forwards), (u_products, back)):
            of_values.addcmul_(_per_channel(-scale * factor / n, tensor), tensor)
        return forwards, of_values, of_weight.to(weight.dtype), None, None, None


def _norm_back(
    gradient: Tensor, values: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of values, weight and bias, in one fused operation."""
    statistics, wanted = (None, None, mean, scale), [True, True, True]
    gradients: tuple[Tensor, Tensor, Tensor] = NORM_BACKWARD(gradient, values, weight, *statistics, True, eps, wanted)
    return gradients


def _dot(first: Tensor, second: Tensor, like: Tensor) -> Tensor:
    """The sum of products (C,) of tensors (B, C, H, W) in each channel, added up in the precision of `like` (C,).

    The gradient of a weight is such a sum, and fused: the products are not written down.
    """
    mean, scale, wanted = torch.zeros_like(like), torch.ones_like(like), [False, True, False]
    return torch.as_tensor(NORM_BACKWARD(first, second, scale, None, None, mean, scale, True, 0.0, wanted)[1])


def _shift_and_scale(values: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """(values - mean) * factor for each channel; one pass, in single precision inside."""
    no_spread, no_shift = torch.ones_like(mean), torch.zeros_like(mean)
    return torch.as_tensor(NORM_FORWARD(values, factor, no_shift, mean, no_spread, False, 0.0, 0.0)[0])


def _per_channel(factor: Tensor, like: Tensor) -> Tensor:
    return factor.to(like.dtype)[:, None, None]


class SwitchedRectifier(torch.autograd.Function):
    """A ReLU that stops negative gradients as well while passes are guided."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ceiling: float, in_place: bool, ways: TwiceDifferentiable) -> Tensor:
        """Rectify the values, and keep the result."""
        ctx.ceiling, ctx.ways = ceiling, ways
        output = values.clamp_(0, ceiling) if in_place else values.clamp(0, ceiling)
        if in_place:
            ctx.mark_dirty(values)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Stop gradients where the ReLU was not active; in a guided pass, negative ones too. NaN is not hidden."""
        (output,) = ctx.saved_tensors
        output = output.detach()  # it says where the ReLU was active, which does not move
        if ctx.ceiling == float("inf"):
            gradient = torch.ops.aten.threshold_backward(gradients[0], output, 0)
        else:
            gradient = torch.ops.aten.hardtanh_backward(gradients[0], output, 0, ctx.ceiling)
        return (gradient.clamp(min=0) if ctx.ways.guided else gradient), None, None, None
