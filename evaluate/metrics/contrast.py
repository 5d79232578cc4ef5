"""Does a map say why this class and not that one? The difference of two maps against the parts that differ."""

from __future__ import annotations

import torch
from torch import Tensor

from .intervention import register_intervention
from .interventions.effects import Interventions
from .interventions.important_parts import Regions
from .metric import Asking, sentence


def contrast(batch: Interventions) -> Tensor:
    """Part of max(M_a - M_b, 0) that lies on the parts in which classes a and b differ.

    M_a is the map for the target, M_b the map of the same method for the near class, each scaled so that its positive
    values sum to 1.
    """
    near = batch.world.near_classes(batch.case.truth.rows, batch.case.query.targets)
    lead = (scale(batch.maps) - scale(batch.explain(near))).clamp(min=0).flatten(1)
    differing = batch.world.differing_parts(batch.case.query.targets, near)
    where = batch.compute_once(Regions).pixels_of(differing).flatten(1)
    return ((lead * where).sum(1) / lead.sum(1)).float().where(where.any(1), torch.nan)


def scale(maps: Tensor) -> Tensor:
    """Divide maps (B, H, W) by the sum of their positive values: float64, zeros where a map has no positive value."""
    total = maps.clamp(min=0).sum((1, 2), dtype=torch.float64)[:, None, None]
    return (maps / total).where(total > 0, 0)


register_intervention(
    "contrast",
    Asking(Interventions, contrast),
    sentence(contrast),
    unit="share",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    sign="read as they are, divided by the sum of the positive values; a map without any counts as zeros",
    ties="none: every pixel counts by its value",
    undefined="M_a is nowhere larger than M_b, or nothing of the differing parts can be seen",
    source="ours, after the target sensitivity of Hesse, Schaub-Meyer, Roth: FunnyBirds, ICCV 2023",
    needs=("model", "method", "parts", "renderer"),
    further={
        "oracle": "1 where classes are told by what is there: the mask for a, and for b the evidence that both share; "
        "of shared absence it knows nothing",
        "classes": "b: one of the classes that differ from a in the fewest parts, drawn by the row's index",
        "region": "what is seen of the parts, or would be of a part by whose absence the class is told",
        "normalisation": "each map by the sum of its positive values: scales of different classes compare no better",
    },
)
