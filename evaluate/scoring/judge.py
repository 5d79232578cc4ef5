"""The contents of one cell: the scores of a method on some rows, or of chance and the truth, as long rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from an8flower.store import FlowerSplit, StoredRows

from ..case import Case, Query, Truth
from ..data.images import as_images
from ..data.world import World
from ..explaining.explain import explain
from ..explaining.methods import Method
from ..explaining.stored_maps import AGAIN, BoundMaps
from ..metrics.guarded import guard_chance, merge, score_guarded
from ..metrics.interventions.part_threshold import Thresholds
from ..metrics.interventions.reliance import measure_reliance
from ..metrics.metric import Metric, MetricValues
from ..models.classifier import Classifier
from ..models.networks.arithmetic import identity_of_arithmetic
from ..models.networks.guard import evaluating
from ..models.streamlined import deviation
from ..resources import Resources, halve_where_memory_runs_out
from ..results.statistics.scores import AT_GRID, OTHER_ROWS
from ..results.summary import CHANCE, ORACLE, RELIANCE
from ..seeds import row_seed
from .fine_tuned import FineTuner
from .long_rows import cost_per_image, rows_of_metrics, rows_of_reliance
from .references import evidence, evidence_at_grid, evidence_for, has_grid, noise, noise_for, other_rows
from .truth_by_use import mark_use

NOISE_MAPS = 8  # random maps per row, to measure the chance level of a metric that has no formula for it
NOISE_MAPS_ASKING = 1  # of one that asks the model, whose cost is that of scoring a method
NO_OTHER_ROW = "there is no other row in this cell"
MAPS_FROM_FILES = "it asks for maps of other pictures, classes or rows, and these maps lie in files"
Target = Literal["label", "predicted"]
TruthKind = Literal["association", "use"]


@dataclass(frozen=True)
class Judge:
    """What all cells of a run share: the rows to choose from, the classes to explain, and the metrics that score."""

    split: FlowerSplit
    target: Target
    seed: int
    metrics: tuple[Metric, ...]
    resources: Resources
    world: World | None = None  # None if the data set has no spec
    validation: Judge | None = None  # judges the rows that thresholds are chosen on; None if no metric needs any
    truth: TruthKind = "association"  # what masks mark: what goes along with the class, or what is used for it
    fine_tuner: FineTuner | None = None  # for metrics that ask for that; None if there are no training rows

    @property
    def identity(self) -> tuple[str, ...]:
        """What every number of this judge depends on, besides rows, model and method."""
        metrics = json.dumps([(metric.name, metric.version) for metric in self.metrics])
        by_use = ("truth by use",) if self.truth == "use" else ()
        return (*self.data, *self.arithmetic, str(self.seed), metrics, *by_use)

    @property
    def data(self) -> tuple[str, ...]:
        """What tells the rows of this split from any other's: what they were made from, and what they are."""
        return (self.split.store.digest, self.split.store.fingerprint, self.split.name)

    @property
    def arithmetic(self) -> tuple[str, ...]:
        """What tells numbers that a GPU computes in TF32 from all others; empty for those."""
        return identity_of_arithmetic(self.resources.device)

    @property
    def of_maps(self) -> tuple[Metric, ...]:
        """The metrics that ask no model: chance and truth score the same on all of them."""
        return tuple(metric for metric in self.metrics if not metric.asks_model)

    @property
    def of_models(self) -> tuple[Metric, ...]:
        """The metrics whose chance and truth depend on the model."""
        return tuple(metric for metric in self.metrics if metric.asks_model)

    @property
    def of_other_rows(self) -> tuple[Metric, ...]:
        """The metrics that score a further map of a row without a further pass through the model."""
        return tuple(metric for metric in self.metrics if not metric.asks_for_each_map)

    def predict(self, classifier: Classifier, indices: np.ndarray) -> np.ndarray:
        """The predicted classes (n,) of rows."""

        def predict_by(images: int) -> Tensor:
            portions = np.split(indices, range(images, len(indices), images))
            return torch.cat([classifier.predict(self._images(portion)) for portion in portions])

        return halve_where_memory_runs_out(predict_by, self.resources.in_flight, self.resources.device).cpu().numpy()

    def precision_error(self, classifier: Classifier, indices: np.ndarray, precision: str) -> dict[str, float]:
        """How far the class probabilities of rows are off at a precision: the mean over rows, and the largest."""
        apart = deviation(classifier, self._images(indices), precision)
        return {"mean": float(apart.mean()), "max": float(apart.max())}

    def case(self, classifier: Classifier, indices: np.ndarray, predicted: np.ndarray) -> Case:
        """The case of some rows for a model; `predicted` are the rows' predicted classes (n,)."""
        rows = self.split.take(indices)
        query = self._query(rows, indices, predicted if self.target == "predicted" else rows.labels)
        return self._case(classifier, rows, indices, query)

    def explain(self, classifier: Classifier, method: Method, query: Query) -> Tensor:
        """The maps (B, H, W) float32 of a method that is ready to explain."""
        return explain(classifier, method.explainer, query, self.resources.in_flight).maps

    def score(
        self,
        classifier: Classifier,
        method: Method,
        indices: np.ndarray,
        predicted: np.ndarray,
        thresholds: Thresholds | None = None,
        keep: Callable[[Tensor], None] = lambda maps: None,
    ) -> pa.Table:
        """Explain rows with a method, and score the maps, and what the method's scores are read against.

        That is for each row the method's map of another row, and the truth at the method's grid if it has one. Who
        stands in for whom is fixed by the rows and the seed, so batches and resumed runs change nothing. All maps of a
        cell are in memory anyway.

        Args:
            predicted: the rows' predicted classes (n,).
            keep: is given the maps (n, H, W) float32.
        """
        case = self.case(classifier, indices, predicted)
        explanation = explain(classifier, method.explainer, case.query, self.resources.in_flight)
        keep(explanation.maps)
        case = case._replace(explain=partial(self.explain, classifier, method), thresholds=thresholds)
        about = {"predicted": predicted, "model": classifier.name, "explainer": repr(method.explainer)}
        stored = isinstance(method.explainer, BoundMaps)
        score = self._score_stored if stored else partial(self._score_all, self.metrics)
        scores = score(explanation.maps, case)
        cost = {} if stored else cost_per_image(explanation.cost, len(indices))  # unknown for maps from files
        tables = [rows_of_metrics(self.metrics, scores, case.truth, about | cost)]
        tables.append(self._score_other_rows(explanation.maps, case, about))
        if has_grid(method.explainer):
            tables.append(self._score_at_grid(method.explainer, case, about))
        return pa.concat_tables(tables)

    def score_maps(self, metrics: Iterable[Metric], maps: Tensor, case: Case) -> MetricValues:
        """The scores of maps (B, H, W) by the metrics' names, whoever made the maps."""
        return self._score_all(metrics, maps, case)

    def _score_at_grid(self, explainer: Any, case: Case, about: dict[str, Any]) -> pa.Table:
        """What the truth scores when a method with such a grid shows it, as long rows."""
        assert case.classifier is not None, "a method explains a model"
        with evaluating(case.classifier), torch.no_grad():
            maps = evidence_at_grid(case.truth, explainer.map_grid(case.classifier, case.query))
        scores = self._score_all(self.of_maps, maps, case)
        return rows_of_metrics(self.of_maps, scores, case.truth, {**about, "explainer": AT_GRID + about["explainer"]})

    def _score_other_rows(self, maps: Tensor, case: Case, about: dict[str, Any]) -> pa.Table:
        """What the maps (B, H, W) of other rows score as maps of these rows, as long rows; none without another."""
        metrics, alone = self.of_other_rows, len(maps) < 2
        places = other_rows(case.truth.rows, self.seed).to(maps.device)
        scores = self._score_all(metrics, maps[places], case)
        if alone:
            nothing = {name: torch.full_like(values, torch.nan) for name, values in scores.values.items()}
            scores = MetricValues(nothing, {}, scores.failed)
        about = {**about, "explainer": OTHER_ROWS + about["explainer"]}
        return rows_of_metrics(metrics, scores, case.truth, about, NO_OTHER_ROW if alone else None)

    def _score_stored(self, maps: Tensor, case: Case) -> MetricValues:
        """The scores of maps from files; undefined by metrics that ask for maps of other pictures, classes or rows."""
        without = [metric for metric in self.metrics if AGAIN & set(metric.needs)]
        scores = self._score_all([metric for metric in self.metrics if metric not in without], maps, case)
        nothing = {metric.name: torch.full((len(maps),), torch.nan) for metric in without}
        undefined = {**scores.undefined, **dict.fromkeys(nothing, MAPS_FROM_FILES)}
        return scores._replace(values=scores.values | nothing, undefined=undefined)

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
        """What the truth scores as a map, and what chance does, by the metrics that ask the model."""
        case = self.case(classifier, indices, predicted)
        return self._references(self.of_models, case, classifier.name, thresholds)

    def score_reliance(self, classifier: Classifier, indices: np.ndarray, predicted: np.ndarray) -> pa.Table:
        """Whether the model relies on the designed evidence in each row, as long rows; the data set needs a spec."""
        assert self.world, "asked for only where rows can be rendered again"
        labels = self.split.labels[indices]
        with evaluating(classifier):
            values = measure_reliance(classifier, self.world, indices, labels, predicted, self.resources.in_flight)
        about = {"row": indices, "label": labels, "predicted": predicted}
        return rows_of_reliance(values, about | {"model": classifier.name, "explainer": RELIANCE})

    def _references(
        self, metrics: tuple[Metric, ...], case: Case, model: str | None, thresholds: Mapping[str, Thresholds | None]
    ) -> pa.Table:
        """The scores of truth and chance as long rows: of chance by the metric's formula, else of random maps."""
        truth = case.truth
        knowing = case._replace(explain=partial(evidence_for, case), thresholds=thresholds.get(ORACLE))
        oracle = self._score_ideal(metrics, knowing)
        guessed = case._replace(thresholds=thresholds.get(CHANCE))
        known = [guard_chance(metric, truth) for metric in metrics if metric.chance]
        measured = self._measured_chance([metric for metric in metrics if not metric.chance], guessed)
        chance = merge([*known, measured])
        return pa.concat_tables(
            rows_of_metrics(metrics, scores, truth, {"explainer": name, "model": model})
            for name, scores in ((CHANCE, chance), (ORACLE, oracle))
        )

    def _score_ideal(self, metrics: tuple[Metric, ...], case: Case) -> MetricValues:
        """The scores of the truth: of the mask, or of the maps that a metric names as its own truth."""
        scores = self._score_all([metric for metric in metrics if not metric.ideal], evidence(case.truth), case)
        for metric in metrics:
            if metric.ideal:
                best = self._score_all([metric], metric.ideal.ideal_maps(case), case)
                scores = merge([scores, best])
        return scores

    def _measured_chance(self, metrics: list[Metric], case: Case) -> MetricValues:
        """The mean scores of a few noise maps per row; of fewer if a model is asked, which costs more."""
        if not metrics:
            return MetricValues({}, {})
        scores = []
        for repeat in range(NOISE_MAPS if case.classifier is None else NOISE_MAPS_ASKING):
            guessing = case._replace(explain=partial(noise_for, case.truth, repeat))
            scores.append(self._score_all(metrics, noise(case.truth, repeat), guessing))
        failed = {name: why for batch in scores for name, why in batch.failed.items()}
        nothing = {name: torch.full((len(case.truth.rows),), torch.nan) for name in failed}
        values, traces = (_means([batch[i] for batch in scores], failed) for i in range(2))
        return MetricValues(values | nothing, traces, failed)

    def _score_all(self, metrics: Iterable[Metric], maps: Tensor, case: Case) -> MetricValues:
        """Scores by the metrics' names; with half as many images in the network as it may hold if memory runs out."""
        classifier, metrics = case.classifier, tuple(metrics)
        if classifier is None:
            return score_guarded(metrics, maps, case)

        def score_holding(images: int) -> MetricValues:
            with classifier.holding(images), evaluating(classifier), torch.no_grad():
                return score_guarded(metrics, maps, case)

        return halve_where_memory_runs_out(score_holding, self.resources.in_flight, self.resources.device)

    def _case(self, classifier: Classifier | None, rows: StoredRows, indices: np.ndarray, query: Query) -> Case:
        tune = None if classifier is None or self.fine_tuner is None else partial(self.fine_tuner, classifier)
        return Case(classifier, query, self._truth(rows, indices), None, self.world, tune=tune)

    def _images(self, indices: np.ndarray) -> Tensor:
        """The images of rows, (B, 3, S, S) float32 in [0, 1]."""
        return as_images(self.split.take(indices).images, self.resources.device)

    def _query(self, rows: StoredRows, indices: np.ndarray, targets: np.ndarray) -> Query:
        digest, name = self.split.store.digest, self.split.name
        seeds = torch.tensor([row_seed(self.seed, digest, name, index) for index in indices.tolist()])
        device = self.resources.device
        return Query(as_images(rows.images, device), torch.from_numpy(targets).to(device), seeds.to(device))

    def _truth(self, rows: StoredRows, indices: np.ndarray) -> Truth:
        masks = rows.masks if self.truth == "association" else mark_use(self.split.store, rows)
        given = (indices, rows.labels, masks, rows.parts, rows.void)
        return Truth._make(None if one is None else torch.from_numpy(one).to(self.resources.device) for one in given)


def _means(batches: list[Any], failed: Collection[str]) -> dict[str, Tensor]:
    """The mean of what several maps score, by the metrics' names; without those that failed on one of the maps."""
    names = [name for name in batches[0] if name not in failed]
    return {name: torch.stack([values[name] for values in batches]).nanmean(0) for name in names}
