"""The contents of one cell: rows explained and scored, or what chance and the truth score on them, as long rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from an8flower.store import FlowerSplit, Rows

from .case import Case, Query, Truth
from .classifier import Classifier, Cost
from .explain import explain
from .methods import Method
from .metric import Metric, reason, score_all
from .resources import Resources
from .results import CHANCE, ORACLE, SCHEMA
from .seeds import generator, seed_of
from .streamlined import deviation

NOISE_MAPS = 8  # random maps per row, to measure the chance level of a metric that has no formula for it
Target = Literal["label", "predicted"]


@dataclass(frozen=True)
class Judge:
    """What all cells of a run share: where rows come from, what is asked of them, and who measures."""

    split: FlowerSplit
    target: Target
    seed: int
    metrics: tuple[Metric, ...]
    resources: Resources

    def predict(self, classifier: Classifier, indices: np.ndarray) -> np.ndarray:
        """The predicted classes (n,) of rows."""
        with torch.inference_mode():
            portions = np.split(indices, range(self.resources.in_flight, len(indices), self.resources.in_flight))
            guesses = [classifier(self._images(self.split.take(portion))).argmax(1) for portion in portions]
        return torch.cat(guesses).cpu().numpy()

    def precision_error(self, classifier: Classifier, indices: np.ndarray, precision: str) -> dict[str, float]:
        """How far the class probabilities of rows are off at a precision: the mean over rows, and the largest."""
        apart = deviation(classifier, self._images(self.split.take(indices)), precision)
        return {"mean": float(apart.mean()), "max": float(apart.max())}

    def score(self, classifier: Classifier, method: Method, indices: np.ndarray, predicted: np.ndarray) -> pa.Table:
        """Explain rows with a method, and score the maps; `predicted` are the rows' predicted classes (n,)."""
        rows = self.split.take(indices)
        query = self._query(rows, indices, predicted if self.target == "predicted" else rows.labels)
        explanation = explain(classifier, method.explainer, query, self.resources.in_flight)
        case = Case(classifier, query, self._truth(rows, indices))
        scores = score_all(self.metrics, explanation.maps, case)
        about = {"predicted": predicted, "model": model_name(classifier), "explainer": repr(method.explainer)}
        return self._long(scores, case.truth, about | _per_image(explanation.cost, len(indices)))

    def score_references(self, indices: np.ndarray) -> pa.Table:
        """What the truth scores as a map, and what chance does: by the metric's formula, else by random maps."""
        rows = self.split.take(indices)
        truth = self._truth(rows, indices)
        case = Case(None, self._query(rows, indices, rows.labels), truth)
        oracle = score_all(self.metrics, (truth.masks > 0).float(), case)
        chance = {metric.name: metric.chance(truth.masks) for metric in self.metrics if metric.chance}
        chance |= measured_chance([metric for metric in self.metrics if not metric.chance], case)
        return pa.concat_tables(
            self._long(scores, truth, {"explainer": name}) for name, scores in ((CHANCE, chance), (ORACLE, oracle))
        )

    def _images(self, rows: Rows) -> Tensor:
        """(B, 3, S, S) float32 in [0, 1]."""
        return torch.from_numpy(rows.images).to(self.resources.device).permute(0, 3, 1, 2).contiguous().float() / 255

    def _query(self, rows: Rows, indices: np.ndarray, targets: np.ndarray) -> Query:
        names = ("explain", self.seed, self.split.store.digest, self.split.name)
        seeds = torch.tensor([seed_of(*names, index) for index in indices.tolist()])
        device = self.resources.device
        return Query(self._images(rows), torch.from_numpy(targets).to(device), seeds.to(device))

    def _truth(self, rows: Rows, indices: np.ndarray) -> Truth:
        given = (indices, rows.labels, rows.masks, rows.parts)
        return Truth._make(None if one is None else torch.from_numpy(one).to(self.resources.device) for one in given)

    def _long(self, scores: dict[str, Tensor], truth: Truth, about: dict[str, Any]) -> pa.Table:
        """One row for each image and metric; what `about` does not say is null."""
        shared = {"row": truth.rows.cpu().numpy(), "label": truth.labels.cpu().numpy(), **about}
        return pa.concat_tables(
            _table(
                {**shared, "metric": metric.name, **_values(metric, scores[metric.name], truth.masks)}, len(truth.rows)
            )
            for metric in self.metrics
        )


def model_name(classifier: Classifier) -> str:
    """How results call a model: `flowernet-seed0-1a2b3c4d`."""
    return f"{classifier.arch}-seed{classifier.card.seed}-{classifier.digest[:8]}"


def measured_chance(metrics: list[Metric], case: Case) -> dict[str, Tensor]:
    """Mean scores of a few noise maps per row."""
    if not metrics:
        return {}
    drawn = []
    for repeat in range(NOISE_MAPS):
        seeds = [seed_of("chance", repeat, row) for row in case.truth.rows.tolist()]
        noise = [torch.rand(case.truth.masks.shape[1:], generator=generator(seed)) for seed in seeds]
        drawn.append(score_all(metrics, torch.stack(noise).to(case.truth.masks.device), case))
    return {metric.name: torch.stack([scores[metric.name] for scores in drawn]).nanmean(0) for metric in metrics}


def _per_image(cost: Cost, count: int) -> dict[str, float]:
    return {"seconds": cost.seconds / count, "forwards": cost.forwards / count, "backwards": cost.backwards / count}


def _table(columns: dict[str, Any], count: int) -> pa.Table:
    """Columns in the schema's order; a single value stands in every row."""
    arrays = []
    for field in SCHEMA:
        given = columns.get(field.name)
        whole = given if isinstance(given, pa.Array | list | np.ndarray) else [given] * count
        arrays.append(pa.array(whole, field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _values(metric: Metric, scores: Tensor, masks: Tensor) -> dict[str, Any]:
    """The value or the curve, and why there is none where there is none."""
    missing = scores.reshape(len(scores), -1).isnan().any(1).tolist()
    reasons = [why if none else None for why, none in zip(reason(metric, masks), missing, strict=True)]
    column = "curve" if scores.ndim == 2 else "value"
    return {column: list(scores.cpu().numpy()), "reason": reasons}
