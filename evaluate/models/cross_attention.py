"""Cross-attention pooling: a stream of queries beside a network replaces the mean over its last features.

Source: Torres, Zhang, Sicre, Ayache and Avrithis, XAI4CV at CVPR 2024 (CA-Stream).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

POOLINGS = ("ca-final", "ca-stream")  # behind the last stage alone, or behind each
BACKBONE = "backbone"  # the attribute, and the first word of the paths of the modules in it


class BackboneStages(NamedTuple):
    """How a backbone is run stage by stage: the paths of its modules in the order in which they are called."""

    parts: tuple[tuple[str, ...], ...]  # of each stage; what the last one gives is pooled
    head: str  # from what was pooled to the logits
    flat: bool = True  # whether the head takes (B, d); otherwise (B, d, 1, 1)


class CrossAttention(nn.Module):
    """One query attends to the features of a stage: no projections of keys and values, no residual, one head."""

    def __init__(self, width: int, following: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, following)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: Xavier's uniform distribution, and torch's own for the bias."""
        self.projection.reset_parameters()
        nn.init.xavier_uniform_(self.projection.weight)

    def forward(self, features: Tensor, query: Tensor) -> Tensor:
        """Features (B, d, h, w) and a query (B, d) -> the query of the next stage, (B, d')."""
        tokens = features.flatten(2)
        weights = attend(tokens, query, self.projection.in_features)
        return self.projection((tokens * weights[:, None]).sum(2))


def attend(tokens: Tensor, query: Tensor, width: int) -> Tensor:
    """The attention (B, p) of queries (B, d) over tokens (B, d, p): softmax(F q / sqrt(d)), which sums to 1."""
    dots = (tokens * query[:, :, None]).sum(1) * width**-0.5
    return dots.softmax(1)


class FirstQuery(nn.Module):
    """The query of the first stage, which is learnt; its values start from a normal distribution N(1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the values anew."""
        nn.init.normal_(self.values, 1.0, 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """The query (B, d) for features (B, d, h, w)."""
        return self.values.repeat(features.shape[0], 1)  # no view, whose flops torch cannot count


class CrossAttentionPooled(nn.Module):
    """A backbone whose features are pooled by a stream of cross-attention, and classified by the backbone's own head.

    Attributes:
        backbone: the network as it is without the stream, its head included.
        first: the query of the first stage that has one.
        stream: the cross-attention behind each stage that has one, the last stage always.
    """

    def __init__(self, backbone: nn.Module, stages: BackboneStages, widths: Sequence[int]) -> None:
        """Take a backbone.

        Args:
            widths: the channels of the last stages' outputs, one for each that has cross-attention.
        """
        super().__init__()
        self.backbone = backbone
        self.stages = stages
        self.first = FirstQuery(widths[0])
        following = [*widths[1:], widths[-1]]
        self.stream = nn.ModuleList(CrossAttention(*pair) for pair in zip(widths, following, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, classes) logits."""
        features, plain = images, len(self.stages.parts) - len(self.stream)
        query = None
        for i, paths in enumerate(self.stages.parts):
            for path in paths:
                features = self.backbone.get_submodule(path)(features)
            if i >= plain:
                query = self.stream[i - plain](features, self.first(features) if query is None else query)
        assert query is not None, "the last stage has cross-attention"
        pooled = query if self.stages.flat else query[:, :, None, None]
        logits: Tensor = self.backbone.get_submodule(self.stages.head)(pooled)
        return logits
