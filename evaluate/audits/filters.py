"""The relevant filters of a model: what each responds to, and how accurate the model is without them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..data.selection import select_rows
from ..explainers.filters.filter_roles import ablation_curve, average_images
from ..explainers.filters.relevant_filters import Filter, Relevance
from ..explainers.fittable import Fitted
from ..explaining.methods import Method
from ..models.classifier import Classifier
from ..scoring.judge import Judge
from ..seeds import seed_of

ROWS = 240  # at most, from the split that is scored
FILTERS = 3  # a class, at most
DRAWS = 5  # of filters that are silenced by lot


def filters_of(classifier: Classifier, method: Method, judge: Judge, seed: int) -> dict[str, np.ndarray]:
    """The filters with the largest weights of each class, by a fitted method, and the accuracy with filters silenced.

    Returns:
        For each of F filters `classes` (F,) int64, `layers` (F,) str, `channels` (F,) int64, `weights` (F,) float32 and
        `averages` (F, r, r', 3) uint8: the mean of what it sees where it responds most to images of its class, in the
        upper left `sizes` (F, 2) int64 pixels. For each of n numbers of filters `counts` (n,) int64, the mean class
        accuracy without the most relevant ones, `relevant` (n,) float32, and without as many others of the same
        layers, `random` (DRAWS, n) float32.

    Raises:
        NotApplicable: a layer's receptive field cannot be computed.
        WrongUsage: the method was not fitted, or finds no filters.
    """
    if not isinstance(method.explainer, Fitted) or set(method.explainer.learnt) != set(Relevance._fields):
        raise WrongUsage(f"{method.text} has found no relevant filters; fit vebi, and give that")
    relevance = Relevance(**method.explainer.learnt)
    labels = judge.split.labels
    indices = select_rows(labels, min(ROWS, len(labels)), seed_of("filters", seed))
    case = judge.case(classifier, indices, labels[indices])
    with classifier.holding(judge.resources.in_flight):
        descriptions = _describe(classifier, case.query.images, case.truth.labels, relevance)
        counts = numbers_silenced(int((relevance.weights.amax(1) > 0).sum()))
        ablation = ablation_curve(classifier, case.query.images, case.truth.labels, relevance, counts, DRAWS)
    return {
        **descriptions,
        "counts": np.array(counts, np.int64),
        "relevant": ablation.relevant.float().cpu().numpy(),
        "random": ablation.random.float().cpu().numpy(),
    }


def numbers_silenced(relevant: int) -> list[int]:
    """How many of the relevant filters are silenced at each point of the curve: 0, 1, 2, 4, ... and all of them.

    >>> numbers_silenced(5)
    [0, 1, 2, 4, 5]
    """
    powers = [2**power for power in range(relevant.bit_length()) if 2**power < relevant]
    return [0, *powers, relevant] if relevant else [0]


def _describe(classifier: Classifier, images: Tensor, labels: Tensor, relevance: Relevance) -> dict[str, np.ndarray]:
    """The filters with the largest weights of each class, and the mean of what each responds to."""
    chosen: list[tuple[int, Filter, float]] = []
    averages: list[Tensor] = []
    for label in range(relevance.weights.shape[1]):
        best = relevance.filters(label)[:FILTERS]
        members = images[labels == label]
        if best and len(members):
            chosen += [(label, unit, weight) for unit, weight in best]
            averages += average_images(classifier, members, [unit for unit, _ in best])
    return {
        "classes": np.array([label for label, _, _ in chosen], np.int64),
        "layers": np.array([f"ReLU {unit.layer}" for _, unit, _ in chosen], dtype=str),
        "channels": np.array([unit.channel for _, unit, _ in chosen], np.int64),
        "weights": np.array([weight for _, _, weight in chosen], np.float32),
        **_pad(averages),
    }


def _pad(averages: list[Tensor]) -> dict[str, np.ndarray]:
    """Pad pictures (3, r, r') of several sizes to one array (F, r, r', 3) uint8; returned with their sizes."""
    sizes = np.array([picture.shape[1:] for picture in averages], np.int64).reshape(-1, 2)
    whole = np.zeros((len(averages), *sizes.max(0, initial=0), 3), np.uint8)
    for page, picture in zip(whole, averages, strict=True):
        shown = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        page[: shown.shape[0], : shown.shape[1]] = shown
    return {"averages": whole, "sizes": sizes}
