"""Stages of an audit: each has a table in the plan, cells for each data set, and a part of the summary.

A stage is a class that a file of the folder `stages` registers; `stages_by_name` lists them.
Nothing here loads torch, since the plan takes its tables from the stages.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel

from an8flower.errors import Refusal

from ..results.ledger import Cell, Ledger
from .cell_tasks import CellOutcome, CellTask, FileLedger
from .engines.task import Task

if TYPE_CHECKING:
    from ..scoring.model_cells import ModelCells
    from .open_study import OpenStudy
    from .opened import ModelWords

SHARED_FOLDERS = ("failed", "models")
"""The folders of a run that belong to no stage."""


class Stage(ABC):
    """One stage of an audit of one data set."""

    name: ClassVar[str]  # of the stage, in the names of cells and for `after`
    folders: ClassVar[tuple[str, ...]]  # of the run: the first holds the results of the cells
    suffix: ClassVar[str] = ".json"  # of the file with a result
    version: ClassVar[int] = 1  # of the filed results: a new version computes them anew
    after: ClassVar[tuple[str, ...]] = ()  # the stages whose results it reads: their cells are done before
    rank: ClassVar[float] = math.inf  # among the stages that are done at the same time, the smallest first
    key: ClassVar[str] = ""  # of its table in the plan; empty where it has none
    default: ClassVar[BaseModel | None] = None  # the table of a plan that does not mention the stage
    reduced: ClassVar[Mapping[str, str]] = {}  # keys of [reduced], and the keys of the stage's table that they replace

    def __init__(self, study: OpenStudy, earlier: Mapping[str, Stage]) -> None:
        self.study, self.earlier = study, earlier
        self.ledger: Ledger = self.open_ledger()

    @classmethod
    def table(cls) -> type[BaseModel] | None:
        """The type of the stage's table in the plan; None if it has no table."""
        return None

    @abstractmethod
    def tasks(self) -> Iterator[CellTask]:
        """The cells of this stage, each with the task that computes it."""

    @abstractmethod
    def to_document(self) -> dict[str, Any]:
        """The part of the summary that this stage contributes; called after its cells."""

    def open_ledger(self) -> Ledger:
        """Make the ledger that records the outcome of each cell."""
        return FileLedger(self.study.run, self.folders[0], self.suffix, self.study.neighbours)

    @property
    def options(self) -> Any:
        """The table of this stage in the plan; None if the plan leaves the stage out."""
        return getattr(self.study.plan, self.key) if self.key else None

    def place(self, cell: Cell) -> str:
        """The path of the file with the result of a cell."""
        assert isinstance(self.ledger, FileLedger), f"{self.name} files no results of its own"
        return str(self.ledger.place(cell))

    def cell(self, model: ModelCells, method: str, words: str) -> Cell:
        """The cell of a model and a method, or of a model alone if the method is empty.

        The cell's name depends on the words, which describe the options, and on data, seed, model and version.
        """
        judge = self.study.scoring.judge
        data = (*judge.data, *judge.arithmetic, str(judge.seed), judge.target)
        data = (*data, *([judge.truth] if judge.truth != "association" else []))  # so that names of before stay
        identity = (self.name, str(self.version), *data, model.digest, method, words)
        label = "-".join(filter(None, [model.name, method.partition(":")[0]]))
        about = {"method": method or self.name, "model": model.name}
        return Cell(label, identity, self.study.scoring.chosen[:0], about)

    def words_of(self, model: ModelCells) -> ModelWords:
        """The description by which a worker opens a model of this data set."""
        from .opened import ModelWords

        return ModelWords(self.study.words, model.source, model.digest)

    def task(self, cell: Cell, call: Callable[..., CellOutcome], *arguments: Any) -> CellTask:
        """A cell with the module-level function that computes it, and the arguments of that function."""
        stranger = self.study.stranger_of(cell)
        task = Task(cell.name, call, arguments, self.study.threads, gpus=self.study.gpus, stranger=stranger)
        return CellTask(cell, self.ledger, task)


AnyStage = TypeVar("AnyStage", bound=type[Stage])
REGISTERED: dict[str, type[Stage]] = {}


def register(stage: AnyStage) -> AnyStage:
    """Class decorator: make a stage part of every audit; raises Refusal if its name is taken."""
    if stage.name in REGISTERED:
        raise Refusal(f"there is a stage {stage.name} already; give the other one another name")
    REGISTERED[stage.name] = stage
    return stage


def stages_by_name() -> dict[str, type[Stage]]:
    """Every stage by its name, in the order in which they are done."""
    package = importlib.import_module(".stages", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(REGISTERED.items(), key=lambda item: (_round_of(item[1]), item[1].rank)))


def rounds() -> list[list[type[Stage]]]:
    """The stages in rounds: a stage reads only results of earlier rounds, so that one round runs at once."""
    stages = list(stages_by_name().values())
    last = max(map(_round_of, stages))
    return [[stage for stage in stages if _round_of(stage) == number] for number in range(last + 1)]


def folders() -> Sequence[str]:
    """The folders of a run that an audit fills; everything in them can be computed again."""
    return [*(folder for stage in stages_by_name().values() for folder in stage.folders), *SHARED_FOLDERS]


def _round_of(stage: type[Stage]) -> int:
    return max((_round_of(REGISTERED[name]) + 1 for name in stage.after), default=0)
