"""The stages about marks: innocent models are trained, then models and methods are asked about the marks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel

from an8flower.errors import NotApplicable

from ...results import answers, files
from ...results.ledger import Cell, Ledger
from ..cell_tasks import CellOutcome, CellTask, FileLedger, run_cell
from ..plan_table import Count, PlanTable, to_words
from ..stage import Stage, register

if TYPE_CHECKING:
    from ...data.marked import MarkedRows
    from ...scoring.model_cells import ModelCells
    from ...trust.mark_use import MarkUse
    from ..open_study import OpenStudy
    from ..opened import ModelWords
    from ..plan import Models


class MarkTable(PlanTable):
    """The options of the questions about marks: how many rows, and whether innocent models are trained."""

    rows: Count = 120  # or all if there are fewer
    innocent: bool = True


class InnocentLedger(FileLedger):
    """The ledger of innocent models: a document for each, and the model's file among the models."""

    def has(self, cell: Cell) -> bool:
        """Whether document and model are there; those of another run are taken."""
        if not super().has(cell):
            return False
        where = innocent_model(self.run.folder, cell)
        if not where.is_file():
            for run in self._neighbours:
                if (other := innocent_model(run, cell)).is_file():
                    files.link_or_copy(other, where)
                    break
        return where.is_file()


def innocent_model(folder: Path, cell: Cell) -> Path:
    """The path of an innocent model in the folder of a run."""
    return folder / "models" / f"innocent-{cell.name}.safetensors"


def has_marks(study: OpenStudy) -> bool:
    """Whether a data set has marks that can be exchanged."""
    from ...data.marked import marked_rows

    judge = study.scoring.judge
    try:
        marked_rows(judge.split, judge.resources.device)
    except NotApplicable:
        return False
    return True


@register
class InnocentStage(Stage):
    """The stage that trains an innocent model beside each model that the plan trains."""

    name = "innocents"
    folders = ("innocents",)
    rank = 0

    @property
    def options(self) -> Any:
        """The plan's table `[marks]`, if it asks for innocent models."""
        options = getattr(self.study.plan, MarkStage.key)
        return options if options and options.innocent else None

    def open_ledger(self) -> Ledger:
        """Make the ledger of documents with models beside them."""
        return InnocentLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Models, int, Cell]]:
        """One cell for each model that the plan trains."""
        if not (self.options and has_marks(self.study)):
            return []
        from .. import models

        store, folder = self.study.scoring.store, Path(self.study.words.folder)
        trained = {
            str(training.where): (training.entry, training.seed)
            for training in models.list_trainings(self.study.plan, folder, store)
            if not training.waits  # what starts from a model that has seen the marks is not innocent
        }
        pairs = [(model, trained.get(str(getattr(model.source, "model", "")))) for model in self.study.scoring.models]
        return [(model, *pair, self.cell(model, "", "Innocent()")) for model, pair in pairs if pair]

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that train the innocent models."""
        for model, entry, seed, cell in self.cells:
            where = innocent_model(Path(self.study.words.folder), cell)
            arguments = (self.words_of(model), entry.model_dump_json(), seed, str(where), self.place(cell))
            yield self.task(cell, train_innocent, *arguments)

    def to_document(self) -> dict[str, Any]:
        """Nothing: what comes of innocent models stands with the marks."""
        return {}


@register
class MarkStage(Stage):
    """The stage that asks models whether they go by the mark, and methods whether they show it."""

    name = "marks"
    folders = ("marks",)
    after = ("innocents",)
    rank = 2
    key = "marks"
    default = MarkTable()
    reduced: ClassVar = {"mark_rows": "rows"}

    @classmethod
    def table(cls) -> type[BaseModel]:
        """The type of the plan's table `[marks]`."""
        return MarkTable

    @cached_property
    def words(self) -> str:
        """The options as the names of cells depend on them."""
        return to_words(self.options, "Marks")

    @cached_property
    def innocents(self) -> dict[str, ModelWords]:
        """The innocent models by the names of the models that they stand beside."""
        from ...models.sources import Source
        from ..opened import ModelWords

        stage = self.earlier["innocents"]
        assert isinstance(stage, InnocentStage)
        words: dict[str, ModelWords] = {}
        for model, entry, _, cell in stage.cells:
            document = answers.read_document(Path(stage.place(cell)))
            if document:
                where = innocent_model(Path(self.study.words.folder), cell)
                source = Source(str(where), trust=str(entry.arch))
                words[model.name] = ModelWords(self.study.words, source, document["digest"])
        return words

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str | None, Cell]]:
        """For each model one cell for what it goes by (method None), then one for each method."""
        if not (self.options and has_marks(self.study)):
            return []
        methods = [method.text for method in self.study.scoring.methods]
        return [
            (model, method, self.cell(model, method or "", self._words_of(model)))
            for model in self.study.scoring.models
            for method in (None, *methods)
        ]

    def _words_of(self, model: ModelCells) -> str:
        innocent = self.innocents.get(model.name)
        return f"{self.words} {innocent.digest if innocent else ''}"

    def tasks(self) -> Iterator[CellTask]:
        """The tasks that ask each model, and each method on each model."""
        for model, method, cell in self.cells:
            pair = ModelPair(self.words_of(model), self.innocents.get(model.name))
            yield self.task(cell, ask_about_marks, pair, method, self.options.rows, self.place(cell))

    def to_document(self) -> dict[str, Any]:
        """For each model its certificate, that of its innocent twin, and what each method shows."""
        documents = [self._document_of(model) for model in self.study.scoring.models] if self.cells else []
        return {"marks": [document for document in documents if document]}

    def _document_of(self, model: ModelCells) -> dict[str, Any] | None:
        results = [answers.read_document(Path(self.place(cell))) for owner, _, cell in self.cells if owner is model]
        certificate, *methods = results
        return {**certificate, "methods": [document for document in methods if document]} if certificate else None


