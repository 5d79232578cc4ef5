"""What a data set cannot be asked for, and which metrics are left out for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from an8flower.store import FlowerStore

from ..metrics.metric import Metric, Need


def lacking(store: FlowerStore) -> dict[Need, str]:
    """What a data set cannot be asked for, each with the sentence that says why."""
    found: dict[Need, str] = {}
    if store.spec is None:
        found["renderer"] = f"{store.path} has no spec, so its rows cannot be rendered again with one thing changed"
    if not store.part_names:
        found["parts"] = f"{store.path} has no part maps"
    return found


@dataclass(frozen=True)
class Askable:
    """What can be asked on a data set, and why the rest cannot."""

    metrics: tuple[Metric, ...]
    left_out: tuple[dict[str, str], ...]  # {"metric", "reason"} each


def askable(metrics: Iterable[Metric], lacking: dict[Need, str]) -> Askable:
    """Those of the metrics that need nothing of what is `lacking`: {need: the sentence that says why}."""
    reasons = {metric: next((lacking[need] for need in metric.needs if need in lacking), None) for metric in metrics}
    left_out = tuple({"metric": each.name, "reason": why} for each, why in reasons.items() if why is not None)
    return Askable(tuple(each for each, why in reasons.items() if why is None), left_out)
