"""Carry out an audit: from a plan to a folder of results and one page. An interrupted audit continues."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from filelock import FileLock, Timeout

from an8flower import spec as specs
from an8flower.errors import Refusal
from an8flower.generate import generate
from an8flower.sharding import Shard, merge
from an8flower.spec import DatasetSpec
from an8flower.store import FlowerStore
from an8flower.writing import waiting_for

from ..data.seal import DataSeal
from ..explaining.methods import parse_methods
from ..metrics.naming import expand as expand_metrics
from ..models.sources import Source, open_judged
from ..registry import is_factory
from ..report.page import write_page
from ..report.summary_cards import write_cards
from ..resources import settle_on
from ..results import files
from ..results.baseline import Baseline, open_baseline
from ..results.folder import RunFolder, list_parts
from ..results.ledger import Cell, Ledger
from ..results.manifest import write_manifest
from ..scoring.leading import check_leading
from ..scoring.run import Scoring, ScoringPlan, versions
from . import datasets, models
from .cell_tasks import CellTask, CostRecord, Progress, carry_out
from .engines.choose import engine_named
from .engines.task import Engine, Task
from .machine import count_sharers, count_workers, describe_machine, list_gpus
from .models import Training
from .open_study import OpenStudy
from .opened import STEADY
from .plan import Data, Plan
from .progress_log import LoggingReporter
from .required import check_requirements
from .stage import Stage, folders, rounds
from .study import StudyWords
from .summary import document as summary
from .tuning import StudyTuning, check_tuning, texts_of

NO_ROWS = np.empty(0, np.int64)  # of cells that are about no rows
SHARD_ROWS = 5000  # of a data set that is rendered on a cluster, at least
LARGEST_CLUSTER = 200  # shards of a data set, at most
ROUNDS = ("explaining, scoring and checking", "taking pictures, looking closer")  # what each round of stages does


@dataclass(frozen=True)
class How:
    """How an audit is carried out: but for `precision` none of this changes a number, so it is no part of the plan."""

    engine: str = "local"
    workers: int | None = None  # processes; None: one a core, but no more than GPUs have memory for
    threads: int = 1  # of each
    device: str = "auto"
    precision: str = "float32"  # or tf32: how a GPU multiplies; the names of cells tell which
    batch: int | None = None  # images in flight
    time_limit: float | None = 1800.0  # seconds a cell
    memory_limit: float | None = None  # GiB a process
    ray_address: str | None = None
    keep_maps: bool = False
    data_folder: Path = Path("data")
    trust: bool = False  # whether code that a model's file names may be imported


class ProgressReporter(Protocol):
    """The type of what shows how far an audit has come."""

    def stage(self, what: str) -> Any:
        """A context manager around a part of the work, which gives the `Progress` of that part."""
        ...

    def say(self, sentence: str) -> None:
        """Show a sentence to whoever waits."""
        ...


class SilentReporter:
    """A progress reporter that shows nothing."""

    @contextmanager
    def stage(self, what: str) -> Iterator[Progress]:
        """Ignore how far a part of the work has come."""
        yield lambda done, total: None

    def say(self, sentence: str) -> None:
        """Ignore what is said."""


class AuditOutcome(NamedTuple):
    """The folder, the page and the summary that an audit leaves."""

    folder: Path
    page: Path
    summary: dict[str, Any]
    done: int  # cells that were done now
    reused: int  # cells that lay there already

    @property
    def failed(self) -> list[dict[str, str]]:
        """The failed cells, each with data set, model, method and reason."""
        return list(self.summary["failed"])


def audit(
    plan: Plan,
    folder: Path | None = None,
    how: How | None = None,
    *,
    fresh: bool = False,
    reporter: ProgressReporter | None = None,
    command: str = "",
    warn: Callable[[str], None] = lambda sentence: None,
    against: Path | None = None,
) -> AuditOutcome:
    """Carry out a plan, except for what is done already, and write `summary.json` and `report.html`.

    Args:
        folder: where everything is filed; `runs/NAME` where None.
        fresh: do everything anew, and take nothing from other runs.
        command: the command line that does the same again; the page shows it.
        warn: is told, before anything is scored, which model is at chance or far below what its file states.
        against: the folder of a finished audit that every cell is compared with.

    Raises:
        Refusal: the plan cannot be begun, another audit is at work in the folder, nothing can be written there, or
            there is nothing to compare with.
    """
    folder = (folder or Path("runs") / plan.name).absolute()
    how, reporter = how or How(), reporter or SilentReporter()
    baseline = None if against is None else _open_baseline(against, folder, plan)
    with _alone_in(folder):
        files.sweep(folder, folders())
        try:
            neighbours = [] if fresh else files.neighbours(folder)
            logged = LoggingReporter(reporter, folder)
            whole = Audit(plan, folder, how, neighbours=neighbours, reporter=logged, warn=warn, baseline=baseline)
            return whole.run(command, fresh)
        except OSError as error:
            raise Refusal(
                f"{folder}: cannot be written ({error.strerror or error}); make room or choose another folder with -o; "
                "what is finished is kept, and the same command goes on from there"
            ) from error


class Audit:
    """A plan that is being carried out in a folder."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        how: How,
        *,
        neighbours: Sequence[Path],
        reporter: ProgressReporter,
        warn: Callable[[str], None],
        baseline: Baseline | None = None,
    ) -> None:
        self.plan, self.folder, self.how, self.neighbours, self.reporter = plan, folder, how, neighbours, reporter
        self.warn, self.baseline = warn, baseline
        self.device = str(settle_on(how.device, how.precision))
        self.costs = CostRecord(folder / files.COSTS)
        self.training = Ledger(RunFolder(folder))

    def run(self, command: str, fresh: bool = False) -> AuditOutcome:
        """Compute every cell that has no result, and write the summary and the page."""
        check_leading(self.plan.leading, self.plan.metrics)
        check_requirements(self.plan, compares=self.baseline is not None)
        check_tuning(self.plan)
        self._compare_data([(self._data_name(entry), None) for entry in self.plan.data])
        with self._engine() as engine:
            stores = [self._data(entry, engine) for entry in self.plan.data]
            self._compare_data([(store.name, store.digest) for store in stores])
            self._data_seals = [DataSeal(store) for store in stores]
            if fresh:  # not before: an audit that cannot begin removes nothing
                files.clear(self.folder, folders())
                self.costs.seconds.clear()
            files.write_json(self.folder / files.PLAN, {"plan": self.plan.document(), **self._circumstances()})
            self._train(stores, engine)
            studies = self._carry_out_stages([self._open(store, engine) for store in stores], engine)
        with self.reporter.stage("summing up"):
            document = summary.summarise(self.plan, studies, self.training, self.baseline)
            document |= {**self._circumstances(), "command": command, "seconds": sum(self.costs.seconds.values())}
            files.write_json(self.folder / "summary.json", document)
        with self.reporter.stage("writing the page"):
            page = write_page(self.folder)
            write_cards(self.folder)
            weights = [path for store in stores for path in self._weights(store)]
            parts = [RunFolder(self.folder).part(name) for name in list_parts(document)]
            write_manifest(self.folder, [store.path for store in stores], weights, document["versions"], parts)
        ledgers = [self.training, *(stage.ledger for stages in studies for stage in stages.values())]
        done, reused = (sum(getattr(ledger, name) for ledger in ledgers) for name in ("done", "reused"))
        return AuditOutcome(self.folder, page, document, done, reused)

    def _engine(self) -> Engine:
        how, devices, workers = self.how, list_gpus(self.device), self._workers
        limits = {"time_limit": how.time_limit, "memory_limit": how.memory_limit}
        return engine_named(
            how.engine, workers=workers, threads=how.threads, devices=devices, address=how.ray_address, **limits
        )

    @property
    def _workers(self) -> int:
        """How many processes work at once."""
        cores = (os.cpu_count() or 1) // self.how.threads
        return self.how.workers or count_workers(cores, list_gpus(self.device))

    @property
    def _sharers(self) -> int:
        """How many processes work on one GPU at once."""
        if self.how.engine == "inline":
            return 1
        gpus = list_gpus(self.device)
        if self.how.engine == "ray":  # the GPUs of a cluster are like those of its head
            return min(map(count_sharers, gpus), default=1)
        return math.ceil(self._workers / max(1, len(gpus)))

    def _data(self, entry: Data, engine: Engine) -> FlowerStore:
        """Open a data set of the plan; one with a spec is rendered first if its file is missing or damaged."""
        if entry.file:
            store = FlowerStore(entry.file)
            self._refuse_damaged(store)
            return store
        changes = {"rows": entry.rows, "size": entry.size, "seed": entry.seed}
        wanted = specs.load(str(entry.spec)).with_changes(**changes, agreement=entry.agreement)
        path = datasets.choose_path(self.how.data_folder, entry, wanted)
        if not path.exists() or datasets.list_damage(path):
            with self.reporter.stage(f"rendering {wanted.name}") as progress:
                self._render(wanted, path, engine, progress)
        return FlowerStore(path)

    def _compare_data(self, data: Sequence[tuple[str, str | None]]) -> None:
        """Raise a Refusal if there is an earlier run to compare with, and it is of other data."""
        if self.baseline:
            self.baseline.refuse_other_data(data, self.plan.split, self.plan.target, self.plan.truth)

    def _data_name(self, entry: Data) -> str:
        if entry.file:
            return FlowerStore(entry.file).name
        return specs.load(str(entry.spec)).with_changes(agreement=entry.agreement).name

    def _render(self, spec: DatasetSpec, path: Path, engine: Engine, progress: Progress) -> None:
        """Render a data set in this process on all cores; a large one on a Ray cluster, in shards.

        Another audit that renders the same is waited for.
        """
        on_wait = partial(self.reporter.say, waiting_for(path))
        shards = min(spec.rows.total // SHARD_ROWS, LARGEST_CLUSTER)
        if self.how.engine != "ray" or shards < 2:
            generate(spec, path, force=True, on_wait=on_wait)
            return
        folder = path.with_name(f"{path.stem}-shards")
        tasks = []
        for number in range(1, shards + 1):
            cell = Cell(f"{path.stem}-{number}of{shards}", (), NO_ROWS, {"method": "rendering", "model": spec.name})
            arguments = (spec.to_json(), number, shards, str(folder.absolute()))
            task = Task(cell.label, datasets.render_shard, arguments, self.how.threads)
            tasks.append(CellTask(cell, self.training, task))
        carry_out(tasks, engine, self.costs, progress)
        places = [Shard(number, shards).place(spec, folder) for number in range(1, shards + 1)]
        merge(spec, places, path, force=True, on_wait=on_wait)

    def _refuse_damaged(self, store: FlowerStore) -> None:
        if broken := datasets.list_damage(store.path):
            raise Refusal(f"{store.path}: {', '.join(broken)} damaged; put a whole file there, or import it again")

    def _train(self, stores: Sequence[FlowerStore], engine: Engine) -> None:
        """Train the models of the plan that do not exist yet."""
        wanted = [(store, training) for store in stores for training in self._trainings(store)]
        for waits in (False, True):
            self._train_together([pair for pair in wanted if pair[1].waits == waits], engine)

    def _trainings(self, store: FlowerStore) -> list[Training]:
        return models.list_trainings(self.plan, self.folder, store)

    def _train_together(self, wanted: Sequence[tuple[FlowerStore, Training]], engine: Engine) -> None:
        """Train those of some models that do not exist yet, in any order."""
        tasks = [
            self._training_task(store, training)
            for store, training in wanted
            if not models.find_or_take(training, store, neighbours=self.neighbours)
        ]
        if tasks:
            with self.reporter.stage(f"training {len(tasks)} model{'s' * (len(tasks) > 1)}") as progress:
                carry_out(tasks, engine, self.costs, progress)

    def _training_task(self, store: FlowerStore, training: Training) -> CellTask:
        """The task that trains one model."""
        where, entry, seed, _ = training
        cell = Cell(where.stem, (), NO_ROWS, {"method": "training", "model": where.stem})
        arguments = (str(where), str(store.path.absolute()), entry.model_dump_json(), seed, self.device)
        gpus = 1.0 if self._on_gpu else 0.0  # the rows lie on it as a whole
        return CellTask(
            cell, self.training, Task(where.stem, models.train_model, arguments, self.how.threads, gpus=gpus)
        )

    @property
    def _on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def _open(self, store: FlowerStore, engine: Engine) -> OpenStudy:
        """Open a data set with all models that could be trained or are named by the plan, and all its methods."""
        tuned = self._tune(store, engine)
        words = self._words(store, texts_of(tuned))
        scoring = words.open(*self._sources(store))
        self._refuse_unsteady(scoring)
        if self.baseline:
            self.baseline.refuse_other_cards(scoring.cards())
        scoring.check_accuracy(self.warn)
        return OpenStudy(
            plan=self.plan,
            words=words,
            scoring=scoring,
            neighbours=self.neighbours,
            threads=self.how.threads,
            gpus=1 / self._sharers if self._on_gpu else 0.0,
            tuned=tuned,
        )

    def _tune(self, store: FlowerStore, engine: Engine) -> list[dict[str, Any]]:
        """Tune the methods that the plan wants to have tuned, on validation rows; nothing if it wants none."""
        if getattr(self.plan, "tune", None) is None:
            return []

        def do(tasks: Sequence[CellTask]) -> None:
            carry_out(tasks, engine, self.costs, lambda done, total: None, self._check_data)

        gpus = 1 / self._sharers if self._on_gpu else 0.0
        words, sources = self._words(store), self._sources(store)
        tuning = StudyTuning(self.plan, words, sources, self.neighbours, self.how.threads, gpus, do)
        with self.reporter.stage("tuning") as progress:
            return tuning.run(progress)

    def _words(self, store: FlowerStore, tuned: tuple[str, ...] = ()) -> StudyWords:
        """The description of a data set by which workers open it; tuned methods are scored after those of the plan."""
        plan = self.plan
        request = ScoringPlan(
            data=store.path.absolute(),
            models=(),
            methods=tuple(method.text for method in parse_methods([*plan.methods, *tuned])),
            metrics=plan.metrics,
            split=plan.split,
            rows=self._count_rows(store),
            target=plan.target,
            truth=plan.truth,
            seed=plan.seed,
            leading=plan.leading,
        )
        return StudyWords(
            plan=request,
            fingerprint=store.fingerprint,
            folder=str(self.folder),
            device=self.device,
            batch=self.how.batch,
            keep_maps=self.how.keep_maps,
            precision=self.how.precision,
            sharers=self._sharers,
        )

    def _count_rows(self, store: FlowerStore) -> int | None:
        """How many rows of a data set are scored: as many as the plan asks for, or all where there are fewer (None)."""
        plan = self.plan
        available = len(store[plan.split]) if plan.split in store.splits else None
        if plan.rows is None or available is None or plan.rows <= available:
            return plan.rows
        self.reporter.say(f"{store.path}: all {available} rows of {plan.split} are scored; {plan.rows} were asked for")
        return None

    def _refuse_unsteady(self, scoring: Scoring) -> None:
        """Raise a Refusal if a factory gives another model at a second call, since every worker calls it anew."""
        for model in scoring.models:
            source = model.source if isinstance(model.source, Source) else Source.of(model.source)
            if is_factory(str(source.model)):
                again = open_judged(source, scoring.store, scoring.judge.resources.device)
                if again.digest != model.digest:
                    raise Refusal(f"{model.source}: is another model each time; {STEADY}")

    def _sources(self, store: FlowerStore) -> list[Source]:
        """The sources of all models of a data set: the trained ones, then those that the plan names."""
        sources = [
            Source(str(training.where), trust=str(training.entry.arch))
            for training in self._trainings(store)
            if models.is_meant(training.where, store, training.entry, training.seed)
        ]
        sources += [models.named_source(entry, self.how.trust) for entry in self.plan.models if entry.source]
        if not sources:
            reason = self.training.failed[0]["reason"]
            raise Refusal(f"{store.path}: none of its models could be trained; the first: {reason}")
        return sources

    def _weights(self, store: FlowerStore) -> list[Path]:
        """The files of the models of a data set; what a factory makes without a file has none."""
        sources = self._sources(store)
        places = [place for source in sources for place in (source.weights, source.model) if place is not None]
        return [path for place in places if (path := Path(str(place))).is_file()]

    def _carry_out_stages(self, studies: Sequence[OpenStudy], engine: Engine) -> list[Mapping[str, Stage]]:
        """Carry out every stage of every data set, round by round; returns the stages of each data set by name."""
        stages: list[dict[str, Stage]] = [{} for _ in studies]
        for number, kinds in enumerate(rounds()):
            for study, earlier in zip(studies, stages, strict=True):
                earlier |= {kind.name: kind(study, dict(earlier)) for kind in kinds}
            current = [of_study[kind.name] for of_study in stages for kind in kinds]
            with self.reporter.stage(ROUNDS[min(number, len(ROUNDS) - 1)]) as progress:
                tasks = [task for stage in current for task in stage.tasks()]
                carry_out(tasks, engine, self.costs, progress, self._check_data)
        return list(stages)

    def _check_data(self) -> None:
        """Raise a Refusal if a data set is not what it was when it was found whole."""
        for seal in self._data_seals:
            seal.check()

    def _circumstances(self) -> dict[str, Any]:
        """The versions and the machine that the numbers may depend on."""
        return {"versions": versions(), "machine": describe_machine(self.device)}


def _open_baseline(against: Path, folder: Path, plan: Plan) -> Baseline:
    """Open the run that a plan is compared with; raises Refusal if it is the audit itself, or of other metrics."""
    if against.resolve() == folder.resolve():
        raise Refusal(
            f"{against}: is the folder of this audit itself, whose results it replaces; choose another one with -o"
        )
    baseline = open_baseline(against)
    baseline.refuse_other_metrics([name for text in plan.metrics for name in expand_metrics(text)])
    return baseline


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder against other audits while the block runs; raises Refusal if one is at work there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise Refusal(
            f"{folder}: another audit is at work there; wait until it is through, or choose another folder with -o"
        ) from None
    except OSError as error:
        raise Refusal(f"{folder}: cannot be written ({error.strerror}); choose another folder with -o") from None
    try:
        yield
    finally:
        lock.release()
