"""Relevance in networks with attention, as a gradient that operations change on its way back.

A rule of relevance propagation R_i = x_i * sum_j w_ij(x) R_j / z_j is a gradient in disguise: what goes back is R / z,
and the relevance of the pixels is the pixels times what arrives there. So a sum or a move keeps its gradient, and the
other operations get these:

- a product of two tensors that depend on the image (attention x values, queries x keys, gates): half of the gradient,
  so that the factors share the relevance;
- an elementwise non-linearity f: f(x) / x instead of f'(x), so that relevance passes unchanged;
- a layer norm: its standard deviation is a constant;
- a linear layer or convolution: the gamma rule, of which gamma = 0 is the ordinary gradient;
- softmax: its gradient for AttnLRP; for CP-LRP attention is a constant, and the values get all relevance.

Source: Achtibat et al., ICML 2024 (AttnLRP), eq. 7 to 15, and the authors' code (LXT); Ali et al., ICML 2022 (CP-LRP).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from an8flower.errors import NotApplicable

from ...models.networks.attention import Attending, attention_weights
from ...models.networks.features import at_least_single
from .transformer_relevance import operations_behind

Call = Callable[..., Any]
TINY = 1e-30  # where nothing comes in, nothing goes back; much smaller than any sum that is not zero


class AttentionAware(Attending):
    """Inside this block, the gradient of a logit times the pixels is relevance. Only for frozen networks.

    Args:
        through_softmax: whether queries and keys get relevance (AttnLRP), or attention is a constant (CP-LRP).
        gamma_linear: of the gamma rule in linear layers, not negative.
        gamma_conv: the same in convolutions.
    """

    def __init__(self, through_softmax: bool, gamma_linear: float, gamma_conv: float) -> None:
        super().__init__()
        self.through_softmax = through_softmax
        self.gammas = {"linear": gamma_linear, "conv2d": gamma_conv}

    def weigh(self, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        """The attention of queries to keys, a constant unless it gets relevance."""
        with torch.set_grad_enabled(self.through_softmax and torch.is_grad_enabled()):
            # Half to either factor, where there are fewer numbers than in their product.
            factors = halve(at_least_single(query) * scale), halve(at_least_single(key))
            return attention_weights(*factors, 1.0, mask)

    def keep(self, weights: Tensor) -> None:
        """Keep the attention of the last block alone: multi-head attention may be asked for it."""
        self.weights = [weights]

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        """The values, mixed by the weights; both get half of the relevance, unless the weights are constants."""
        mixed = super().mix(weights, value)
        return halve(mixed) if self.through_softmax else mixed

    def other(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation with its rule on the way back.

        Raises:
            NotApplicable: it joins two tensors of the image in a way that has no rule.
        """
        count = sum(1 for _ in tensors_on_path((args, kwargs)))
        name = getattr(func, "__name__", "")
        if not count:
            return func(*args, **kwargs)
        if name in ("softmax", "_softmax") and not self.through_softmax:
            return func(*args, **kwargs).detach()
        if name in PRODUCTS:
            product = func(*args, **kwargs)
            return halve(product) if count > 1 else product
        if name in self.gammas and count == 1 and is_on_path(args[0]):
            return gamma_rule(func, args, kwargs, self.gammas[name])
        if name in RULES:
            return RULES[name](func, args, kwargs)
        if count > 1 and name not in SUMS:
            refuse(name)
        return func(*args, **kwargs)


def is_on_path(value: Any) -> bool:
    """Whether a value is a tensor that depends on the image, in a frozen network."""
    return isinstance(value, Tensor) and value.requires_grad


def tensors_on_path(values: Any) -> Iterator[Tensor]:
    """The tensors that depend on the image among arguments, lists of them included."""
    if isinstance(values, tuple | list):
        for value in values:
            yield from tensors_on_path(value)
    elif isinstance(values, dict):
        yield from tensors_on_path(list(values.values()))
    elif is_on_path(values):
        yield values


