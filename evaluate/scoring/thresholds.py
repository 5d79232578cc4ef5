"""The threshold of important parts for each method, for chance and for the truth: chosen on validation rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from ..case import Case, Truth
from ..data.selection import select_rows
from ..explaining.methods import Method, stranger_of
from ..metrics.interventions.important_parts import RELEVANCE
from ..metrics.interventions.part_threshold import ROWS, Thresholds, choose_thresholds
from ..models.classifier import Classifier
from ..models.networks.guard import evaluating
from ..resources import halve_where_memory_runs_out
from ..results import answers
from ..results.summary import CHANCE, ORACLE
from ..seeds import seed_of
from .judge import Judge
from .references import evidence, noise

VERSION = 2  # of how thresholds are chosen: since 2, smoothgrad and its kin draw their noise from a counter


def method_thresholds(
    validation: Judge | None, classifier: Classifier, method: Method, ready: Callable[[], Method]
) -> Thresholds | None:
    """From which share of a method's maps on a part counts as important; chosen once for a method and a model.

    Args:
        validation: judges the validation rows; None if no metric needs a threshold, and then nothing is chosen.
        method: as it was asked for.
        ready: gives the method, ready to explain; it is called only if a threshold is needed and none is filed.
    """
    if validation is None:
        return None
    judge = validation

    def choose() -> Thresholds:
        case = _sample(judge, classifier)
        return _choose(judge, classifier, judge.explain(classifier, ready(), case.query), case)

    if stranger_of(method.text):  # whose code may be another tomorrow, and may not have kept its contract
        return choose()
    return _choose_once(judge, classifier, repr(method.explainer), choose)


def reference_thresholds(validation: Judge | None, classifier: Classifier) -> dict[str, Thresholds | None]:
    """From which share of the maps of the truth, and of chance, on a part counts as important."""
    if validation is None:
        return {ORACLE: None, CHANCE: None}
    judge = validation
    references = {ORACLE: evidence, CHANCE: lambda truth: noise(truth, 0)}

    def choose(maps: Callable[[Truth], Tensor]) -> Thresholds:
        case = _sample(judge, classifier)
        return _choose(judge, classifier, maps(case.truth), case)

    return {name: _choose_once(judge, classifier, name, partial(choose, maps)) for name, maps in references.items()}


def _choose_once(judge: Judge, classifier: Classifier, name: str, choose: Callable[[], Thresholds]) -> Thresholds:
    """The filed thresholds of a method, or of a reference, for a model; where none are filed, choose and file them."""
    folder = judge.world.folder if judge.world else None
    if folder is None:
        return choose()
    identity = [str(VERSION), *judge.data, str(judge.seed), judge.target, classifier.digest, name]
    place = folder / f"thresholds-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}.json"
    filed = answers.read_document(place)
    if filed is not None and filed.keys() == RELEVANCE.keys():
        return {relevance: float(value) for relevance, value in filed.items()}
    thresholds = choose()
    with suppress(OSError):  # a disk that is full is told of where the scores are filed
        folder.mkdir(parents=True, exist_ok=True)
        answers.write_document(place, dict(thresholds))
    return thresholds


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
