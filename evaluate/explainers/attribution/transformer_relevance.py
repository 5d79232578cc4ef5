"""Relevance in a vision transformer: autograd in another algebra.

A forward pass in which every operation is replaced by one of the same values whose way back is a rule of relevance
propagation instead of a derivative. Where a value is used twice, autograd adds what comes back, as relevance wants it.
To be run in double precision: the signed rules divide by sums that may be close to zero, and single precision shows.

Source: Chefer, Gur and Wolf, CVPR 2021, with the rules of the authors' code. Three things differ from it. The residual
sum shares out the relevance of each image, not of the batch. Values of exactly zero keep the relevance that arrives at
a copy of them or at the pick of a token. Positions before the first attention are not reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from an8flower.errors import NotApplicable

from ...models.networks.attention import Attending, attention_weights

EPSILON = 1e-9  # the authors'


class RelevanceAttending(Attending):
    """Inside this block, `torch.autograd.grad` from the logits gives relevance. Only for frozen networks."""

    def weigh(self, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        """Attention weights as in torch, but the way back is that of Q K^T alone: the softmax passes relevance on."""
        return WeighRule.apply(query, key, scale, mask)

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        """The values, mixed by the weights: both get half of the relevance."""
        return MixRule.apply(weights, value)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace an operation by its rule, if there is one. Others must show in the graph for `check_graph`."""
        rule = RULES.get(getattr(func, "__name__", ""))
        on_path = [isinstance(argument, Tensor) and argument.requires_grad for argument in args]
        if rule is None or not any(on_path):
            return func(*args, **kwargs)
        if "inplace" in kwargs:  # whether that changes the outcome is seen at the logits
            kwargs = {**kwargs, "inplace": False}
        return rule(func, on_path, args, kwargs)


