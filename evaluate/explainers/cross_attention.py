"""What the query of a stage attends to in a network that is pooled by cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage

from ..case import Query
from ..maps import upsample
from ..models.classifier import Classifier
from ..models.cross_attention import CrossAttention, CrossAttentionPooled, attend
from ..registry import explainers
from .ranges import Numbered, Ranges


def _list_stages(network: CrossAttentionPooled) -> list[CrossAttention]:
    """The stages of a network that are pooled by cross-attention."""
    return [block for block in network.stream if isinstance(block, CrossAttention)]


def count_stages(classifier: Classifier) -> int:
    """How many stages of a network are pooled by cross-attention."""
    network = classifier.network
    return len(_list_stages(network)) if isinstance(network, CrossAttentionPooled) else 0


@explainers.register(
    "ca_attention",
    family="attention",
    needs="a network that is pooled by cross-attention",
    sign="positive",
    source="Torres et al., XAI4CV at CVPR 2024",
    class_sensitive=False,
)
@dataclass(frozen=True)
class CrossAttentionMap:
    """The softmax attention of one stage's query over the positions of its features. Another target: the same map.

    The published code shows the products of query and features before the softmax; the softmax is what pools.

    Raises:
        NotApplicable: the network has no cross-attention pooling.
        WrongUsage: there is no such stage.
    """

    checked_on: ClassVar = ("cross-attention",)  # the network of the contract that has what this method needs

    stage: int = -1  # from 0, of those with cross-attention; negative numbers count from the last

    ranges: ClassVar[Ranges] = {"stage": Numbered("stages with cross-attention", count_stages)}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return upsample(self._attention(classifier, query.images), query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: those of the stage's features."""
        height, width = self._attention(classifier, query.images[:1]).shape[-2:]
        return height, width

    @torch.no_grad()
    def _attention(self, classifier: Classifier, images: Tensor) -> Tensor:
        """The attention at the stage, (B, h, w), which sums to 1."""
        block, inputs = self._block(classifier), list[tuple[Tensor, Tensor]]()
        hook = block.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments))
        try:
            classifier(images)
        finally:
            hook.remove()
        ((features, query),) = inputs
        weights = attend(features.flatten(2), query, block.projection.in_features)
        return weights.float().unflatten(1, features.shape[-2:])

    def _block(self, classifier: Classifier) -> CrossAttention:
        """The cross-attention of the stage."""
        network = classifier.network
        if not isinstance(network, CrossAttentionPooled):
            raise NotApplicable(
                f"ca_attention needs cross-attention pooling, and {classifier.arch} has none; "
                "train one with --pool ca-stream, or use gradcam"
            )
        blocks = _list_stages(network)
        if not -len(blocks) <= self.stage < len(blocks):
            raise WrongUsage(f"stage is {self.stage}; expected {-len(blocks)} to {len(blocks) - 1}, the stages")
        return blocks[self.stage]
