"""The stage that says what methods gained by tuning; the search itself is done before anything is scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from ...results.tuned import gain
from ..cell_tasks import CellTask
from ..plan_table import Count, PlanTable
from ..stage import Stage, register


class TuneTable(PlanTable):
    """The options of tuning: which methods, by which metric, and how long the search is."""

    methods: tuple[str, ...] | None = None  # those of the plan where None
    metric: str = "iou_area"  # of the plan's metrics
    trials: int = Field(default=20, ge=2)
    rows: Count = 120  # of the validation split, or all if there are fewer


@register
class TuningStage(Stage):
    """The stage that sets each tuned method beside the same method as it was, on the rows that are scored."""

    name = "tuning"
    folders = ("tuning",)
    after = ("scores",)
    rank = 5
    key = "tune"
    reduced: ClassVar = {"tune_trials": "trials", "tune_rows": "rows"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[tune]`."""
        return TuneTable

    def tasks(self) -> Iterator[CellTask]:
        """No tasks: trials were done before methods were scored, since what they choose is scored as well."""
        yield from ()

    def to_document(self) -> dict[str, Any]:
        """What each search tried and chose, and what that gains on the rows that are scored."""
        return {"tuned": [self._with_gain(document) for document in self.study.tuned]} if self.options else {}

    def _with_gain(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document of a search, with the gain if both methods have scores."""
        if "chosen" not in document:
            return document
        scores, judge = self.earlier["scores"].ledger, self.study.scoring.judge
        metric = next(metric for metric in judge.metrics if metric.name == document["metric"])
        reprs = {text: explainer for explainer, text in self.study.methods.items()}
        tuned, untuned = (reprs.get(document[key]) for key in ("tuned", "text"))
        table = self.study.run.table(scores.filed)
        explainers = set(table["explainer"].to_pylist())
        if tuned not in explainers or untuned not in explainers:
            return document
        difference = gain(table, metric.name, metric.kind, str(tuned), str(untuned), judge.seed)
        return {**document, "gain": difference}
