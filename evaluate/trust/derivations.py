"""Do two derivations of what a model uses agree: the effect map, and regions swapped without any gradient?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..case import Case
from ..metrics.interventions.effect_map import BUDGET, MOST_TWINS, WHY_UNDEFINED, measure_effects
from ..metrics.interventions.region_effects import agreement, measure_region_effects
from ..models.classifier import Classifier
from ..models.networks.guard import evaluating
from ..results.files import without_nan
from ..results.statistics.intervals import interval
from ..seeds import seed_of

NO_GRADIENT = "the model gives no gradient"
NO_EVIDENCE = "the row has no evidence"
NO_ORDER = "regions of the evidence do not differ in their effect"


def compare_derivations(case: Case, seed: int, orders: int) -> dict[str, Any]:
    """Compare the effect map of each row of a case with the effects of its regions, by rank inside the evidence.

    The interval is one over rows. `undefined` counts rows without a correlation by their reasons; `lowest` is the
    lowest correlation of a row; `forwards` and `backwards` are passes through the model for each row, as counted.

    Args:
        seed: of the interval; the orders in which regions come in are fixed by the rows.
        orders: in which the regions of a row come in, each with its reverse.
    """
    classifier = case.classifier
    assert classifier is not None, "the effects are those of a model"
    if not gives_gradient(classifier, case.query.images[:1]):
        return _to_document(np.full(len(case.truth.rows), np.nan), [NO_GRADIENT] * len(case.truth.rows), seed, (0, 0))
    with classifier.counting() as cost:
        maps = measure_effects(case).maps
        regions, values = measure_region_effects(case, orders=orders)
    ranks = agreement(maps, regions, values, case.truth.masks).double().cpu().numpy()
    reasons = [_why_none(*row) for row in zip(maps, regions, case.truth.masks, strict=True)]
    return _to_document(ranks, reasons, seed, (cost.forwards, cost.backwards))


def gives_gradient(classifier: Classifier, images: Tensor) -> bool:
    """Whether logits of images (n, 3, S, S) depend on them in a way that can be differentiated."""
    with torch.inference_mode(False), torch.enable_grad(), evaluating(classifier):
        return bool(classifier(images.detach().clone().requires_grad_()).requires_grad)


def most_passes(orders: int, regions: int, twins: int = MOST_TWINS) -> int:
    """The passes forwards that a row may cost at most: those of its effect map, and one for each set of regions.

    >>> most_passes(orders=4, regions=30, twins=5)
    1272
    """
    return BUDGET + 2 * orders * (regions + 1) * twins


def _why_none(effects: Tensor, regions: Tensor, mask: Tensor) -> str:
    """Why a row would have no correlation: of its effect map, regions and mask, (H, W) each."""
    if effects.isnan().any():
        return WHY_UNDEFINED
    return NO_ORDER if ((mask > 0) & (regions >= 0)).any() else NO_EVIDENCE


def _to_document(ranks: np.ndarray, reasons: list[str], seed: int, passes: tuple[float, float]) -> dict[str, Any]:
    """The document of the correlations of rows (n,), with None for each number that is undefined."""
    known = interval(ranks, seed=seed_of("derivations", seed))
    missing = [reason for reason, rank in zip(reasons, ranks, strict=True) if np.isnan(rank)]
    document = {
        "rows": len(ranks),
        "mean": known.mean,
        "low": known.low,
        "high": known.high,
        "n": known.n,
        "lowest": float(np.nanmin(ranks)) if known.n else float("nan"),
        "undefined": {reason: missing.count(reason) for reason in dict.fromkeys(missing)},
        "forwards": passes[0] / len(ranks),
        "backwards": passes[1] / len(ranks),
    }
    return dict(without_nan(document))