def relevance_of_attention(logits: Tensor, targets: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    """The relevance (B, heads, N, N) of every block's attention for the target, of which there is 1 at its logit.

    Args:
        logits: (B, C), from inside `RelevanceAttending`.
        targets: (B,) int64.
        weights: the attention weights that `RelevanceAttending` has kept.

    Raises:
        NotApplicable: between logits and attention there is an operation without a rule.
    """
    check_graph(logits)
    start = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return torch.autograd.grad(logits, weights, start, materialize_grads=True)


def divide(relevance: Tensor, values: Tensor) -> Tensor:
    """The quotient R / Z of relevance and values; zero where Z is zero."""
    stable = values + EPSILON
    return torch.where(values == 0, 0.0, relevance / torch.where(stable == 0, EPSILON, stable))


class LinearRule(Function):
    """A linear layer's rule: shares in proportion to the positive contributions x_i w_ji; the bias gets none."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear layer's output, as `F.linear` gives it."""
        ctx.save_for_backward(values, weight)
        return F.linear(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """The relevance of the inputs: R_i = sum_j (x_i w_ji)^+ R_j / sum_k (x_k w_jk)^+."""
        values, weight = ctx.saved_tensors
        parts = ((values.clamp(min=0), weight.clamp(min=0)), (values.clamp(max=0), weight.clamp(max=0)))
        share = divide(relevance, F.linear(*parts[0]) + F.linear(*parts[1]))
        return parts[0][0] * (share @ parts[0][1]) + parts[1][0] * (share @ parts[1][1]), None, None


class SumRule(Function):
    """A sum's rule: shares in proportion to the signed terms, then scaled: each term's total follows its |sum|."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        """The sum of two terms, (B, ...)."""
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        """The relevance of both terms; all sums run over one image."""
        first, second = ctx.saved_tensors
        share = divide(relevance, first + second)
        parts = (first * share, second * share)
        sums = [total(part) for part in parts]
        both = sums[0].abs() + sums[1].abs()
        due = [divide(value.abs(), both) * total(relevance) for value in sums]
        return tuple(part * divide(owed, value) for part, owed, value in zip(parts, due, sums, strict=True))


def total(relevance: Tensor) -> Tensor:
    """The sum of relevance over each image, in a shape that broadcasts."""
    return relevance.sum(tuple(range(1, relevance.ndim)), keepdim=True)


class PassRule(Function):
    """The rule of activations, norms and constant factors: relevance passes unchanged."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
        """The output of the operation that is replaced."""
        return operation(values)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """The relevance that arrives, unchanged."""
        return relevance, None


class WeighRule(Function):
    """The rule of Q K^T: shares in proportion to the signed products, half to each factor."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        """The attention weights of queries and keys."""
        ctx.save_for_backward(query, key)
        return attention_weights(query, key, scale, mask)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """The relevance of both factors; with S = R / Z: R_Q = Q * (S K) / 2, R_K = K * (S^T Q) / 2."""
        query, key = ctx.saved_tensors
        share = divide(relevance, query @ key.transpose(-2, -1)) / 2
        return query * (share @ key), key * (share.transpose(-2, -1) @ query), None, None


class MixRule(Function):
    """The rule of A V: shares in proportion to the signed products, half to each factor."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor) -> Tensor:
        """The values, mixed by the attention weights."""
        ctx.save_for_backward(weights, value)
        return weights @ value

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        """The relevance of both factors; with S = R / Z: R_A = A * (S V^T) / 2, R_V = V * (A^T S) / 2."""
        weights, value = ctx.saved_tensors
        share = divide(relevance, weights @ value) / 2
        return weights * (share @ value.transpose(-2, -1)), value * (weights.transpose(-2, -1) @ share)


# A rule's arguments: the function that it stands for, which of its arguments are on the path, and its arguments.
Rule = Callable[[Callable[..., Any], list[bool], tuple[Any, ...], dict[str, Any]], Any]


def linear_rule(func: Callable[..., Any], on_path: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply `LinearRule` to a linear layer whose weights are constant."""
    if any(on_path[1:]) or len(args) < 2:
        return func(*args, **kwargs)
    return LinearRule.apply(*args[:2], args[2] if len(args) > 2 else kwargs.get("bias"))


def add_rule(func: Callable[..., Any], on_path: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply `SumRule` to a sum; the share of a constant summand is lost."""
    if kwargs:
        return func(*args, **kwargs)
    tensor = args[on_path.index(True)]
    terms = [torch.as_tensor(term, dtype=tensor.dtype, device=tensor.device) for term in args]
    return SumRule.apply(*torch.broadcast_tensors(*terms))


def pass_rule(func: Callable[..., Any], on_path: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply `PassRule` to an operation on each value, or each token, whose other arguments are constant."""
    if sum(on_path) > 1:
        return func(*args, **kwargs)
    place = on_path.index(True)
    return PassRule.apply(args[place], lambda values: func(*args[:place], values, *args[place + 1 :], **kwargs))


RULES: dict[str, Rule] = {
    "linear": linear_rule,
    "add": add_rule,
    **dict.fromkeys(("relu", "gelu", "silu", "tanh", "layer_norm", "mul"), pass_rule),
}
# Operations that have a rule, as the graph calls them: those replaced, and those that only move, copy or convert
# values, whose derivative is the rule.
KNOWN = {
    *(rule.__name__ for rule in (LinearRule, SumRule, PassRule, WeighRule, MixRule)),
    *("View", "UnsafeView", "ReshapeAlias", "Alias", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Expand"),
    *("Select", "Slice", "Index", "Split", "Unbind", "Cat", "Stack", "Clone", "ToCopy"),
    "AccumulateGrad",  # the first attention itself
}


def check_graph(logits: Tensor) -> None:
    """Raise NotApplicable where an operation behind the first attention has no rule: the graph shows all of them."""
    if unknown := operations_behind(logits) - KNOWN:
        raise NotApplicable(
            f"relevance has no rule for {' and '.join(sorted(unknown))}, which this network has behind its first "
            "attention; use rollout"
        )


def operations_behind(output: Tensor) -> set[str]:
    """The operations, by their names in the graph, that led from the first attention to a tensor."""
    waiting, visited = [output.grad_fn], {output.grad_fn}
    while waiting:
        node = waiting.pop()
        edges = () if node is None else node.next_functions
        inputs = {source for source, _ in edges if source is not None} - visited
        waiting += inputs
        visited |= inputs
    return {re.sub(r"^torch::autograd::|Backward\d*$", "", node.name()) for node in visited if node is not None}
