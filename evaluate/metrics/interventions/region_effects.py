"""The effect map derived a second time, without a gradient: regions of the scene are put into its twin, one by one.

A region is a connected piece of what changes between the two pictures, cut by a grid. Its effect is its Shapley value:
how much the gap rises when the region comes in, averaged over orders in which all regions do. An order and its reverse
go together, which takes out what is odd. The values of a row sum to its gap exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from an8flower.interventions import as_class

from ...case import Case
from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from ...seeds import generator, seed_of
from ..masking import require_classifier
from .effect_map import at_least_single_copy, gap, twins_of

CELLS = 7  # of the grid, along a side
ORDERS = 8  # of the regions, each with its reverse

Value = Callable[[Tensor], Tensor]
"""Sets of regions (n, R) bool -> what they are worth, (n,)."""


def cut_regions(changed: np.ndarray, cells: int = CELLS) -> np.ndarray:
    """Number the regions of changed pixels (H, W) bool: (H, W) int64 from 0, -1 where nothing changes."""
    height, width = changed.shape
    from scipy.ndimage import label as label_pieces  # here, as it takes a while to load

    pieces, _ = label_pieces(changed, np.ones((3, 3)))
    grid = np.add.outer(np.arange(height) * cells // height * cells, np.arange(width) * cells // width)
    regions = np.full(changed.shape, -1)
    regions[changed] = np.unique((pieces * cells**2 + grid)[changed], return_inverse=True)[1].ravel()
    return regions


def shapley_values(value: Value, count: int, seed: int, orders: int = ORDERS) -> Tensor:
    """The mean rise of a value when each of `count` regions comes in, over orders and their reverses: (R,) float64."""
    total = torch.zeros(count, dtype=torch.float64)
    source = generator(seed)
    for _ in range(orders):
        forth = torch.randperm(count, generator=source)
        for order in (forth, forth.flip(0)):
            sets = torch.zeros(count + 1, count, dtype=torch.bool)
            sets[:, order] = torch.ones(count + 1, count, dtype=torch.bool).tril(-1)
            total[order] += value(sets).double().diff()
    return total / (2 * orders)


@torch.no_grad()
def measure_region_effects(case: Case, cells: int = CELLS, orders: int = ORDERS) -> tuple[Tensor, Tensor]:
    """Regions of each row, (B, H, W) int64 with -1 outside, and the Shapley value a pixel of each, (B, H, W) float32.

    The value of a set is the mean over the twins of the gap, where the set shows the scene and all else the twin.
    """
    assert case.world is not None, "where nothing can be rendered, metrics that need it are left out"
    world, truth, query = case.world, case.truth, case.query
    classifier = require_classifier(case.classifier)
    network, table = at_least_single_copy(classifier), world.factors(truth.rows)
    others = twins_of(world, truth.rows, truth.labels)
    regions, values = [], []
    with network.holding(classifier.in_flight), evaluating(network):
        for row in range(len(table)):
            copies = np.repeat(table[row : row + 1], others.shape[1])
            twins = world.photograph(as_class(world.spec, copies, others[row].cpu().numpy())).images
            pairs = torch.stack([query.targets[row].expand_as(others[row]), others[row]], 1)
            hybrids = Hybrids(network, query.images[row], twins, pairs, cells)
            regions.append(hybrids.regions)
            values.append(hybrids.effects(seed_of("regions", int(truth.rows[row])), orders))
    device = query.images.device
    return torch.stack(regions).to(device), torch.stack(values).float().to(device)


class Hybrids:
    """A scene and its twins, and what the model says of pictures that show some regions of the scene, else a twin."""

    def __init__(self, network: Classifier, scene: Tensor, twins: Tensor, pairs: Tensor, cells: int) -> None:
        self.network, self.scene, self.twins, self.pairs = network, scene, twins, pairs
        changed = (twins != scene).any(0).any(0)
        self.regions = torch.from_numpy(cut_regions(changed.cpu().numpy(), cells))
        self.sizes = self.regions[self.regions >= 0].bincount()

    def value(self, sets: Tensor) -> Tensor:
        """The mean over the twins of the gap, with the regions of sets (n, R) bool from the scene: (n,)."""
        shown = (sets[:, self.regions] & (self.regions >= 0)).to(self.scene.device)
        return (
            torch.stack([self._gaps(*twin, shown) for twin in zip(self.twins, self.pairs, strict=True)]).mean(0).cpu()
        )

    def _gaps(self, twin: Tensor, pair: Tensor, shown: Tensor) -> Tensor:
        portions = shown[:, None].split(self.network.in_flight)
        logits = torch.cat([self.network(torch.where(portion, self.scene, twin)) for portion in portions])
        return gap(logits, pair.expand(len(logits), 2))

    def effects(self, seed: int, orders: int) -> Tensor:
        """The Shapley value a pixel of each region, at its pixels, (H, W) float64; 0 outside all."""
        shares = shapley_values(self.value, len(self.sizes), seed, orders) / self.sizes
        return torch.cat([shares, shares.new_zeros(1)])[self.regions]  # -1 is the last


def average_over_regions(maps: Tensor, regions: Tensor) -> Tensor:
    """The mean of maps (B, H, W) over each region of (B, H, W) int64, at its pixels; 0 outside all: float32."""
    flat, numbers = maps.flatten(1).double(), regions.flatten(1) + 1
    room = int(numbers.max()) + 1
    sums = torch.zeros(len(maps), room, dtype=torch.float64, device=maps.device).scatter_add_(1, numbers, flat)
    sizes = torch.zeros_like(sums).scatter_add_(1, numbers, torch.ones_like(flat))
    means = (sums / sizes.clamp(min=1)).gather(1, numbers)
    return means.where(numbers > 0, 0).view_as(maps).float()


def agreement(maps: Tensor, regions: Tensor, values: Tensor, masks: Tensor) -> Tensor:
    """Rank correlation, over the pixels of the mask that change, of an effect map averaged over regions and `values`.

    All are (B, H, W), the agreement is (B,) float32; NaN where either does not vary, or the map is undefined.
    """
    means = average_over_regions(maps, regions)
    inside = (masks > 0) & (regions >= 0)
    return torch.stack(
        [
            torch.tensor(rank_correlation(*(side[where].double().cpu().numpy() for side in pair)))
            for pair, where in zip(zip(means, values, strict=True), inside, strict=True)
        ]
    ).float()


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two samples (n,), ties at their mean rank; NaN if either does not vary or is NaN."""
    if len(first) < 2 or np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    from scipy.stats import rankdata  # here, as it takes a while to load

    ranks = [rankdata(sample) - (len(sample) + 1) / 2 for sample in (first, second)]
    scale = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float(np.clip(ranks[0] @ ranks[1] / scale, -1, 1)) if scale > 0 else float("nan")
