"""What the class token of a vision transformer attends to, through one block or through all of them.

Each method reads a matrix (N, N) of how much of each token is in each, and shows the class token's row. The attention
of a flowervit, or of any vision transformer that calls torch's own attention, is recorded while it runs.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.names import check_known

from ..case import Query
from ..maps import upsample
from ..models.classifier import Classifier
from ..models.networks.attention import Attending
from ..models.networks.batched_passes import logit
from ..models.transformers.description import Transformer, follow_obstacle
from ..registry import explainers
from . import patents
from .attribution.attention_flow import flows
from .attribution.transformer_relevance import RelevanceAttending, relevance_of_attention
from .ranges import BLOCKS, SWITCH, Between, Choices, Ranges

T = TypeVar("T")
FAMILY = {"family": "attention", "needs": "a vision transformer with a class token", "sign": "positive"}
FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {  # (B, heads, N, N) -> (B, N, N)
    "mean": lambda attention: attention.mean(1),
    "max": lambda attention: attention.amax(1),
    "min": lambda attention: attention.amin(1),
}


@dataclass(frozen=True)
class AttentionMap(ABC):
    """The class token's row of what a method makes of the attention in all blocks; the target makes no difference."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        joint = self.joint(attention_of(classifier, query.images))
        return upsample(class_row(joint, classifier), query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: those of the patches."""
        return patch_grid(classifier, query)

    @abstractmethod
    def joint(self, attention: list[Tensor]) -> Tensor:
        """How much of each token is in each, (B, N, N), from the attention (B, heads, N, N) of every block in order."""


@explainers.register("raw_attention", **FAMILY, source="Dosovitskiy et al., ICLR 2021", class_sensitive=False)
@dataclass(frozen=True)
class RawAttention(AttentionMap):
    """The attention in one block. Another target gives the same map."""

    block: int = -1  # from 0; negative numbers count from the last
    fusion: str = "mean"  # of the heads

    ranges: ClassVar[Ranges] = {"block": BLOCKS, "fusion": Choices(tuple(FUSIONS))}

    def __post_init__(self) -> None:
        check_fusion(self.fusion)

    def joint(self, attention: list[Tensor]) -> Tensor:
        """The attention (B, N, N) in the chosen block, its heads fused.

        Raises:
            WrongUsage: there is no such block.
        """
        if not -len(attention) <= self.block < len(attention):
            raise WrongUsage(f"block is {self.block}; expected {-len(attention)} to {len(attention) - 1}, the blocks")
        return FUSIONS[self.fusion](attention[self.block])


@explainers.register("rollout", **FAMILY, source="Abnar and Zuidema, ACL 2020", class_sensitive=False)
@dataclass(frozen=True)
class Rollout(AttentionMap):
    """The product of (attention + identity) over all blocks, rows made to sum to 1. Another target: the same map."""

    start_layer: int = 0  # blocks before it are left out
    fusion: str = "mean"  # of the heads
    discard: float = 0.0  # the share of each block's smallest attention that counts as none; not in the paper

    ranges: ClassVar[Ranges] = {"start_layer": BLOCKS, "fusion": Choices(tuple(FUSIONS)), "discard": Between(0.0, 0.9)}

    def __post_init__(self) -> None:
        check_fusion(self.fusion)
        check_start(self.start_layer)
        if not 0 <= self.discard < 1:
            raise WrongUsage(f"discard is {self.discard:g}; expected a share of at least 0 and less than 1")

    def joint(self, attention: list[Tensor]) -> Tensor:
        """The product (B, N, N) of all blocks, each with its residual."""
        fused = [drop_smallest(FUSIONS[self.fusion](block), self.discard) for block in attention]
        return multiply_blocks([normalise_rows(add_residual(block)) for block in blocks_from(self.start_layer, fused)])


@explainers.register("attention_flow", **FAMILY, source="Abnar and Zuidema, ACL 2020", class_sensitive=False)
@dataclass(frozen=True)
class AttentionFlow(AttentionMap):
    """How much can flow from the class token to each patch, with half of (attention + identity) as capacities.

    No more than 1 can leave the class token, and with several blocks of broad attention many patches reach their limit,
    so that maps become flat. Another target gives the same map. Runs on the CPU, about a second an image for 197
    tokens and 4 blocks; `an8flower.evaluate.explainers.attribution.attention_flow.flows` says how exact it is.
    """

    normalise: bool = True  # divide by the sum over all tokens

    ranges: ClassVar[Ranges] = {"normalise": SWITCH}

    def joint(self, attention: list[Tensor]) -> Tensor:
        """The flow from the class token, as the only row."""
        blocks = torch.stack([add_residual(block.mean(1)) / 2 for block in attention], 1)
        amounts = np.stack([flows(list(image)) for image in blocks.cpu().double().numpy()])
        row = torch.from_numpy(amounts).to(blocks)[:, None]
        return normalise_rows(row) if self.normalise else row


@explainers.register("tibav", **FAMILY, source="Chefer, Gur and Wolf, CVPR 2021", note=patents.LRP)
@dataclass(frozen=True)
class Tibav:
    """Rollout of the positive part of (gradient of the logit x relevance of its one-hot), averaged over the heads.

    Blocks are multiplied later on the left, and rows sum to 1, as in the authors' code; the paper does not normalise.
    Costs two passes forwards and two backwards: one pair for gradients, one for relevance, whose way back multiplies
    every weight matrix four times instead of once. They run in double precision.

    Raises:
        NotApplicable: an operation behind the first attention has no rule of relevance.
    """

    start_layer: int = 1  # blocks before it are left out; 1 in the authors' evaluation
    normalise: bool = True  # rows sum to 1

    ranges: ClassVar[Ranges] = {"start_layer": BLOCKS, "normalise": SWITCH}

    def __post_init__(self) -> None:
        check_start(self.start_layer)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        network = copy_in_double_precision(classifier)
        gradients, logits = attention_gradients(network, classifier, query)
        relevance = attention_relevance(network, classifier, query, logits)
        evidence = [(g * r).relu().mean(1) for g, r in zip(gradients, relevance, strict=True)]
        blocks = [add_residual(block) for block in blocks_from(self.start_layer, evidence)]
        joint = multiply_blocks([normalise_rows(block) for block in blocks] if self.normalise else blocks)
        return upsample(class_row(joint, classifier).float(), query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: those of the patches."""
        return patch_grid(classifier, query)


def copy_in_double_precision(classifier: Classifier) -> nn.Module:
    """Copy the network of a classifier in double precision, frozen."""
    return copy.deepcopy(classifier.network).double().requires_grad_(False)


def attention_gradients(network: nn.Module, classifier: Classifier, query: Query) -> tuple[tuple[Tensor, ...], Tensor]:
    """The gradient (B, heads, N, N) of the target's logit with respect to every block's attention; and the logits."""
    with Attending() as attending:
        logits = classifier.count(network(classifier.normalise(query.images).double()), 1.0)
    check_attention(attending.weights, classifier, len(query.images))
    wanted = logit(logits, query.targets).sum()
    return torch.autograd.grad(wanted, attending.weights, materialize_grads=True), logits.detach()


def attention_relevance(network: nn.Module, classifier: Classifier, query: Query, logits: Tensor) -> tuple[Tensor, ...]:
    """The relevance (B, heads, N, N) of every block's attention for the target.

    Raises:
        NotApplicable: an operation has no rule, or the logits are not the expected ones once operations are replaced.
    """
    with RelevanceAttending() as attending:
        again = classifier.count(network(classifier.normalise(query.images).double()), 1.0)
    if not torch.allclose(again, logits, rtol=1e-6, atol=1e-6 * float(logits.abs().max())):
        raise NotApplicable(
            f"{classifier.arch} gives other logits once its operations are replaced one by one, as where one works in "
            "place; use rollout"
        )
    return relevance_of_attention(again, query.targets, attending.weights)


def drop_smallest(attention: Tensor, share: float) -> Tensor:
    """Set a share of each image's smallest attention (B, N, N) to zero; never the class token's to itself."""
    flat = attention.flatten(1)
    limit = flat.kthvalue(1 + int(share * flat.shape[1]), dim=1, keepdim=True).values
    largest = flat.where(flat >= limit, 0)
    return torch.cat([flat[:, :1], largest[:, 1:]], 1).view_as(attention)


def blocks_from(start: int, blocks: Sequence[T]) -> Sequence[T]:
    """The blocks from number `start` on; raises WrongUsage where none is left."""
    if start >= len(blocks):
        raise WrongUsage(f"start_layer is {start}, and the network has {len(blocks)} blocks; expected a smaller number")
    return blocks[start:]


def check_fusion(name: str) -> None:
    """Raise WrongUsage with the nearest name where there is no such fusion."""
    check_known("fusion", name, FUSIONS)


def check_start(start: int) -> None:
    """Raise WrongUsage where a number of a block is negative."""
    if start < 0:
        raise WrongUsage(f"start_layer is {start}; expected the number of a block, at least 0")


def attention_of(classifier: Classifier, images: Tensor) -> list[Tensor]:
    """The attention (B, heads, N, N) of every block, the first one first, without gradients; one pass forwards.

    Raises:
        NotApplicable: there is none, or not between a class token and a square grid of patches.
    """
    with torch.no_grad(), Attending() as attending:
        classifier(images)
    check_attention(attending.weights, classifier, len(images))
    return attending.weights


def check_attention(weights: list[Tensor], classifier: Classifier, images: int) -> None:
    """Raise NotApplicable unless the same tokens, the class token first, attend to each other in every block."""
    transformer = classifier.transformer
    if transformer is not None:
        check_description(transformer, classifier)
    if not weights:
        raise NotApplicable(
            f"this method needs attention, and {classifier.arch} has none; use gradcam"
            if transformer is None
            else f"this method needs attention that torch computes, and this {classifier.arch} computes its own; "
            "switch the fused attention of its blocks on"
        )
    shapes = {(len(block), block.shape[-1]) for block in weights}
    batch, tokens = next(iter(shapes))
    if len(shapes) > 1 or batch != images or math.prod(classifier.grid_of(tokens)) == tokens:
        raise NotApplicable(
            f"this method needs a class token that attends to the same patches in every block, and {classifier.arch} "
            f"has (batch, tokens) {sorted(shapes)} for {images} images; use gradcam"
        )


def patch_grid(classifier: Classifier, query: Query) -> tuple[int, int]:
    """The rows and columns of a transformer's patches, from the attention to the first picture of a query."""
    attention = attention_of(classifier, query.images[:1])[0]
    height, width = class_row(attention.mean(1), classifier).shape[1:]
    return height, width


def check_description(transformer: Transformer, classifier: Classifier) -> None:
    """Raise NotApplicable where attention cannot be followed from a class token to the patches."""
    if obstacle := follow_obstacle(transformer):
        raise NotApplicable(
            f"this method follows what a class token attends to through all blocks, and in {classifier.arch}, "
            f"{transformer.family}, {obstacle}; use gradcam"
        )


def class_row(joint: Tensor, classifier: Classifier) -> Tensor:
    """The map (B, h, w) of how much of each patch is in the class token, from all pairs of tokens (B, N, N)."""
    return classifier.spatial(joint[:, 0, :, None])[:, 0]


def multiply_blocks(blocks: list[Tensor]) -> Tensor:
    """Multiply the matrices (B, N, N) of all blocks, the later one on the left; rows are the tokens that attend."""
    joint = blocks[0]
    for block in blocks[1:]:
        joint = block @ joint
    return joint


def add_residual(attention: Tensor) -> Tensor:
    """Add the identity to attention (B, N, N): the residual hands on each token itself, as much again."""
    return attention + torch.eye(attention.shape[-1], device=attention.device, dtype=attention.dtype)


def normalise_rows(matrices: Tensor) -> Tensor:
    """Divide each row of the matrices by its sum."""
    return matrices / matrices.sum(-1, keepdim=True)
