"""From which share of a map on a part counts as important: chosen for each method and model on validation rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from an8flower.store import FlowerStore

from ...case import Case
from ..metric import Need
from .effects import Interventions
from .important_parts import RELEVANCE, ImportantParts

SPLIT = "val"
ROWS = 60
THRESHOLDS = torch.linspace(0.01, 0.50, 80, dtype=torch.float64)
"""Shares of a map's sum that are tried, (T,)."""


Thresholds = Mapping[str, float]
"""By how relevance is read (RELEVANCE of `important_parts`), the share from which on a part is important."""


def missing_needs(store: FlowerStore, split: str) -> dict[Need, str]:
    """Why no threshold can be chosen for the rows of a split; empty if one can."""
    if SPLIT not in store.splits:
        return {"threshold": f"{store.path} has no validation rows to choose the threshold of important parts on"}
    if split == SPLIT:
        return {"threshold": "the threshold of important parts is chosen on the validation rows; score another split"}
    return {}


def choose_thresholds(maps: Tensor, case: Case) -> Thresholds:
    """Choose, for each way to read relevance, the threshold at which maps (B, H, W) of validation rows do best."""
    batch = Interventions(maps, case)
    return {
        relevance: choose_threshold(ImportantParts(batch, THRESHOLDS.to(maps.device), relevance))
        for relevance in RELEVANCE
    }


def choose_threshold(parts: ImportantParts) -> float:
    """The threshold at which (CSDC + PC + DC) / 3 + D is largest; for the names see `metrics/parts_protocol.py`.

    Where several are best, the one in their middle, which other rows are least likely to leave. What is undefined in
    every row does not count.
    """
    complete = (
        mean_where_defined(parts.completeness())
        + mean_where_defined(parts.preservation())
        + mean_where_defined(parts.deletion())
    )
    worth = complete / 3 + mean_where_defined(parts.distractibility())
    equal = (worth >= worth.max() - 1e-9).nonzero()[:, 0]
    return float(parts.thresholds[equal[len(equal) // 2]])


def mean_where_defined(values: Tensor) -> Tensor:
    """The mean over rows (B, T) -> (T,), undefined rows left out; 0 if all are undefined."""
    return values.nanmean(0).nan_to_num(0)
