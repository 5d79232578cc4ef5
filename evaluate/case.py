"""The tensors that travel between classifier, explainer and judge; their shapes are stated here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .data.world import World
    from .models.classifier import Classifier
    from .models.fine_tuning import RandomRemoval


class Query(NamedTuple):
    """The images, targets and seeds that an explainer may see, and nothing else."""

    images: Tensor  # (B, 3, H, W) float32 in [0, 1]
    targets: Tensor  # (B,) int64: the class whose evidence is asked for
    seeds: Tensor  # (B,) int64: one per row, for stochastic explainers


class Truth(NamedTuple):
    """The true labels, masks and parts that only a judge may see."""

    rows: Tensor  # (B,) int64: index within the split
    labels: Tensor  # (B,) int64
    masks: Tensor  # (B, H, W) uint8: 0 none, 1 evidence by presence, 2 by absence, 3 by gap
    parts: Tensor | None  # (B, H, W) uint8: id of the part visible at the pixel's centre
    void: Tensor | None = None  # (B, H, W) bool: pixels that show evidence and something else, which nobody counts

    @property
    def counted(self) -> Tensor:
        """The masks (B, H, W) int8 with -1 in the pixels that are void."""
        return self.masks if self.void is None else self.masks.to(torch.int8).masked_fill(self.void, -1)


class Case(NamedTuple):
    """A batch to be judged: the model, what the explainer saw, the truth, and the functions that a judge may call."""

    classifier: Classifier | None  # None where nothing but the maps is judged
    query: Query
    truth: Truth
    explain: Callable[[Query], Tensor] | None = None  # whoever made the maps, asked again: maps (B, H, W) float32
    world: World | None = None  # renders the rows again; None where the data set has no spec
    # By how relevance is read, the share of a map above which a part counts as important; see part_threshold.
    thresholds: Mapping[str, float] | None = None
    # The classifier fine-tuned on training rows of which something is taken away; None where there are no such rows.
    tune: Callable[[RandomRemoval], Classifier] | None = None


class Explainer(Protocol):
    """A frozen dataclass of its parameters: its repr is its identity, its cache key and its line in the report."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Saliency maps (B, H, W), float32, on the images' device; larger = more evidence for the target."""
        ...
