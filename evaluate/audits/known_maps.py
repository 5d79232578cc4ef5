"""Maps whose worth is known, made of the masks: the truth, the truth mixed with noise, and adversaries.

They are scored as if a method had made them, so that what a metric makes of them says how far it may be believed.
`results/metric_tests.py` names them and says what each is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.stats import rankdata
from torch import Tensor

from an8flower.errors import NotApplicable

from ..case import Case, Query
from ..explainers.baselines import Edges
from ..metrics.metric import Metric
from ..models.classifier import Classifier
from ..results.metric_tests import LEVELS, TRUTH, degraded_name
from ..scoring.judge import Judge
from ..scoring.references import evidence, evidence_for, noise, noise_for
from ..scoring.run import CELL_ROWS
from ..seeds import generator, seed_of

BLUR = 1 / 20  # of the side: the standard deviation of the blurred truth
REPEAT = 1000  # of the noise: another one than that which chance is measured with
Change = Callable[[np.ndarray], np.ndarray]  # of one truth (H, W) float64


def degrade(truth: Tensor, static: Tensor, level: float) -> Tensor:
    """The ranks of the truth mixed with those of noise, (B, H, W) float32 in [0, 1]; `level` is the share of noise."""
    return (1 - level) * rank_pixels(truth) + level * rank_pixels(static)


def rank_pixels(maps: Tensor) -> Tensor:
    """The ranks of each map's pixels (B, H, W), scaled to [0, 1] float32; tied pixels share theirs."""
    flat = maps.flatten(1).double().cpu().numpy()
    ranks = (rankdata(flat, axis=1) - 1) / (flat.shape[1] - 1)
    return torch.from_numpy(ranks.reshape(maps.shape)).float().to(maps.device)


def shift(truth: np.ndarray) -> np.ndarray:
    """A map moved by half its height and width; what leaves on one side comes back on the other."""
    return np.roll(truth, (truth.shape[0] // 2, truth.shape[1] // 2), axis=(0, 1))


def resize(truth: np.ndarray, share: float) -> np.ndarray:
    """A mask shrunk or grown to a share of its area, by the distance of pixels to its rim; at least one pixel stays."""
    mask, count = truth > 0, round(share * np.count_nonzero(truth > 0))
    if not mask.any():
        return np.zeros_like(truth)
    depth = distance_transform_edt(mask) - distance_transform_edt(~mask)
    order = np.argsort(-depth.ravel(), kind="stable")
    resized = np.zeros(truth.size)
    resized[order[: max(count, 1)]] = 1
    return resized.reshape(truth.shape)


CHANGES: dict[str, Change] = {
    "shifted": shift,
    "blurred": lambda truth: np.asarray(gaussian_filter(truth, BLUR * truth.shape[1])),
    "eroded": partial(resize, share=0.5),
    "dilated": partial(resize, share=2.0),
    "inverted": lambda truth: 1 - truth,
}
"""The adversaries that are made of the truth of the same picture."""


def change_all(truths: Tensor, change: Change) -> Tensor:
    """Truths (B, H, W), each changed, as float32."""
    changed = [change(truth) for truth in truths.double().cpu().numpy()]
    return torch.from_numpy(np.stack(changed)).float().to(truths.device)


def truths_of_other_classes(case: Case, seed: int) -> Tensor:
    """For each row the truth (H, W) of another row of the batch, of another class: (B, H, W) float32.

    Which row it is, the rows and the seed decide: the next one of another class on a circle of shuffled rows.

    Raises NotApplicable if all rows are of one class.
    """
    labels, rows = case.truth.labels.tolist(), case.truth.rows.tolist()
    if len(set(labels)) < 2:
        raise NotApplicable("all rows are of one class, so that none has the truth of another class")
    circle = torch.randperm(len(rows), generator=generator(seed_of("other class", seed, *rows))).tolist()
    partners = [0] * len(rows)
    for place, row in enumerate(circle):
        following = (*circle[place + 1 :], *circle[:place])
        partners[row] = next(other for other in following if labels[other] != labels[row])
    return evidence(case.truth)[partners]


def make_map(name: str, case: Case, seed: int) -> Tensor:
    """The maps (B, H, W) float32 of that name for the rows of a case."""
    return _make(name, case, seed, case.query, evidence(case.truth), noise(case.truth, REPEAT))


def make_map_again(name: str, case: Case, seed: int, query: Query) -> Tensor:
    """The maps of that name for other pictures or classes of the same rows, as a metric asks a method for them."""
    return _make(name, case, seed, query, evidence_for(case, query), noise_for(case.truth, REPEAT, query))


def _make(name: str, case: Case, seed: int, query: Query, truth: Tensor, static: Tensor) -> Tensor:
    if name == TRUTH:
        return truth
    levels = {degraded_name(level): level for level in LEVELS}
    if name in levels:
        return degrade(truth, static, levels[name])
    if name == "edges":
        assert case.classifier is not None, "metrics are tested on a model"
        return Edges()(case.classifier, query)
    return truths_of_other_classes(case, seed) if name == "other_class" else change_all(truth, CHANGES[name])


def metrics_of_known_maps(judge: Judge) -> tuple[Metric, ...]:
    """The metrics that can score maps which no method made: all without a threshold chosen for each method."""
    return tuple(metric for metric in judge.metrics if "threshold" not in metric.needs)


def score_known_map(judge: Judge, classifier: Classifier, name: str, indices: np.ndarray) -> dict[str, Any]:
    """Score the map of that name on rows: `values` (rows,) by the metrics' names, and `failed` with reasons.

    A metric that is a curve has the values that it selects from the curves of all these rows.
    """
    metrics = metrics_of_known_maps(judge)
    blocks = [indices[start : start + CELL_ROWS] for start in range(0, len(indices), CELL_ROWS)]
    failed: dict[str, str] = {}
    values: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    for block in blocks:
        case = judge.case(classifier, block, judge.predict(classifier, block))
        asked_again = case._replace(explain=partial(make_map_again, name, case, judge.seed))
        scores = judge.score_maps(metrics, make_map(name, case, judge.seed), asked_again)
        failed |= scores.failed
        for metric in metrics:
            values[metric.name].append(scores.values[metric.name].double().cpu().numpy())
    whole = {metric.name: _select(metric, np.concatenate(values[metric.name]), failed) for metric in metrics}
    return {"values": whole, "failed": failed}


def _select(metric: Metric, values: np.ndarray, failed: dict[str, str]) -> np.ndarray:
    """The values (rows,) of a metric; of one that is a curve, what it selects from the curves (rows, T)."""
    if metric.name in failed:
        return np.full(len(values), np.nan)
    return metric.select(values) if metric.select else values
