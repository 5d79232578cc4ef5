"""Explanations from the gradient of a class's score with respect to the attention of a vision transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable

from ..case import Query
from ..maps import upsample
from ..models.classifier import Classifier
from ..models.networks.agreement import agree
from ..models.networks.attention import Attending, ScalingQueries
from ..models.networks.batched_passes import logit
from ..models.networks.features import at_least_single
from ..models.networks.guard import freezing
from ..models.transformers.description import Transformer
from ..registry import explainers
from .attention import blocks_from, check_attention, check_start, class_row, patch_grid
from .ranges import BLOCKS, Ranges

FAMILY = {"family": "attention", "sign": "positive"}


@explainers.register(
    "generic_attention",
    **FAMILY,
    source="Chefer, Gur and Wolf, ICCV 2021",
    needs="a vision transformer with a class token",
)
@dataclass(frozen=True)
class GenericAttention:
    """Rollout of the positive part of (gradient of the logit x attention), averaged over the heads; rows as they are.

    From the first block to the last, R becomes R + A R, where R begins as the identity; the map is the class token's
    row of R. `tibav` has relevance in the place of the attention. One pass forwards and one backwards.
    """

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        portions = zip(query.images.split(classifier.in_flight), query.targets.split(classifier.in_flight), strict=True)
        rows = [self.class_token_row(classifier, *portion) for portion in portions]
        return upsample(class_row(torch.cat(rows), classifier), query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: those of the patches."""
        return patch_grid(classifier, query)

    def class_token_row(self, classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        """How much of each token is in the class token, (B, 1, N)."""
        with freezing(classifier.network), ScalingQueries() as attending:
            logits = classifier(images)
        check_attention(attending.weights, classifier, len(images))
        wanted = logit(logits, targets).sum()
        gradients = torch.autograd.grad(wanted, attending.weights, materialize_grads=True)
        *blocks, last = zip((weights.detach() for weights in attending.weights), gradients, strict=True)
        # The row of a product needs no more than the row: from the last block down, it takes in each block's share.
        row = torch.eye(1, last[0].shape[-1], device=images.device) + evidence(*(tensor[:, :, :1] for tensor in last))
        for weights, gradient in reversed(blocks):
            row = row + row @ evidence(weights, gradient)
        return row


@explainers.register(
    "legrad",
    **FAMILY,
    source="Bousselham et al., arXiv 2404.03214, 2024",
    needs="a vision transformer whose blocks and head are known",
)
@dataclass(frozen=True)
class LeGrad:
    """How much more each block would speak for the class if more attention were paid to a patch, averaged over blocks.

    The class score of a block is what the network's head says of the mean of all the block's tokens. Its gradient with
    respect to the block's own attention is rectified and averaged over heads and queries; it is not multiplied by the
    attention. The authors scale the mean over blocks to [0, 1], which changes no ranking of pixels and is left out. One
    pass forwards, and at most one backwards: through the upper part of each block alone.

    Raises:
        NotApplicable: the head gives other logits from the last block's tokens than the network gives.
    """

    start_layer: int = 0  # blocks before it are left out; the authors use all

    ranges: ClassVar[Ranges] = {"start_layer": BLOCKS}

    def __post_init__(self) -> None:
        check_start(self.start_layer)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        transformer = require_blocks(classifier)
        blocks_from(self.start_layer, transformer.blocks)
        portions = zip(query.images.split(classifier.in_flight), query.targets.split(classifier.in_flight), strict=True)
        keys = torch.cat([self.sensitivity(classifier, transformer, *portion) for portion in portions])
        return upsample(classifier.spatial(keys[:, :, None])[:, 0], query.images)

    def sensitivity(self, classifier: Classifier, transformer: Transformer, images: Tensor, targets: Tensor) -> Tensor:
        """The mean over blocks, heads and queries of the positive gradient at each token, (B, N)."""
        with (
            freezing(classifier.network),
            cutting(classifier.network, transformer) as outputs,
            ScalingQueries() as attending,
        ):
            logits = classifier.network(classifier.normalise(images))
            classifier.count(logits.detach(), 1.0)
            check_blocks(classifier, transformer, outputs, attending, logits)
            scores = [logit(at_least_single(transformer.score(tokens)), targets) for tokens in outputs]
        share = 1 / len(scores)
        total = torch.zeros(())
        for score, weights in blocks_from(self.start_layer, [*zip(scores, attending.weights, strict=True)]):
            classifier.count_backward(score, share)
            (gradient,) = torch.autograd.grad(score.sum(), weights, materialize_grads=True)
            total = total.to(gradient) + gradient.relu().mean((1, 2))
        return total / (len(scores) - self.start_layer)


def evidence(weights: Tensor, gradient: Tensor) -> Tensor:
    """The mean over heads, (B, Q, N), of the positive part of attention times gradient, both (B, heads, Q, N)."""
    return (gradient * weights).relu_().mean(1)


def require_blocks(classifier: Classifier) -> Transformer:
    """The description of the transformer that a classifier is.

    Raises:
        NotApplicable: there is none, or its blocks cannot be scored one by one.
    """
    transformer = classifier.transformer
    if transformer is None:
        raise NotApplicable(
            f"legrad scores the blocks of a vision transformer, and {classifier.arch} is none of a known family; "
            "use gradcam"
        )
    if transformer.obstacle:
        raise NotApplicable(
            f"legrad scores every block with the same head, and in {classifier.arch}, {transformer.family}, "
            f"{transformer.obstacle}; use gradcam"
        )
    return transformer


@contextmanager
def cutting(network: nn.Module, transformer: Transformer) -> Iterator[list[Tensor]]:
    """Listen to the tokens that every block gives, and let no gradient pass from a block to the one before it."""
    outputs: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value.detach() if isinstance(value, Tensor) else value for value in inputs)

    def listen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs.append(output)

    with ExitStack() as hooks:
        for path in transformer.blocks:
            block = network.get_submodule(path)
            hooks.callback(block.register_forward_pre_hook(cut).remove)
            hooks.callback(block.register_forward_hook(listen).remove)
        yield outputs


def check_blocks(
    classifier: Classifier, transformer: Transformer, outputs: list[Tensor], attending: Attending, logits: Tensor
) -> None:
    """Raise NotApplicable unless every block ran once with one attention, and the last one's tokens give the logits."""
    count = len(transformer.blocks)
    if [len(outputs), len(attending.weights)] != [count, count]:
        raise NotApplicable(
            f"legrad needs one attention that torch computes in every block, and {classifier.arch} has "
            f"{len(attending.weights)} in {len(outputs)} runs of its {count} blocks; use gradcam"
        )
    if transformer.classify is None or not agree(transformer.classify(outputs[-1]), logits, classifier.dtype):
        raise NotApplicable(
            f"legrad: {classifier.arch} does more with the last block's tokens than {transformer.family}; use gradcam"
        )
