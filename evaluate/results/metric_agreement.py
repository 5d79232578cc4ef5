"""How far each proxy metric orders methods as the truths do, for models that rely on the evidence. No torch in here.

A proxy is a metric that needs no truth, so that it can be used on photographs: insertion, deletion, average drop and
their like. Where the truth is known, the order of methods that it gives can be held against the right one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .boards import find_equal
from .certified import CertifiedModels
from .files import without_nan
from .metric_values import MetricKind
from .scopes import ANEW, LEAST_SEEDS, THESE
from .statistics.intervals import Interval
from .statistics.rank_agreement import LEAST_METHODS, OrderAgreement, agree, agree_anew
from .statistics.scores import ScoreArrays
from .summary import resampling_seed

WITH_TRUTH = ("localisation", "effect", "intervention")  # families whose metrics know masks or render scenes again
WITHOUT_MASK = ("sm",)  # metrics of these families that need neither
USE, INTERVENTION = ("effect_share", "effect_rank"), "counterfactual_deletion"
QUESTIONS = {
    "evidence": "does the map find the designed evidence?",
    "use": "does it order pixels as the model uses them?",
    "intervention": "does swapping its largest pixels for those of another class change the prediction?",
}
NONE_CERTIFIED = "no model of this architecture is certified to rely on the evidence"
FEW_METHODS = f"fewer than {LEAST_METHODS} methods have a value by both metrics"
ALL_TIED = "all methods are tied by one of the two metrics"


def choose_truths(families: Mapping[str, str], leading: Sequence[str]) -> dict[str, str]:
    """The metrics that stand for the truth, each with its question: `evidence`, `use` or `intervention`.

    For the evidence that is the first leading metric of localisation.

    >>> families = {"iou": "localisation", "deletion": "faithfulness", "effect_share": "effect"}
    >>> choose_truths(families, ["iou"])
    {'iou': 'evidence', 'effect_share': 'use'}
    """
    evidence = [name for name in leading if families.get(name) == "localisation"][:1]
    questions = dict.fromkeys(evidence, "evidence")
    for name in families:
        if base_name(name) in USE:
            questions[name] = "use"
        elif base_name(name) == INTERVENTION:
            questions[name] = "intervention"
    return questions


def choose_proxies(families: Mapping[str, str]) -> list[str]:
    """The metrics that need no truth.

    >>> choose_proxies({"iou": "localisation", "deletion:steps=14": "faithfulness", "sm": "localisation"})
    ['deletion:steps=14', 'sm']
    """
    return [name for name, kind in families.items() if kind not in WITH_TRUTH or base_name(name) in WITHOUT_MASK]


def base_name(metric: str) -> str:
    """The name of a metric without its options."""
    return metric.partition(":")[0]


@dataclass(frozen=True)
class RankedMethods:
    """The values of methods on the certified models of one architecture, by which metrics are compared."""

    scores: ScoreArrays
    kinds: Mapping[str, MetricKind]
    named: Mapping[str, str]  # the methods that may be ranked, by their explainers
    controls: Collection[str]  # the explainers that explain nothing
    models: Sequence[str]
    seed: int

    @cached_property
    def places(self) -> list[int]:
        """The numbers of the models among the models of the scores."""
        return [self.scores.models.index(name) for name in self.models if name in self.scores.models]

    @cached_property
    def methods(self) -> list[str]:
        """The explainers that ran on all of these models; of those whose values are equal, the first."""
        able = [name for name in self.scores.methods if name in self.named and self._ran(name)]
        by_row = [name for name, kind in self.kinds.items() if kind.select is None]
        stacks = [self.scores.all_of(metric, able)[:, :, self.places] for metric in by_row]
        return [able[members[0]] for members in find_equal(stacks, len(able))]

    def _ran(self, method: str) -> bool:
        has_rows = [self.scores.has_rows(metric, method)[:, self.places].any(0) for metric in self.kinds]
        return bool(np.all(np.any(has_rows, axis=0)))

    def better(self, metric: str, methods: Sequence[str]) -> np.ndarray:
        """The values (methods, rows, models) of a metric, turned such that larger is better."""
        values = self.scores.all_of(metric, list(methods))[:, :, self.places]
        return values if self.kinds[metric].higher_is_better else -values

    def compare(self, metric: str, truth: str) -> dict[str, Any]:
        """How far a metric agrees with a truth on the order of the methods, ready for JSON."""
        seed = resampling_seed(self.seed)
        others = [name for name in self.methods if name not in self.controls]
        first, second = self.better(metric, self.methods), self.better(truth, self.methods)
        agreement = agree(first, second, seed=seed)
        alone = agree(self.better(metric, others), self.better(truth, others), seed=seed)
        anew = agree_anew(first, second, agreement.tau) if len(self.places) >= LEAST_SEEDS else None
        return {
            "metric": metric,
            "truth": truth,
            "methods": agreement.methods,
            "tau": to_share(agreement.tau),
            "tau_without_controls": to_share(alone.tau),
            "row_tau": to_share(agreement.row_tau),
            "row_spearman": to_share(agreement.row_spearman),
            "trained_anew": to_share(anew) if anew else None,
            **_why_none(agreement),
        }


def to_share(interval: Interval) -> dict[str, Any]:
    """A mean with its interval, ready for JSON; None where it is undefined."""
    return dict(without_nan(vars(interval)))


def _why_none(agreement: OrderAgreement) -> dict[str, str]:
    """The reason why there is no tau; empty if there is one."""
    if not np.isnan(agreement.tau.mean):
        return {}
    return {"reason": FEW_METHODS if agreement.methods < LEAST_METHODS else ALL_TIED}


def describe_agreement(
    scores: ScoreArrays,
    kinds: Mapping[str, MetricKind],
    certified: Sequence[CertifiedModels],
    *,
    named: Mapping[str, str],
    controls: Collection[str],
    leading: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """An entry for each architecture: every proxy beside every truth, and the truths beside each other, for JSON.

    It is empty if no proxy or no truth was scored. An architecture without a certified model has no pairs but a reason.

    Args:
        named: the explainers that are ranked, each with its name in the document.
        controls: the explainers that explain nothing; they are among the ranked methods.
        leading: the leading metrics of the run.
    """
    families = {name: kind.family for name, kind in kinds.items()}
    truths, proxies = choose_truths(families, leading), choose_proxies(families)
    if not truths or not proxies:
        return []
    used = {name: kinds[name] for name in (*proxies, *truths)}
    entries = []
    for group in certified:
        methods = RankedMethods(scores, used, named, controls, group.models, seed)
        entries.append({**group.to_document(), **_describe_group(methods, truths, proxies)})
    return entries


def _describe_group(methods: RankedMethods, truths: Mapping[str, str], proxies: Sequence[str]) -> dict[str, Any]:
    about = {
        "scope": THESE,
        "truths": [{"metric": name, "question": question} for name, question in truths.items()],
        "proxies": list(proxies),
    }
    if not methods.places:
        return {**about, "reason": NONE_CERTIFIED, "methods": [], "rows": 0, "pairs": []}
    return {
        **about,
        "methods": [methods.named[name] for name in methods.methods],
        "rows": len(methods.scores.rows),
        "pairs": list(_describe_pairs(methods, truths, proxies)),
        "trained_anew": {"scope": ANEW, "models": len(methods.places), "least": LEAST_SEEDS},
    }


def _describe_pairs(
    methods: RankedMethods, truths: Mapping[str, str], proxies: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for metric in (*proxies, *truths):
        for truth in truths:
            if metric != truth:
                yield methods.compare(metric, truth)
