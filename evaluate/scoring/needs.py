"""What a data set cannot be asked for, and which metrics are left out for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from an8flower.store import FlowerStore

from ..metrics.metric import Metric, Need
from .fine_tuned import SPLITS


def missing_needs(store: FlowerStore) -> dict[Need, str]:
    """The needs that a data set cannot meet, each with the sentence that says why."""
    reasons: dict[Need, str] = {}
    if store.spec is None:
        reasons["renderer"] = f"{store.path} has no spec, so its rows cannot be rendered again with one thing changed"
    if not store.part_names:
        reasons["parts"] = f"{store.path} has no part maps"
    if missing := [split for split in SPLITS if split not in store.splits]:
        splits = " and ".join(missing)
        reasons["training"] = f"{store.path} has no rows in {splits}, so that no model can be fine-tuned on it"
    return reasons


@dataclass(frozen=True)
class Computable:
    """The metrics that can be computed on a data set, and why the others cannot."""

    metrics: tuple[Metric, ...]
    left_out: tuple[dict[str, str], ...]  # {"metric", "reason"} each


def select_computable(metrics: Iterable[Metric], lacking: dict[Need, str]) -> Computable:
    """Part metrics into those that can be computed and those that need what is `lacking`: {need: why it is lacking}."""
    reasons = {metric: next((lacking[need] for need in metric.needs if need in lacking), None) for metric in metrics}
    left_out = tuple({"metric": metric.name, "reason": why} for metric, why in reasons.items() if why is not None)
    return Computable(tuple(metric for metric, why in reasons.items() if why is None), left_out)
