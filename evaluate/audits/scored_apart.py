"""Scores and sanity checks outside an audit, with the code of strangers in worker processes, under limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.errors import NotApplicable, Refusal

from ..explaining.methods import Method, parse_method, stranger_of
from ..models.networks.arithmetic import arithmetic_on
from ..models.sources import Source
from ..resources import Resources
from ..results.files import without_nan
from ..results.ledger import Cell, Ledger
from ..scoring.model_cells import ModelCells
from ..scoring.run import Scoring, ScoringOutcome, ScoringPlan, score
from ..trust.sanity.plan import SanityPlan, sanity_plan_type
from ..trust.sanity.run import ModelSanity, sanity
from .cell_tasks import CellTask, record
from .engines.task import Engine, Task
from .opened import ModelWords, classifier_of, open_once
from .stages.scores import score_cell
from .strangers import stranger_in
from .study import StudyWords


def score_apart(
    plan: ScoringPlan,
    resources: Resources,
    folder: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    engine: Engine,
    warn: Callable[[str], None] = lambda sentence: None,
) -> ScoringOutcome:
    """Score as `scoring.run.score` does, with the same numbers, but have an engine do the cells that run others' code.

    The plan's models are files or factories.
    """
    return score(plan, resources, folder, progress, partial(_settle, folder=folder, engine=engine), warn)


def _settle(scoring: Scoring, ledger: Ledger, *, folder: Path, engine: Engine) -> None:
    """Do our own cells here, then those of strangers by the engine; accounts are kept in the order of the cells."""
    cells = scoring.cells()
    strange = [task for task in _tasks(scoring, ledger, folder) if task.task.stranger]
    apart = {task.cell.name: task for task in strange}
    for cell, make in cells:
        if cell.name not in apart:
            ledger.settle(cell, make)
    todo = [task.task for task in strange if not ledger.reuse(task.cell)]
    for done in engine.run(todo):
        record(apart[done.task.name], done)
    _sort(ledger, [cell for cell, _ in cells])


def _tasks(scoring: Scoring, ledger: Ledger, folder: Path) -> Iterator[CellTask]:
    """Every cell as a task; a worker is told of one method alone, so that it imports no other stranger."""
    for cell, _ in scoring.references():
        yield _task(scoring, ledger, folder, scoring.models[0], cell, ())
    for model in scoring.models:
        for cell, _ in model.cells(()):
            yield _task(scoring, ledger, folder, model, cell, ())
        for method in scoring.methods:
            for cell, _ in model.cells((method,)):
                if cell.explains:
                    yield _task(scoring, ledger, folder, model, cell, (method.text,))


def _task(
    scoring: Scoring, ledger: Ledger, folder: Path, model: ModelCells, cell: Cell, methods: tuple[str, ...]
) -> CellTask:
    plan = replace(scoring.plan, data=scoring.store.path.absolute(), models=(), methods=methods)
    words = ModelWords(
        _study(plan, scoring.store.fingerprint, folder, scoring.judge.resources), model.source, model.digest
    )
    stranger = stranger_in(cell, plan.metrics)
    return CellTask(cell, ledger, Task(cell.name, score_cell, (words, cell.name), stranger=stranger))


def _study(plan: ScoringPlan, fingerprint: str, folder: Path, resources: Resources) -> StudyWords:
    device, precision = resources.device, arithmetic_on(resources.device)
    words = StudyWords(plan, fingerprint, str(folder.absolute()), str(device), resources.batch)
    return replace(words, precision=precision)


def _sort(ledger: Ledger, cells: list[Cell]) -> None:
    """Bring what became of the cells into their order, whoever was first."""
    places = {cell.name: place for place, cell in enumerate(cells)}
    ledger.filed.sort(key=lambda name: places[name])
    rows = {(cell.about["method"], cell.about.get("model")): place for place, cell in enumerate(cells)}
    for entries in (ledger.skipped, ledger.failed):
        entries.sort(key=lambda entry: rows[entry["method"], entry.get("model")])


# Sanity.


class SanityWords(NamedTuple):
    """The sanity checks of a model in words that travel."""

    model: ModelWords
    plan: str  # as JSON
    folder: str  # for the models that a check trains


def sanity_apart(
    model: ModelSanity,
    source: str | Source,
    methods: list[Method],
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    engine: Engine,
) -> dict[str, Any]:
    """Check sanity as `trust.sanity.run.sanity` does, with the same numbers, but have an engine examine strangers.

    Args:
        source: where the classifier comes from: a file or a factory.
    """
    return sanity(model, methods, progress, examine=partial(_examine, model, _sanity_words(model, source), engine))


def _sanity_words(model: ModelSanity, source: str | Source) -> SanityWords:
    setting = model.setting
    store = setting.split.store
    plan = ScoringPlan(store.path.absolute(), (), (), ("iou",), setting.split.name, seed=setting.seed)
    study = _study(plan, store.fingerprint, setting.folder, setting.resources)
    words = ModelWords(study, source, setting.classifier.digest)
    return SanityWords(words, setting.plan.model_dump_json(), str(setting.folder.absolute()))


def _examine(model: ModelSanity, words: SanityWords, engine: Engine, method: Method) -> dict[str, Any]:
    """The result of a method; of a stranger's, what a worker answers."""
    stranger = stranger_of(method.text)
    if not stranger:
        return model.examine(method)
    (done,) = engine.run([Task(method.text, examine_stranger, (words, method.text), stranger=stranger)])
    if done.error is not None:
        raise Refusal(done.error)
    result, reason = done.value
    if reason:
        raise NotApplicable(reason)
    return dict(result)


def examine_stranger(words: SanityWords, method: str) -> tuple[dict[str, Any], str]:
    """Examine a stranger's method in a worker: its result ready for JSON, or why it does not apply to the model."""
    try:
        return without_nan(_open_sanity(words).examine(parse_method(method))), ""
    except NotApplicable as reason:
        return {}, str(reason)


@lru_cache(maxsize=1)
def _open_sanity(words: SanityWords) -> ModelSanity:
    """The random models of a model, drawn once in this process."""
    judge = open_once(words.model).judge
    plan: SanityPlan = sanity_plan_type().model_validate_json(words.plan)
    resources, folder = words.model.study.resources, Path(words.folder)
    return ModelSanity(classifier_of(words.model), judge.split, plan, resources, folder=folder, seed=judge.seed)
