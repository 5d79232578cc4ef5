"""The stage that asks which metric may be believed: maps of known worth are scored by every metric."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from ...results import answers, metric_tests
from ...results.certified import CertifiedModels, choose_certified
from ...results.files import without_nan
from ...results.ledger import Cell, broken_metrics, without_metrics
from ..cell_tasks import CellOutcome, CellTask, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...metrics.metric import Metric
    from ...scoring.model_cells import ModelCells
    from ..opened import ModelWords


class MetaTable(PlanTable):
    """The options of the test of the metrics: on how many rows maps of known worth are scored."""

    rows: Count = 60  # or all if there are fewer


@register
class MetaStage(Stage):
    """The stage that holds metrics against the truth: by the order of methods, and by maps of known worth.

    The order of methods is read off the scores, whatever the plan. Maps of known worth are scored if the plan asks for
    it, on the models that are certified to rely on the evidence.
    """

    name = "meta"
    folders = ("meta",)
    after = ("scores", "certificates")
    rank = 3
    key = "meta"
    reduced: ClassVar = {"meta_rows": "rows"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[meta]`."""
        return MetaTable

    @cached_property
    def certified(self) -> list[CertifiedModels]:
        """The models of each architecture that are certified to rely on the evidence."""
        models = [(model.classifier.arch, model.name) for model in self.study.scoring.models]
        return choose_certified(models, self.earlier["certificates"].to_document()["certificates"])

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str, Cell]]:
        """A cell for each certified model and each map; none if the plan does not ask for them."""
        if self.options is None:
            return []
        metrics = json.dumps([(metric.name, metric.version) for metric in self._metrics])
        names = {name for group in self.certified for name in group.models}
        return [
            (model, name, self.cell(model, name, to_words(self.options, "Meta") + metrics))
            for model in self.study.scoring.models
            if model.name in names
            for name in metric_tests.MAPS
        ]

    @property
    def _metrics(self) -> tuple[Metric, ...]:
        from ..known_maps import metrics_of_known_maps

        return metrics_of_known_maps(self.study.scoring.judge)

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that score each map on each certified model."""
        for model, name, cell in self.cells:
            yield self.task(cell, score_map, self.words_of(model), name, self.options.rows, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """How far metrics agree on the order of methods, and what they make of maps of known worth."""
        tested = {} if self.options is None else {"metric_tests": self._describe_tests()}
        return {"metric_agreement": self._describe_agreement(), **tested}

    def _describe_agreement(self) -> list[dict[str, Any]]:
        from ...results.metric_agreement import describe_agreement
        from ...results.statistics.scores import ScoreArrays
        from ...scoring.leading import choose_leading
        from ...scoring.run import controls_of

        scoring, filed = self.study.scoring, self.earlier["scores"].ledger
        table = self.study.run.table(filed.filed)
        broken = broken_metrics(table)
        kinds = {metric.name: metric.kind for metric in scoring.judge.metrics if metric.name not in broken}
        incomplete = {entry["method"] for entry in filed.failed}
        return describe_agreement(
            ScoreArrays(without_metrics(table, broken), {name: kind.select for name, kind in kinds.items()}),
            kinds,
            self.certified,
            named={name: text for name, text in self.study.methods.items() if text not in incomplete},
            controls=controls_of(scoring),
            leading=choose_leading(scoring.plan.leading, kinds),
            seed=scoring.plan.seed,
        )

    def _describe_tests(self) -> list[dict[str, Any]]:
        scores: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        for model, name, cell in self.cells:
            document = answers.read_document(Path(self.place(cell)))
            if document is not None:
                values = {metric: np.array(row, np.float64) for metric, row in document["values"].items()}
                scores.setdefault(model.name, {})[name] = values
        directions = {metric.name: metric.higher_is_better for metric in self._metrics}
        return metric_tests.describe_tests(scores, self.certified, directions, self.study.plan.seed)


def score_map(model: ModelWords, name: str, rows: int, place: str) -> CellOutcome:
    """Score a map of known worth on so many rows, or on all if there are fewer, and file the values."""
    from ...data.selection import select_rows
    from ...seeds import seed_of
    from ..known_maps import score_known_map
    from ..opened import classifier_of, open_once, whole

    failed: dict[str, str] = {}

    def make() -> None:
        judge = open_once(model).judge
        labels = judge.split.labels
        indices = select_rows(labels, min(rows, len(labels)), seed_of("rows", judge.seed))
        with whole(model):
            scores = score_known_map(judge, classifier_of(model), name, indices)
        failed.update(scores["failed"])
        values = {metric: row.tolist() for metric, row in scores["values"].items()}
        document = {"map": name, "rows": indices.tolist(), "values": values, "failed": failed}
        answers.write_document(Path(place), without_nan(document))

    outcome = run_cell(make)
    return outcome._replace(broken=tuple(failed.items()))
