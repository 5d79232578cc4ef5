"""Methods tuned for a data set of an audit, on validation rows, before anything is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from ..explaining.methods import Method, parse_methods
from ..metrics.naming import expand
from ..models.sources import Source
from ..results.folder import RunFolder
from ..results.ledger import Ledger
from ..results.tuned import SPLIT
from ..scoring.run import Scoring
from ..scoring.tuning import Tuning, TuningPlan, works_of
from .cell_tasks import CellTask, Progress
from .engines.task import Task
from .opened import ModelWords
from .plan import Plan
from .stages.scores import score_cell
from .strangers import stranger_in
from .study import StudyWords

CarryOut = Callable[[Sequence[CellTask]], None]


@dataclass(frozen=True)
class StudyTuning:
    """The searches of one data set of an audit."""

    plan: Plan
    words: StudyWords  # of the rows that are scored
    sources: Sequence[Source]  # all models of the data set: a score is the mean over them
    neighbours: Sequence[Path]
    threads: int
    gpus: float
    carry_out: CarryOut  # has an engine do cells

    def run(self, progress: Progress) -> list[dict[str, Any]]:
        """Tune every method of the plan's table `[tune]`; one that cannot be tuned has a `reason` instead."""
        table: Any = getattr(self.plan, "tune", None)
        methods = parse_methods(table.methods or self.plan.methods) if table else []
        documents = []
        for number, method in enumerate(methods):
            progress(number, len(methods))
            documents.append(self._tune(table, method))
        return documents

    def _tune(self, table: Any, method: Method) -> dict[str, Any]:
        """Search for one method, in cells that lie with the scores of the run."""
        split = len(FlowerStore(self.words.plan.data)[SPLIT])
        rows = table.rows if table.rows < split else None
        request = replace(self.words.plan, split=SPLIT, methods=(), metrics=(table.metric,), rows=rows, leading=())
        words = replace(self.words, plan=request, keep_maps=False)
        plan = TuningPlan(
            request.data,
            tuple(self.sources),
            method,
            table.metric,
            table.trials,
            target=request.target,
            seed=request.seed,
        )
        folder = RunFolder(Path(words.folder), self.neighbours)

        def settle(scoring: Scoring, ledger: Ledger, methods: Sequence[Method]) -> None:
            self.carry_out(self._tasks(words, scoring, ledger, methods))

        try:
            scoring = words.open(*self.sources)
            tuning = Tuning(plan, words.resources, folder.folder, settle, scoring, Ledger(folder))
            outcome = tuning.run()
        except Refusal as reason:
            return {"text": method.text, "metric": table.metric, "reason": str(reason)}
        return {**outcome.document, "tuned": outcome.method.text}

    def _tasks(self, words: StudyWords, scoring: Scoring, ledger: Ledger, methods: Sequence[Method]) -> list[CellTask]:
        """The cells of some methods that are not done, each with the task by which a worker does it."""
        texts = tuple(method.text for method in methods)
        of_worker = replace(words, plan=replace(words.plan, methods=texts))
        models = {model.name: model for model in scoring.models}
        tasks = []
        for cell, _ in works_of(scoring, methods):
            model = models.get(cell.about.get("model", ""), scoring.models[0])
            opened = ModelWords(of_worker, model.source, model.digest)
            stranger = stranger_in(cell, words.plan.metrics)
            task = Task(cell.name, score_cell, (opened, cell.name), self.threads, gpus=self.gpus, stranger=stranger)
            tasks += [CellTask(cell, ledger, task)] if cell.name not in ledger.filed else []
        return tasks


def check_tuning(plan: Plan) -> None:
    """Raise a Refusal if the plan scores what tuning chooses by, or tunes by a metric that it does not score."""
    table: Any = getattr(plan, "tune", None)
    if table is None:
        return
    if plan.split == SPLIT:
        raise Refusal(f"tune: the plan scores {SPLIT} rows, by which tuning chooses; have it score test rows")
    scored = [name for text in plan.metrics for name in expand(text)]
    if table.metric not in scored:
        raise Refusal(
            f"tune: metric {table.metric} is not scored; name it among `metrics`, or one of those as `metric`"
        )


def texts_of(documents: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The texts of the methods that tuning chose, each once."""
    return tuple(dict.fromkeys(document["tuned"] for document in documents if "tuned" in document))
