"""The contents of one cell: rows explained and scored, or what chance and the truth score on them, as long rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from an8flower.store import FlowerSplit, StoredRows

from ..case import Case, Query, Truth
from ..data.selection import select_rows
from ..data.world import World
from ..explaining.explain import explain
from ..explaining.methods import Method
from ..metrics.interventions.part_threshold import ROWS as THRESHOLD_ROWS
from ..metrics.interventions.part_threshold import Thresholds, chosen
from ..metrics.interventions.reliance import UNTOLD, reliance
from ..metrics.metric import Metric, Scored, reason, score_and_trace
from ..models.classifier import Classifier, Cost
from ..models.networks.borrow import evaluating
from ..models.streamlined import deviation
from ..resources import Resources
from ..results.folder import SCHEMA
from ..results.summary import CHANCE, ORACLE, RELIANCE
from ..seeds import seed_of
from .references import evidence, evidence_for, noise, noise_for

NOISE_MAPS = 8  # random maps per row, to measure the chance level of a metric that has no formula for it
NOISE_MAPS_ASKING = 1  # of one that asks the model, whose cost is that of scoring a method
Target = Literal["label", "predicted"]


@dataclass(frozen=True)
class Judge:
    """What all cells of a run share: where rows come from, what is asked of them, and who measures."""

    split: FlowerSplit
    target: Target
    seed: int
    metrics: tuple[Metric, ...]
    resources: Resources
    world: World | None = None  # where the data set has a spec
    validation: Judge | None = None  # of the rows that thresholds are chosen on, where a metric asks for thresholds

    @property
    def identity(self) -> tuple[str, ...]:
        """What every number that it gives depends on, besides rows, model and method."""
        metrics = json.dumps([(metric.name, metric.version) for metric in self.metrics])
        return (self.split.store.digest, self.split.name, str(self.seed), metrics)

    @property
    def of_maps(self) -> tuple[Metric, ...]:
        """The metrics that ask no model: chance and truth score the same on all of them."""
        return tuple(metric for metric in self.metrics if not metric.asks_model)

    @property
    def of_models(self) -> tuple[Metric, ...]:
        """The metrics whose chance and truth depend on the model."""
        return tuple(metric for metric in self.metrics if metric.asks_model)

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

    def thresholds(self, classifier: Classifier, ready: Callable[[], Method]) -> Thresholds | None:
        """From which share of its maps on a method's parts are important; None where no metric asks for it."""
        return self._thresholds(classifier, lambda case: self._maps(classifier, ready(), case.query))

    def reference_thresholds(self, classifier: Classifier) -> dict[str, Thresholds | None]:
        """The same for the truth and for chance, each by its own maps."""
        return {
            ORACLE: self._thresholds(classifier, lambda case: evidence(case.truth)),
            CHANCE: self._thresholds(classifier, lambda case: noise(case.truth, 0)),
        }

    def _thresholds(self, classifier: Classifier, mapped: Callable[[Case], Tensor]) -> Thresholds | None:
        if self.validation is None:
            return None
        case = self.validation.sample(classifier, THRESHOLD_ROWS, "thresholds")
        maps = mapped(case)
        with classifier.holding(self.resources.in_flight), evaluating(classifier), torch.no_grad():
            return chosen(maps, case)

    def sample(self, classifier: Classifier, count: int, purpose: str) -> Case:
        """Some rows of the split, or all where there are fewer, spread over the classes."""
        labels = self.split.labels
        indices = select_rows(labels, min(count, len(labels)), seed_of(purpose, self.seed))
        predicted = self.predict(classifier, indices) if self.target == "predicted" else labels[indices]
        return self.case(classifier, indices, predicted)

    def case(self, classifier: Classifier, indices: np.ndarray, predicted: np.ndarray) -> Case:
        """Rows as a model is asked about them; `predicted` are their predicted classes (n,)."""
        rows = self.split.take(indices)
        query = self._query(rows, indices, predicted if self.target == "predicted" else rows.labels)
        return self._case(classifier, rows, indices, query)

    def score(
        self,
        classifier: Classifier,
        method: Method,
        indices: np.ndarray,
        predicted: np.ndarray,
        thresholds: Thresholds | None = None,
        keep: Callable[[Tensor], None] = lambda maps: None,
    ) -> pa.Table:
        """Explain rows with a method, and score the maps.

        Args:
            predicted: the rows' predicted classes (n,).
            keep: is given the maps (n, H, W) float32.
        """
        case = self.case(classifier, indices, predicted)
        explanation = explain(classifier, method.explainer, case.query, self.resources.in_flight)
        keep(explanation.maps)
        case = case._replace(explain=partial(self._maps, classifier, method), thresholds=thresholds)
        scores = self._score_all(self.metrics, explanation.maps, case)
        about = {"predicted": predicted, "model": classifier.name, "explainer": repr(method.explainer)}
        return self._long(self.metrics, scores, case.truth, about | _per_image(explanation.cost, len(indices)))

    def score_references(self, indices: np.ndarray) -> pa.Table:
        """What the truth scores as a map, and what chance does, by the metrics that ask no model."""
        rows = self.split.take(indices)
        case = self._case(None, rows, indices, self._query(rows, indices, rows.labels))
        return self._references(self.of_maps, case, None, {})

    def score_model_references(
        self,
        classifier: Classifier,
        indices: np.ndarray,
        predicted: np.ndarray,
        thresholds: Mapping[str, Thresholds | None],
    ) -> pa.Table:
        """The same by the metrics that ask the model."""
        case = self.case(classifier, indices, predicted)
        return self._references(self.of_models, case, classifier.name, thresholds)

    def score_reliance(self, classifier: Classifier, indices: np.ndarray, predicted: np.ndarray) -> pa.Table:
        """Whether the model relies on the designed evidence in each row; the data set has to have a spec."""
        assert self.world, "asked for only where rows can be rendered again"
        labels = self.split.labels[indices]
        with evaluating(classifier):
            found = reliance(classifier, self.world, indices, labels, predicted, self.resources.in_flight)
        about = {"row": indices, "label": labels, "predicted": predicted}
        about |= {"model": classifier.name, "explainer": RELIANCE}
        return pa.concat_tables(
            _table({**about, "metric": name, "value": values, "reason": _untold(name, values)}, len(indices))
            for name, values in found.items()
        )

    def _references(
        self, metrics: tuple[Metric, ...], case: Case, model: str | None, thresholds: Mapping[str, Thresholds | None]
    ) -> pa.Table:
        """Truth and chance as long rows: chance by the metric's formula, else by random maps."""
        truth = case.truth
        knowing = case._replace(explain=partial(evidence_for, case), thresholds=thresholds.get(ORACLE))
        oracle = self._score_all(metrics, evidence(truth), knowing)
        guessed = case._replace(thresholds=thresholds.get(CHANCE))
        known = {metric.name: metric.chance(truth.masks) for metric in metrics if metric.chance}
        measured = self._measured_chance([metric for metric in metrics if not metric.chance], guessed)
        chance = measured._replace(values=known | measured.values)
        return pa.concat_tables(
            self._long(metrics, scores, truth, {"explainer": name, "model": model})
            for name, scores in ((CHANCE, chance), (ORACLE, oracle))
        )

    def _measured_chance(self, metrics: list[Metric], case: Case) -> Scored:
        """Mean scores of a few noise maps per row; of fewer where the model is asked."""
        if not metrics:
            return Scored({}, {})
        drawn = []
        for repeat in range(NOISE_MAPS if case.classifier is None else NOISE_MAPS_ASKING):
            guessing = case._replace(explain=partial(noise_for, case.truth, repeat))
            drawn.append(self._score_all(metrics, noise(case.truth, repeat), guessing))
        return Scored(*(_means(found) for found in zip(*drawn, strict=True)))

    def _score_all(self, metrics: Iterable[Metric], maps: Tensor, case: Case) -> Scored:
        """Scores by the metrics' names, with no more images in the network than it may hold."""
        if case.classifier is None:
            return score_and_trace(metrics, maps, case)
        with case.classifier.holding(self.resources.in_flight), evaluating(case.classifier), torch.no_grad():
            return score_and_trace(metrics, maps, case)

    def _maps(self, classifier: Classifier, method: Method, query: Query) -> Tensor:
        """What a method says of another query."""
        return explain(classifier, method.explainer, query, self.resources.in_flight).maps

    def _case(self, classifier: Classifier | None, rows: StoredRows, indices: np.ndarray, query: Query) -> Case:
        return Case(classifier, query, self._truth(rows, indices), None, self.world)

    def _images(self, rows: StoredRows) -> Tensor:
        """(B, 3, S, S) float32 in [0, 1]."""
        return torch.from_numpy(rows.images).to(self.resources.device).permute(0, 3, 1, 2).contiguous().float() / 255

    def _query(self, rows: StoredRows, indices: np.ndarray, targets: np.ndarray) -> Query:
        names = ("explain", self.seed, self.split.store.digest, self.split.name)
        seeds = torch.tensor([seed_of(*names, index) for index in indices.tolist()])
        device = self.resources.device
        return Query(self._images(rows), torch.from_numpy(targets).to(device), seeds.to(device))

    def _truth(self, rows: StoredRows, indices: np.ndarray) -> Truth:
        given = (indices, rows.labels, rows.masks, rows.parts)
        return Truth._make(None if one is None else torch.from_numpy(one).to(self.resources.device) for one in given)

    @staticmethod
    def _long(metrics: tuple[Metric, ...], scores: Scored, truth: Truth, about: dict[str, Any]) -> pa.Table:
        """One row for each image and metric; what `about` does not say is null."""
        if not metrics:
            return SCHEMA.empty_table()
        shared = {"row": truth.rows.cpu().numpy(), "label": truth.labels.cpu().numpy(), **about}
        return pa.concat_tables(
            _table({**shared, "metric": metric.name, **_values(metric, scores, truth.masks)}, len(truth.rows))
            for metric in metrics
        )


def _untold(name: str, values: np.ndarray) -> list[str | None]:
    """Why rows have no value (NaN), None where they have one."""
    return [UNTOLD[name] if none else None for none in np.isnan(values)]


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


def _means(found: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """The mean of what several maps score, by the metrics' names."""
    return {name: torch.stack([each[name] for each in found]).nanmean(0) for name in found[0]}


def _values(metric: Metric, scored: Scored, masks: Tensor) -> dict[str, Any]:
    """The value, the curve or both, and why there is none where there is none."""
    scores = scored.values[metric.name]
    missing = scores.reshape(len(scores), -1).isnan().any(1).tolist()
    reasons = [why if none else None for why, none in zip(reason(metric, masks), missing, strict=True)]
    found = {"curve" if scores.ndim == 2 else "value": scores}
    if metric.name in scored.traces:
        found["curve"] = scored.traces[metric.name]
    return {**{column: list(each.cpu().numpy()) for column, each in found.items()}, "reason": reasons}
