"""Least squares with a bound on the sum of the weights, so that few columns get a weight (the lasso)."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_STEPS = 10_000
TOLERANCE = 1e-9  # how far a projected step may still move a weight, as a share of the bound
GROWTH = 20  # how many features are let in at once
VIOLATION = 1e-7  # by how much a feature outside must beat those inside to be let in, as a share of the steepest slope


def bounded_lasso(features: Tensor, wanted: Tensor, bound: float, positive: bool = True) -> Tensor:
    """Solve least squares with a bound on the sum of the weights' magnitudes.

    The solution is argmin over w of ||features w - wanted||^2 with sum |w| <= bound, and w >= 0 if `positive`; there is
    no intercept.

    Few features get a weight, so that each column is solved for a few features, to which those are added that would
    still lower the loss, until there are none. Where features are nearly alike, digits may be missing after
    `MOST_STEPS`.

    Args:
        features: (N, m), one row an example.
        wanted: (N, C), one column a problem.

    Returns:
        (m, C) float64 on the CPU; weights that do not matter are exactly 0.
    """
    features, wanted = features.cpu().double(), wanted.cpu().double()
    columns = [solve_by_working_set(features, column, bound, positive) for column in wanted.T]
    return torch.stack(columns, 1)


def solve_by_working_set(features: Tensor, wanted: Tensor, bound: float, positive: bool) -> Tensor:
    """Solve for the weights (m,) of one column (N,) of wanted values."""
    weights = features.new_zeros(features.shape[1])
    working = torch.zeros_like(weights, dtype=torch.bool)
    steepest = gain(features, wanted, positive).max()
    while True:
        gains = gain(features, wanted - features @ weights, positive)
        # At the optimum all features with a weight gain the same by more of it, and no other feature gains more.
        level = gains[working].max().clamp(min=0) if working.any() else gains.new_zeros(())
        missing = torch.where(working, -torch.inf, gains - level)
        best = missing.topk(min(GROWTH, len(missing)))
        added = best.indices[best.values > VIOLATION * steepest]
        if not len(added):
            return weights
        working[added] = True
        weights = torch.zeros_like(weights)
        weights[working] = solve_by_projected_gradients(features[:, working], wanted, bound, positive)


def gain(features: Tensor, rest: Tensor, positive: bool) -> Tensor:
    """How fast half the loss falls as each weight grows, (m,), or as its magnitude grows if it may be negative."""
    slopes = features.T @ rest
    return slopes if positive else slopes.abs()


def solve_by_projected_gradients(features: Tensor, wanted: Tensor, bound: float, positive: bool) -> Tensor:
    """Solve for few features' weights (m,) by projected gradients with momentum, restarted where it points uphill.

    Source: Beck and Teboulle, SIAM J. Imaging Sciences 2009; restart: O'Donoghue and Candes, Found. Comput. Math. 2015.
    """
    curvature, slope = features.T @ features, features.T @ wanted
    steepest = torch.linalg.eigvalsh(curvature)[-1]
    weights = ahead = torch.zeros_like(slope)
    momentum = 1.0
    for _ in range(MOST_STEPS):
        stepped = project(ahead - (curvature @ ahead - slope) / steepest, bound, positive)
        if (stepped - ahead).abs().max() <= TOLERANCE * bound:
            return stepped
        uphill = (ahead - stepped) @ (stepped - weights) > 0
        following = 1.0 if uphill else (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = stepped if uphill else stepped + (momentum - 1) / following * (stepped - weights)
        weights, momentum = stepped, following
    return weights


def project(points: Tensor, bound: float, positive: bool) -> Tensor:
    """Project on the nearest point (m,) with sum |w| <= bound, and w >= 0 where `positive`.

    Source: Duchi et al., ICML 2008, fig. 1.
    """
    sizes = points.clamp(min=0) if positive else points.abs()
    if sizes.sum() > bound:
        sizes = project_on_simplex(sizes, bound)
    return sizes if positive else sizes * points.sign()


def project_on_simplex(sizes: Tensor, total: float) -> Tensor:
    """Lower sizes (m,) >= 0, all by the same amount and cut off at 0, so that they sum to `total`."""
    falling = sizes.sort(descending=True).values
    surplus = (falling.cumsum(0) - total) / torch.arange(1, len(sizes) + 1)
    last = (falling > surplus).sum() - 1
    return (sizes - surplus[last]).clamp(min=0)
