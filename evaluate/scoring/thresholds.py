"""The threshold of important parts for each method, for chance and for the truth: chosen on validation rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..case import Case
from ..data.selection import select_rows
from ..explaining.methods import Method
from ..metrics.interventions.part_threshold import ROWS, Thresholds, choose_thresholds
from ..models.classifier import Classifier
from ..models.networks.guard import evaluating
from ..resources import halve_where_memory_runs_out
from ..results.summary import CHANCE, ORACLE
from ..seeds import seed_of
from .judge import Judge
from .references import evidence, noise


def method_thresholds(
    validation: Judge | None, classifier: Classifier, ready: Callable[[], Method]
) -> Thresholds | None:
    """From which share of a method's maps on a part counts as important.

    Args:
        validation: judges the validation rows; None if no metric needs a threshold, and then nothing is chosen.
        ready: gives the method, ready to explain; it is called only if a threshold is needed.
    """
    if validation is None:
        return None
    case = _sample(validation, classifier)
    return _choose(validation, classifier, validation.explain(classifier, ready(), case.query), case)


def reference_thresholds(validation: Judge | None, classifier: Classifier) -> dict[str, Thresholds | None]:
    """From which share of the maps of the truth, and of chance, on a part counts as important."""
    if validation is None:
        return {ORACLE: None, CHANCE: None}
    case = _sample(validation, classifier)
    maps = {ORACLE: evidence(case.truth), CHANCE: noise(case.truth, 0)}
    return {name: _choose(validation, classifier, reference, case) for name, reference in maps.items()}


def _sample(judge: Judge, classifier: Classifier) -> Case:
    """The validation rows that thresholds are chosen on, or all if there are fewer, spread over the classes."""
    labels = judge.split.labels
    indices = select_rows(labels, min(ROWS, len(labels)), seed_of("thresholds", judge.seed))
    predicted = judge.predict(classifier, indices) if judge.target == "predicted" else labels[indices]
    return judge.case(classifier, indices, predicted)


def _choose(judge: Judge, classifier: Classifier, maps: Tensor, case: Case) -> Thresholds:
    """Choose the thresholds of maps (B, H, W), with no more images in the network than it may hold."""

    def choose_holding(images: int) -> Thresholds:
        with classifier.holding(images), evaluating(classifier), torch.no_grad():
            return choose_thresholds(maps, case)

    return halve_where_memory_runs_out(choose_holding, judge.resources.in_flight, judge.resources.device)