def refuse(operation: str) -> None:
    """Raise NotApplicable for an operation without a rule."""
    raise NotApplicable(f"attention-aware relevance has no rule for {operation}, which this network has; use gradcam")


def check_operations(logits: Tensor) -> None:
    """Raise NotApplicable where an operation between pixels and logits has no rule: the graph shows all of them."""
    for operation in sorted(operations_behind(logits) - KNOWN):
        refuse(operation)


# The rules.


class HalfRule(Function):
    """The uniform rule of a product: half of the gradient goes on, to both factors."""

    @staticmethod
    def forward(ctx: Any, product: Tensor) -> Tensor:
        """The product as it is."""
        return product.view_as(product)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Half of the gradient."""
        return gradients[0] / 2


def halve(product: Tensor) -> Tensor:
    """A product of two tensors, whose gradient is halved on its way back."""
    return HalfRule.apply(product)


class IdentityRule(Function):
    """The identity rule of an elementwise non-linearity f: the gradient is multiplied by f(x) / x; by 0 if x is 0."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, operation: Callable[[Tensor], Tensor], in_place: bool) -> Tensor:
        """Apply the non-linearity, in place if the network does so."""
        output = operation(values.clone() if in_place else values)
        ctx.save_for_backward(torch.where(values == 0, 0.0, output / values))
        if not in_place:
            return output
        ctx.mark_dirty(values)
        return values.copy_(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient times f(x) / x."""
        return gradients[0] * ctx.saved_tensors[0], None, None


class NormRule(Function):
    """The rule of a layer norm: its gradient, but that the standard deviation is a constant."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """The normalised values, as `F.layer_norm` gives them."""
        output, _, scale = torch.native_layer_norm(values, shape, weight, bias, eps)
        ctx.places = tuple(range(-len(shape), 0))
        ctx.save_for_backward(scale, weight)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of (x - mean) * weight / deviation."""
        scale, weight = ctx.saved_tensors
        gradient = gradients[0] if weight is None else gradients[0] * weight
        return (gradient - gradient.mean(ctx.places, keepdim=True)) * scale, None, None, None, None


class GammaRule(Function):
    """The gamma rule of a linear operation: contributions c of the output's own sign count 1 + gamma times.

    With z = sum c: R_i = sum_j R_j (c_ij + gamma c_ij^s) / (z_j + gamma sum_i c_ij^s), where c^s is c where it has the
    sign of z_j, else 0; that is Zennit's rule. The sum of |c|, by one more pass, gives both c^+ and c^-, so that the
    rule costs two passes forwards and two backwards instead of Zennit's five.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, operation: Call, weight: Tensor, bias: Tensor | None, gamma: float) -> Tensor:
        """The output of the operation, which takes values, weights and biases."""
        weights = gamma / 2 * weight.abs(), None if bias is None else gamma / 2 * bias.abs()
        with torch.enable_grad():
            ctx.inputs = (values.detach().requires_grad_(), values.detach().abs().requires_grad_())
            ctx.outputs = (operation(ctx.inputs[0], weight, bias), operation(ctx.inputs[1], *weights))
        ctx.signed_weight = 1 + gamma / 2
        return ctx.outputs[0].detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The relevance of the inputs, divided by the inputs.

        With Z = (1 + gamma / 2) |z| + gamma / 2 sum |c|, that is sum_j g_j / Z_j ((1 + gamma / 2) |z_j| w_ij +
        gamma / 2 z_j |w_ij| sign x_i), where g is the gradient at the outputs. In few passes over the numbers.
        """
        output, magnitude = (tensor.detach() for tensor in ctx.outputs)
        size = output.abs()
        share = gradients[0] / torch.add(magnitude, size, alpha=ctx.signed_weight).clamp_(min=TINY)
        (signed,) = torch.autograd.grad(ctx.outputs[0], ctx.inputs[0], size.mul_(share))
        (unsigned,) = torch.autograd.grad(ctx.outputs[1], ctx.inputs[1], share.mul_(output))
        relevance = unsigned.mul_(ctx.inputs[0].detach().sign()).add_(signed, alpha=ctx.signed_weight)
        return relevance, None, None, None, None


def gamma_rule(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any], gamma: float) -> Tensor:
    """Apply `GammaRule` to a linear layer or a convolution; the ordinary gradient is the rule for gamma = 0."""
    if gamma == 0:
        return func(*args, **kwargs)
    arguments = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
    arguments |= kwargs
    values, weight, bias = arguments.pop("input"), arguments.pop("weight"), arguments.pop("bias", None)
    return GammaRule.apply(
        values, lambda values, weight, bias: func(values, weight, bias, **arguments), weight, bias, gamma
    )