class ModelPair(NamedTuple):
    """A model, and the innocent one beside it, if there is one."""

    model: ModelWords
    innocent: ModelWords | None


def train_innocent(model: ModelWords, entry: str, seed: int, where: str, place: str) -> CellOutcome:
    """Train a model as an entry of the plan says (as JSON) on marks that say nothing, and file it."""
    from ...trust.innocent import write_innocent_data
    from ..models import train_and_save
    from ..opened import open_once
    from ..plan import Models

    def make() -> None:
        data = write_innocent_data(open_once(model).store, Path(where).parent)
        wanted = Models.model_validate_json(entry)
        classifier = train_and_save(Path(where), data, wanted, seed, model.study.device)
        answers.write_document(Path(place), {"digest": classifier.digest})

    return run_cell(make)


def ask_about_marks(pair: ModelPair, method: str | None, rows: int, place: str) -> CellOutcome:
    """Ask what a model goes by, or (with a method) whether a method shows the mark, and file the answer."""

    def make() -> None:
        document = _describe_models(pair, rows) if method is None else _judge_method(pair, method, rows)
        answers.write_document(Path(place), document)

    return run_cell(make)


def _describe_models(pair: ModelPair, rows: int) -> dict[str, Any]:
    """What the model goes by, and what its innocent twin does."""
    from ...trust.mark_use import certify_marks
    from ..opened import classifier_of, open_once, whole

    documents = []
    for words in filter(None, pair):
        with whole(words, use_of):
            judge, (marked, use) = open_once(words).judge, use_of(words, rows)
            documents.append(certify_marks(classifier_of(words).name, marked.name, use, judge.seed).to_document())
    innocent = documents[1] if pair.innocent else None
    return {**documents[0], "agreement": dict(marked.agreement), "innocent": innocent}


def _judge_method(pair: ModelPair, method: str, rows: int) -> dict[str, Any]:
    """Whether a method shows the mark in the rows in which the models use it, and in those in which they do not."""
    from ...explaining.explain import explain
    from ...trust.detection import decide_maps, sum_up
    from ..opened import classifier_of, fit_method, open_once, whole

    decided = []
    for words in filter(None, pair):
        with whole(words, use_of):
            ready, judge, (marked, use) = fit_method(words, method), open_once(words).judge, use_of(words, rows)
            query = judge.case(classifier_of(words), use.indices, use.predicted).query
            query = query._replace(targets=query.targets.new_tensor(use.predicted))
            maps = explain(classifier_of(words), ready.explainer, query, judge.resources.in_flight).maps
            decided.append((decide_maps(maps.float().cpu().numpy(), marked.regions(use.indices), judge.seed), use))
    return sum_up(decided, judge.seed).to_document(method, marked.name)


@lru_cache(maxsize=4)
def use_of(model: ModelWords, rows: int) -> tuple[MarkedRows, MarkUse]:
    """The marked rows of a study, and what exchanging marks does to a model on so many of them; once in a process."""
    from ...data.marked import marked_rows
    from ...data.selection import select_rows
    from ...seeds import seed_of
    from ...trust.mark_use import measure_mark_use
    from ..opened import classifier_of, open_once

    judge = open_once(model).judge
    marked, labels = marked_rows(judge.split, judge.resources.device), judge.split.labels
    indices = select_rows(labels, min(rows, len(labels)), seed_of("rows", judge.seed))
    batch = judge.resources.in_flight
    return marked, measure_mark_use(classifier_of(model), marked, indices, seed=judge.seed, batch=batch)
