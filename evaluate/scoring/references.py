"""What every score is read against: who knows the truth, who knows nothing, and a method's maps of other rows."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.evidence import shared_evidence
from an8flower.factors import PARTS

from ..case import Case, Explainer, Query, Truth
from ..maps import upsample
from ..models.classifier import Classifier
from ..registry import is_ours
from ..seeds import generator, seed_of


def evidence(truth: Truth) -> Tensor:
    """The truth as maps (B, H, W) float32: 1 where the evidence for the label is, 0 elsewhere."""
    return (truth.masks > 0).float()


def evidence_for(case: Case, query: Query) -> Tensor:
    """Where rows show evidence for the classes that are asked for, maps (B, H, W) float32 of 0 and 1.

    For the label that is the mask. For another class it is the parts that are evidence for that class and look in the
    row's own class as they do in that one: a red flower shows nothing for blue, but a red flower with a brown stem
    shows its stem for blue with a brown stem. Without a spec nothing is known of other classes, and nothing is shown.
    """
    truth, maps = case.truth, evidence(case.truth)
    others = query.targets != truth.labels
    maps[others] = 0
    if case.world is not None and truth.parts is not None:
        for row in others.nonzero()[:, 0].tolist():
            shared = shared_evidence(case.world.spec, int(truth.labels[row]), int(query.targets[row]))
            ids = torch.tensor([PARTS.index(part) for part in shared], device=truth.parts.device)
            maps[row] = torch.isin(truth.parts[row], ids).float()
    return maps


def noise(truth: Truth, repeat: int) -> Tensor:
    """Independent uniform noise (B, H, W) float32 on the truth's device, fixed by the rows; each `repeat` another."""
    return draw_noise(truth, [seed_of("chance", repeat, row) for row in truth.rows.tolist()])


def noise_for(truth: Truth, repeat: int, query: Query) -> Tensor:
    """The maps (B, H, W) of chance when it is asked again: other noise for another image or class."""
    queries = zip(
        truth.rows.tolist(), query.targets.tolist(), query.images.double().flatten(1).mean(1).tolist(), strict=True
    )
    return draw_noise(truth, [seed_of("chance again", repeat, row, target, str(mean)) for row, target, mean in queries])


def other_rows(rows: Tensor, seed: int) -> Tensor:
    """For each place of a batch the place of another row, (B,) int64 on the CPU; its own if there is no other.

    Every row stands in for one other row. Who stands in for whom is fixed by the rows (B,) and a seed: they are
    shuffled into a circle, and each is given its neighbour.
    """
    circle = torch.randperm(len(rows), generator=generator(seed_of("other rows", seed, *rows.tolist())))
    places = torch.empty_like(circle)
    places[circle] = circle.roll(1)
    return places


@runtime_checkable
class Gridded(Protocol):
    """An explainer whose maps are made on a grid that is coarser than the picture, and then scaled up."""

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the grid for a classifier and pictures."""
        ...


def has_grid(explainer: Explainer) -> bool:
    """Whether an explainer of ours declares the grid of its maps; strangers' are known by their names alone here."""
    return is_ours(explainer) and isinstance(explainer, Gridded)


def evidence_at_grid(truth: Truth, grid: tuple[int, int]) -> Tensor:
    """The truth as a method with such a grid could show it, maps (B, H, W) float32 in [0, 1].

    Each cell has the share of it that the mask covers; between the cells' centres it is bilinear, as such maps are.
    """
    masks = evidence(truth)
    return upsample(F.adaptive_avg_pool2d(masks[:, None], grid)[:, 0], masks[:, None])


def draw_noise(truth: Truth, seeds: list[int]) -> Tensor:
    """Draw a map of uniform noise for each seed: (B, H, W) float32 on the truth's device."""
    maps = [torch.rand(truth.masks.shape[1:], generator=generator(seed)) for seed in seeds]
    return torch.stack(maps).to(truth.masks.device)