def identity_rule(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Apply `IdentityRule` to a non-linearity; of its further arguments only that it works in place can be True."""
    in_place = func.__name__.endswith("_") or bool(kwargs.get("inplace")) or any(value is True for value in args[1:])
    values, kwargs = (args[0], kwargs) if args else (kwargs["input"], {k: v for k, v in kwargs.items() if k != "input"})
    return IdentityRule.apply(values, lambda values: func(values, *args[1:], **kwargs), in_place)


LAYER_NORM = inspect.signature(F.layer_norm)


def norm_rule(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Apply `NormRule` to a layer norm."""
    call = LAYER_NORM.bind(*args[:5], **{name: value for name, value in kwargs.items() if name != "cudnn_enable"})
    call.apply_defaults()
    return NormRule.apply(*call.arguments.values())


def batch_norm_rule(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Leave a batch norm as it is, whose statistics are constants; raises NotApplicable where they are the batch's."""
    if kwargs.get("training", args[5] if len(args) > 5 else False):
        refuse("batch norm without running statistics")
    return func(*args, **kwargs)


def quotient_rule(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Leave a division by a constant as it is; raises NotApplicable where the divisor depends on the image."""
    if next(tensors_on_path((args[1:], kwargs)), None) is not None:
        refuse("a quotient")
    return func(*args, **kwargs)


PRODUCTS = {"matmul", "bmm", "mm", "mul", "multiply"}
# Operations on several tensors of the image whose gradient is the rule: sums, and those that move values.
SUMS = {
    *("add", "add_", "sub", "sub_", "rsub", "cat", "concat", "concatenate", "stack", "hstack", "vstack"),
    *("expand_as", "view_as", "reshape_as", "type_as", "broadcast_tensors", "where", "__get__"),
}
ACTIVATIONS = (
    "relu",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "tanh",
    "hardswish",
)
RULES: dict[str, Callable[[Call, tuple[Any, ...], dict[str, Any]], Tensor]] = {
    **{f"{name}{ending}": identity_rule for name in ACTIVATIONS for ending in ("", "_")},
    "layer_norm": norm_rule,
    "batch_norm": batch_norm_rule,
    **dict.fromkeys(("div", "divide", "true_divide", "div_"), quotient_rule),
}
# Operations that have a rule, as the graph calls them: those replaced, and those whose gradient is the rule.
KNOWN = {
    *(rule.__name__ for rule in (HalfRule, IdentityRule, NormRule, GammaRule)),
    *("View", "UnsafeView", "ReshapeAlias", "Alias", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Expand"),
    *("Select", "Slice", "Index", "Split", "SplitWithSizes", "Unbind", "Cat", "Stack", "Clone", "ToCopy", "Unfold"),
    *("Roll", "ConstantPadNd", "Repeat", "AccumulateGrad", "AsStrided", "CopySlices", "Flip", "PixelUnshuffle"),
    *("Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Sum", "Mean", "Softmax", "Where", "MaskedFill"),
    *("Addmm", "Mm", "Bmm", "Baddbmm", "Mv", "Convolution", "ConvolutionOverrideable", "MkldnnConvolution"),
    *("NativeBatchNorm", "CudnnBatchNorm", "AvgPool2D", "AdaptiveAvgPool2D", "MaxPool2DWithIndices"),
}
