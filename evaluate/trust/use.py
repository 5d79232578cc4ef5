"""How much of the evidence a classifier uses: measured between each row and its twin, the scene as another class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..metrics.interventions.effect_map import BlendPath, gap, integrate
from ..models.networks.batched_passes import Network
from .questions import CertifiedRows
from .twins import Twins, portions_of_twins

STEPS = 16  # of the path from the twin to the row
HELD = 0.9  # the share of the effect that the smallest set of pixels has to hold
DETAILED = 100  # rows, spread evenly, of which more is asked than the three mixtures: it costs as much as all else
OPEN = 0.1  # beyond this error, in units of the whole effect, a row's effects are not read


class Use(NamedTuple):
    """What rows and their twins tell, a value (n,) float64 for each row; NaN where there is none."""

    evidence_alone: np.ndarray  # 1 if the prediction follows when only the evidence's pixels are the twin's, else 0
    rim_alone: np.ndarray  # likewise, when only the void pixels are the twin's
    rest_alone: np.ndarray  # likewise, when only the pixels that are neither are the twin's
    area: np.ndarray  # share of the evidence's pixels that hold HELD of the effect within the evidence
    inside: np.ndarray  # share of the effect, without its sign, that lies on the evidence
    error: np.ndarray  # how far the effects miss the difference that they should sum to, in units of this difference
    pieces: np.ndarray  # ellipsoids of the evidence to swap, largest effect first, until the prediction follows
    piece_share: np.ndarray  # the same as a share of all pieces that are seen


class PixelEffects(NamedTuple):
    """What each pixel does to the lead of the row's class over the twin's, in rows (n,)."""

    effects: Tensor  # (n, S, S): they sum to the row's lead less the twin's, but for the error
    error: Tensor  # (n,) in units of the difference; NaN where the network gives no gradient


def measure_use(network: Network, rows: CertifiedRows, predicted: np.ndarray, batch: int) -> Use:
    """Measure what swapping pixels between rows and their twins does, and how much of the evidence it takes.

    Area, inside, error and pieces are measured where the evidence alone turns the prediction, in `DETAILED` rows; area
    and inside only where the error of the effects is at most `OPEN`, and in no row unless that holds for at least half
    of these rows: those that close by luck would speak for all.

    Args:
        predicted: (n,) the classes predicted for the rows as they are.
        batch: how many images the network gets at once.
    """
    detailed = torch.zeros(len(predicted), dtype=torch.bool)
    detailed[torch.from_numpy(spread_evenly(len(predicted), DETAILED))] = True
    with torch.inference_mode(False):
        batches = _in_batches(portions_of_twins(rows), torch.from_numpy(predicted), detailed, batch)
        parts = [_measure_batch(network, *of_batch) for of_batch in batches]
    use = Use._make(torch.cat(values).double().cpu().numpy() for values in zip(*parts, strict=True))
    return use if is_closed(use.error) else use._replace(area=use.area * np.nan, inside=use.inside * np.nan)


def is_closed(errors: np.ndarray) -> bool:
    """Whether the effects sum to what they should, but for `OPEN`, in at least half of the rows (n,) with an error.

    >>> is_closed(np.array([0.01, 0.3, np.nan])), is_closed(np.array([0.01, 0.3, 0.4]))
    (True, False)
    """
    known = errors[~np.isnan(errors)]
    return bool(2 * (known <= OPEN).sum() >= len(known))


def spread_evenly(rows: int, count: int) -> np.ndarray:
    """Up to `count` positions among rows, spread evenly from the first to the last.

    >>> spread_evenly(7, 3), spread_evenly(2, 3)
    (array([0, 3, 6]), array([0, 1]))
    """
    return np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64)


def _in_batches(
    portions: Iterator[Twins], predicted: Tensor, detailed: Tensor, batch: int
) -> Iterator[tuple[Twins, Tensor, Tensor]]:
    """Twins with their rows' predicted classes, and whether more is asked of them, `batch` at a time."""
    done = 0
    for portion in portions:
        device = portion.images.device
        for rows in torch.arange(len(portion.images)).split(batch):
            yield portion.take(rows), predicted[done + rows].to(device), detailed[done + rows].to(device)
        done += len(portion.images)


def _measure_batch(network: Network, twins: Twins, predicted: Tensor, detailed: Tensor) -> Use:
    """Measure the use of one batch; the fields of the result are tensors (n,)."""
    differs = predicted != twins.classes
    evidence_alone = _follows(network, twins, twins.evidence).where(differs, torch.nan)
    rim_alone = _follows(network, twins, twins.rim).where(differs & twins.has_rim, torch.nan)
    rest_alone = _follows(network, twins, twins.rest).where(differs, torch.nan)
    turned = ((evidence_alone == 1) & detailed).nonzero()[:, 0]
    details = torch.full((5, len(predicted)), torch.nan, dtype=torch.float64, device=predicted.device)
    if len(turned):
        details[:, turned] = _measure_details(network, twins.take(turned), predicted[turned])
    return Use(evidence_alone, rim_alone, rest_alone, *details)  # type: ignore[arg-type]


