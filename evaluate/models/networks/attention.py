"""The attention of a vision transformer's tokens: recorded while it runs, whatever kernel would compute it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from an8flower.errors import NotApplicable

from .features import at_least_single

MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class Attending(TorchFunctionMode):
    """Inside this block attention is computed step by step, and the weights of every block are kept.

    Both `F.scaled_dot_product_attention` and `nn.MultiheadAttention` are seen, in eval mode too; the network itself is
    not touched. Weights are those that mix the values, behind the softmax: (B, heads, N, N), at least single precision,
    row = query. Where gradients are enabled they are part of the graph, also in a frozen network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []  # the first block first

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.multi_head_attention_forward:
            call = MULTI_HEAD.bind(*args, **(kwargs or {}))
            call.apply_defaults()
            with self:  # a mode is off while it answers, and the steps of this one must be seen
                return self.multi_head(SimpleNamespace(**call.arguments))
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **(kwargs or {}))
        return self.other(func, args, kwargs or {})

    def multi_head(self, call: SimpleNamespace) -> tuple[Tensor, Tensor | None]:
        """Do what `F.multi_head_attention_forward` does, in steps: tokens are (N, B, E).

        Raises:
            NotApplicable: it was asked for more than projections, heads and a mask.
        """
        refuse_extras(call)
        query, key, value = (split_heads(tokens, call.num_heads) for tokens in project(call))
        # Whether the mask is a causal one is a hint that nothing here needs.
        mixed = F.scaled_dot_product_attention(query, key, value, mask_per_head(call.attn_mask, call.num_heads))
        output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), call.out_proj_weight, call.out_proj_bias)
        if not call.need_weights:
            return output, None
        weights = self.weights[-1].to(output.dtype)
        return output, weights.mean(1) if call.average_attn_weights else weights

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Do what `F.scaled_dot_product_attention` does, in two steps, and keep the weights in between.

        Raises:
            NotApplicable: attention between other things than heads of tokens, or with dropout.
        """
        if query.ndim != 4 or query.shape != key.shape or enable_gqa or dropout_p:
            raise NotApplicable(
                f"attention of {tuple(query.shape)} to {tuple(key.shape)} with dropout {dropout_p:g} cannot be read; "
                "have all tokens attend to each other, as (batch, heads, tokens, channels) and without dropout"
            )
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        weights = self.weigh(query, key, scale, additive_mask(attn_mask, is_causal, query))
        self.keep(weights)
        return self.mix(weights, value).to(value.dtype)

    def keep(self, weights: Tensor) -> None:
        """Keep the attention of a block, as part of the graph where gradients are enabled."""
        if torch.is_grad_enabled() and not weights.requires_grad:
            weights.requires_grad_()
        self.weights.append(weights)

    def weigh(self, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        """The attention (B, heads, N, N) that every query pays to every key."""
        return attention_weights(query, key, scale, mask)

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        """The values of the tokens, mixed by the weights of the attention."""
        return weights @ value.to(weights.dtype)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation that is no attention, as torch would."""
        return func(*args, **kwargs)


class ScalingQueries(Attending):
    """The same, but for rounding, in less time: it is the queries that are scaled, and not the scores of all pairs."""

    def weigh(self, query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        """The attention (B, heads, N, N) that every query pays to every key."""
        return attention_weights(at_least_single(query) * scale, key, 1.0, mask)


def attention_weights(query: Tensor, key: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Attention weights softmax(scale Q K^T + mask), in at least single precision."""
    scores = at_least_single(query) @ at_least_single(key).transpose(-2, -1)
    scores = scores if scale == 1 else scores * scale
    return (scores if mask is None else scores + mask).softmax(-1)


def additive_mask(mask: Tensor | None, causal: bool, query: Tensor) -> Tensor | None:
    """An attention mask to be added to the scores; a mask of truth values says which tokens may be attended to."""
    if causal:
        mask = torch.ones(query.shape[-2], query.shape[-2], dtype=torch.bool, device=query.device).tril()
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf)


def refuse_extras(call: SimpleNamespace) -> None:
    """Raise NotApplicable for options of multi-head attention that add tokens or hide some."""
    extras = ("bias_k", "bias_v", "static_k", "static_v", "key_padding_mask", "add_zero_attn")
    present = [name for name in extras if getattr(call, name) is not None and getattr(call, name) is not False]
    if present or call.query.ndim != 3:
        what = " and ".join(present) or f"tokens of {call.query.ndim} dimensions"
        raise NotApplicable(f"multi-head attention with {what} cannot be read; use a network without, or gradcam")


def project(call: SimpleNamespace) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (N, B, E), from the tokens that come into multi-head attention."""
    tokens = (call.query, call.key, call.value)
    if call.use_separate_proj_weight:
        weights = (call.q_proj_weight, call.k_proj_weight, call.v_proj_weight)
    elif call.query is call.key is call.value:
        return F.linear(call.query, call.in_proj_weight, call.in_proj_bias).chunk(3, -1)
    else:
        weights = call.in_proj_weight.chunk(3)
    biases = (None, None, None) if call.in_proj_bias is None else call.in_proj_bias.chunk(3)
    return tuple(F.linear(*arguments) for arguments in zip(tokens, weights, biases, strict=True))


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Share the channels of tokens among heads: (N, B, E) -> (B, heads, N, E / heads)."""
    return tokens.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def mask_per_head(mask: Tensor | None, heads: int) -> Tensor | None:
    """An attention mask (N, N) or (B * heads, N, N) in a shape that fits weights (B, heads, N, N)."""
    return mask.unflatten(0, (-1, heads)) if mask is not None and mask.ndim == 3 and len(mask) > 1 else mask