def _measure_details(network: Network, twins: Twins, predicted: Tensor) -> Tensor:
    """Area, inside, error, pieces and their share (5, n) of rows whose prediction the evidence alone turns."""
    effects, error = integrate_effects(network, twins, predicted)
    read = error <= OPEN
    pieces, count = count_pieces(network, twins, effects)
    return torch.stack(
        [
            area_of(effects, twins.evidence).where(read, torch.nan),
            share_inside(effects, twins.evidence).where(read, torch.nan),
            error.double(),
            pieces.where(~error.isnan(), torch.nan),
            (pieces / count).where(~error.isnan(), torch.nan),
        ]
    )


@torch.no_grad()
def _follows(network: Network, twins: Twins, from_twin: Tensor) -> Tensor:
    """Whether the twins' classes are predicted for rows with some of the twins' pixels: (n,) float64, 1 or 0."""
    return (network(twins.mix(from_twin)).argmax(1) == twins.classes).double()


def integrate_effects(network: Network, twins: Twins, predicted: Tensor, steps: int = STEPS) -> PixelEffects:
    """Integrate the gradient of the lead of the row's class over the twin's, along the blends from twin to row.

    Args:
        predicted: (n,) the class of each row whose lead is taken.
        steps: blends at which the gradient is taken, at the middles of equal stretches.

    Source: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017; the twin as the start: ours.
    """

    path, pairs = BlendPath(twins.others, twins.images), torch.stack([predicted, twins.classes], 1)
    with torch.no_grad():
        difference = gap(network(twins.images), pairs) - gap(network(twins.others), pairs)
    if not _has_gradient(network, twins.images[:1]):
        return PixelEffects(torch.zeros_like(twins.images[:, 0]), torch.full_like(difference, torch.nan))
    effects = integrate(network, path, pairs, steps).to(difference.dtype)
    return PixelEffects(effects, (effects.flatten(1).sum(1) - difference).abs() / difference.abs())


@torch.enable_grad()
def _has_gradient(network: Network, images: Tensor) -> bool:
    """Whether logits of images (n, 3, S, S) depend on them in a way that can be differentiated."""
    return network(images.detach().clone().requires_grad_()).requires_grad


def area_of(effects: Tensor, evidence: Tensor) -> Tensor:
    """The smallest share of the evidence's pixels (n, S, S) bool that holds `HELD` of its effects: (n,) float64.

    Effects (n, S, S) count without their sign. NaN where the evidence has no pixel or no effect.
    """
    sizes = effects.abs().double().where(evidence, 0).flatten(1).sort(1, descending=True).values
    totals = sizes.sum(1)
    needed = (sizes.cumsum(1) < HELD * totals[:, None] * (1 - 1e-9)).sum(1) + 1
    return (needed.double() / evidence.flatten(1).sum(1)).where(totals > 0, torch.nan)


def share_inside(effects: Tensor, evidence: Tensor) -> Tensor:
    """The share of effects (n, S, S), without their sign, that lies on the evidence (n, S, S) bool: (n,) float64."""
    sizes = effects.abs().double()
    return sizes.where(evidence, 0).flatten(1).sum(1) / sizes.flatten(1).sum(1)


def count_pieces(network: Network, twins: Twins, effects: Tensor) -> tuple[Tensor, Tensor]:
    """How many pieces have to be the twin's until its class is predicted, and how many there are: (n,) float64 each.

    Pieces are swapped in the order of the sums of their effects (n, S, S), the largest first. With all of them swapped,
    the twin's class has to be predicted.
    """
    ranks, count = _rank_pieces(twins, effects)
    swapped = count.clone()
    open_rows = torch.arange(len(count), device=count.device)
    for number in range(1, int(count.max())):
        open_rows = open_rows[count[open_rows] > number]
        if not len(open_rows):
            break
        follows = _follows(network, twins.take(open_rows), ranks[open_rows] < number) == 1
        swapped[open_rows[follows]] = number
        open_rows = open_rows[~follows]
    return swapped.double(), count.double()


def _rank_pieces(twins: Twins, effects: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's piece by its place in the order of the effects, from 0, and the number of pieces.

    (n, S, S) int64, beyond any place beside the evidence; (n,) int64.
    """
    numbers = twins.pieces.flatten(1)
    sums = torch.zeros(len(numbers), 256, dtype=torch.float64, device=numbers.device)
    sums.scatter_add_(1, numbers, effects.double().flatten(1))
    seen = torch.zeros_like(sums).scatter_(1, numbers, 1.0).bool()
    seen[:, 0] = False
    ranks = sums.where(seen, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    ranks = ranks.where(seen, ranks.shape[1])
    return ranks.gather(1, numbers).view_as(twins.pieces), seen.sum(1)
