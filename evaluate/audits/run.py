"""The audit: a plan in, a folder of results and one page out. It goes on where it was interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

from ..explaining.methods import parse_methods
from ..models.sources import Source, open_model
from ..registry import is_factory
from ..report.page import write_page
from ..resources import device_named
from ..results import files
from ..results.folder import Run
from ..results.ledger import Cell, Ledger
from ..scoring.run import Scoring, versions
from . import datasets, models
from .aspects import Certificates, Filters, Pictures, SanityChecks, Scores
from .desk import Aspect, Desk
from .engines.choose import engine_named
from .engines.task import Engine, Task
from .machine import gpus, machine
from .pieces import Piece, Progress, Tally, carry_out
from .plan import Data, Plan
from .study import Study
from .summary import document as summary
from .work import STEADY, render_shard, train_model

NO_ROWS = np.empty(0, np.int64)  # of cells that are about no rows
SHARD_ROWS = 5000  # of a data set that is rendered on a cluster, at least
LARGEST_CLUSTER = 200  # shards of a data set, at most


@dataclass(frozen=True)
class How:
    """How an audit is carried out: none of this changes a number, so none of it is part of the plan."""

    engine: str = "local"
    workers: int | None = None  # processes; None: one a core, or one a GPU
    threads: int = 1  # of each
    device: str = "auto"
    batch: int | None = None  # images in flight
    time_limit: float | None = 1800.0  # seconds a cell
    memory_limit: float | None = None  # GiB a process
    ray_address: str | None = None
    keep_maps: bool = False
    data_folder: Path = Path("data")


class Tell(Protocol):
    """Whom progress is told to."""

    def say(self, sentence: str) -> None:
        """Something that happened."""
        ...

    def stage(self, what: str) -> Any:
        """A context manager that gives the `Progress` of a stage."""
        ...


class Silent:
    """Nobody."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    @contextmanager
    def stage(self, what: str) -> Iterator[Progress]:
        """Nothing."""
        yield lambda done, total: None


class Outcome(NamedTuple):
    """What came of an audit."""

    folder: Path
    page: Path
    summary: dict[str, Any]
    done: int  # cells that were done now
    reused: int  # cells that lay there already

    @property
    def failed(self) -> list[dict[str, str]]:
        """The cells that failed."""
        return list(self.summary["failed"])


def audit(
    plan: Plan,
    folder: Path | None = None,
    how: How | None = None,
    *,
    fresh: bool = False,
    tell: Tell | None = None,
    command: str = "",
) -> Outcome:
    """Carry out a plan, whatever of it is not done yet, and write `summary.json` and `report.html`.

    Args:
        folder: where everything is filed; `runs/NAME` where None.
        fresh: do everything anew, and take nothing from other runs.
        command: how to do the same again, for the page.

    Raises:
        Refusal: the plan cannot be begun, another audit is at work in the folder, or nothing can be written there.
    """
    folder = (folder or Path("runs") / plan.name).absolute()
    how, tell = how or How(), tell or Silent()
    with _alone_in(folder):
        if fresh:
            files.clear(folder)
        files.sweep(folder)
        try:
            return Audit(plan, folder, how, [] if fresh else files.neighbours(folder), tell).run(command)
        except OSError as error:
            raise Refusal(
                f"{folder}: cannot be written ({error.strerror or error}); make room or choose another folder with -o; "
                "what is finished is kept, and the same command goes on from there"
            ) from error


class Audit:
    """A plan on its way."""

    def __init__(self, plan: Plan, folder: Path, how: How, neighbours: Sequence[Path], tell: Tell) -> None:
        self.plan, self.folder, self.how, self.neighbours, self.tell = plan, folder, how, neighbours, tell
        self.device = str(device_named(how.device))
        self.tally = Tally(folder / files.COSTS)
        self.training = Ledger(Run(folder))

    def run(self, command: str) -> Outcome:
        """All of it."""
        files.write_json(self.folder / "plan.json", {"plan": self.plan.document(), **self._circumstances()})
        with self._engine() as engine:
            stores = [self._data(entry, engine) for entry in self.plan.data]
            self._train(stores, engine)
            desks = [self._desk(store) for store in stores]
            first = [(Scores(desk), Certificates(desk), SanityChecks(desk)) for desk in desks]
            self._carry_out("explaining, scoring and checking", [each for three in first for each in three], engine)
            second = [(Pictures(desk, own[0]), Filters(desk, own[0])) for desk, own in zip(desks, first, strict=True)]
            self._carry_out("taking pictures", [each for two in second for each in two], engine)
        aspects = [(*one, *two) for one, two in zip(first, second, strict=True)]
        with self.tell.stage("summing up"):
            document = summary.summarise(self.plan, desks, aspects, self.training)
            document |= {**self._circumstances(), "command": command, "seconds": sum(self.tally.seconds.values())}
            files.write_json(self.folder / "summary.json", document)
        with self.tell.stage("writing the page"):
            page = write_page(self.folder)
        ledgers = [self.training, *(aspect.ledger for own in aspects for aspect in own)]
        done, reused = (sum(getattr(ledger, name) for ledger in ledgers) for name in ("done", "reused"))
        return Outcome(self.folder, page, document, done, reused)

    def _engine(self) -> Engine:
        how, devices = self.how, gpus(self.device)
        workers = how.workers or len(devices) or max(1, (os.cpu_count() or 1) // how.threads)
        limits = {"time_limit": how.time_limit, "memory_limit": how.memory_limit}
        return engine_named(
            how.engine, workers=workers, threads=how.threads, devices=devices, address=how.ray_address, **limits
        )

    def _data(self, entry: Data, engine: Engine) -> FlowerStore:
        """A data set that is there and whole; what has a spec is rendered where it is not."""
        if entry.file:
            store = FlowerStore(entry.file)
            self._refuse_damaged(store)
            return store
        wanted = specs.load(str(entry.spec)).with_changes(rows=entry.rows, size=entry.size, seed=entry.seed)
        path = datasets.place(self.how.data_folder, entry, wanted)
        if not path.exists() or datasets.damaged(path):
            with self.tell.stage(f"rendering {wanted.name}") as progress:
                self._render(wanted, path, engine, progress)
        return FlowerStore(path)

    def _render(self, spec: DatasetSpec, path: Path, engine: Engine, progress: Progress) -> None:
        """In this process, which takes all cores of its machine; what is large, on a cluster, in shards."""
        shards = min(spec.rows.total // SHARD_ROWS, LARGEST_CLUSTER)
        if self.how.engine != "ray" or shards < 2:
            generate(spec, path, force=True)
            return
        folder = path.with_name(f"{path.stem}-shards")
        pieces = []
        for number in range(1, shards + 1):
            cell = Cell(f"{path.stem}-{number}of{shards}", (), NO_ROWS, {"method": "rendering", "model": spec.name})
            arguments = (spec.to_json(), number, shards, str(folder.absolute()))
            pieces.append(Piece(cell, self.training, Task(cell.label, render_shard, arguments, self.how.threads)))
        carry_out(pieces, engine, self.tally, progress)
        merge(spec, [Shard(number, shards).place(spec, folder) for number in range(1, shards + 1)], path, force=True)

    def _refuse_damaged(self, store: FlowerStore) -> None:
        if broken := datasets.damaged(store.path):
            raise Refusal(f"{store.path}: {', '.join(broken)} damaged; put a whole file there, or import it again")

    def _train(self, stores: Sequence[FlowerStore], engine: Engine) -> None:
        """The models that are not there."""
        pieces = []
        for store in stores:
            for entry, seed in models.trained(self.plan):
                where = models.place(self.folder, store, entry, seed)
                if not models.there(where, store, entry, seed, self.neighbours):
                    about = {"method": "training", "model": where.stem}
                    cell = Cell(where.stem, (), NO_ROWS, about)
                    arguments = (str(store.path.absolute()), entry.arch, seed, entry.epochs, self.device, str(where))
                    task = Task(where.stem, train_model, arguments, self.how.threads, 1.0 if self._on_gpu else 0.0)
                    pieces.append(Piece(cell, self.training, task))
        if pieces:
            with self.tell.stage(f"training {len(pieces)} model{'s' * (len(pieces) > 1)}") as progress:
                carry_out(pieces, engine, self.tally, progress)

    @property
    def _on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def _desk(self, store: FlowerStore) -> Desk:
        """A data set with all its models that are there, opened."""
        plan = self.plan
        study = Study(
            str(store.path.absolute()),
            store.digest,
            tuple(method.text for method in parse_methods(plan.methods)),
            plan.metrics,
            plan.split,
            plan.rows,
            plan.target,
            plan.seed,
            str(self.folder),
            self.device,
            self.how.batch,
            self.how.keep_maps,
        )
        opened = study.open(*self._sources(store))
        self._refuse_unsteady(opened)
        return Desk(plan, study, opened, self.neighbours, self.how.threads, self._on_gpu)

    def _refuse_unsteady(self, opened: Scoring) -> None:
        """Workers open a model anew, so that it has to be the same each time."""
        for model in opened.models:
            if is_factory(str(Source.of(model.source).model)):
                again = open_model(model.source, opened.store, opened.judge.resources.device)
                if again.digest != model.digest:
                    raise Refusal(f"{model.source}: is another model each time; {STEADY}")

    def _sources(self, store: FlowerStore) -> list[str]:
        trained = [(models.place(self.folder, store, *each), *each) for each in models.trained(self.plan)]
        there = [str(where) for where, entry, seed in trained if models.is_meant(where, store, entry, seed)]
        given = [(entry.source, entry.weights) for entry in self.plan.models if entry.source]
        found = there + [str(Source(place, Path(weights).absolute() if weights else None)) for place, weights in given]
        if not found:
            reasons = [told["reason"] for told in self.training.failed]
            raise Refusal(f"{store.path}: none of its models could be trained; the first: {reasons[0]}")
        return found

    def _carry_out(self, what: str, aspects: Sequence[Aspect], engine: Engine) -> None:
        pieces = [piece for aspect in aspects for piece in aspect.pieces()]
        with self.tell.stage(what) as progress:
            carry_out(pieces, engine, self.tally, progress)

    def _circumstances(self) -> dict[str, Any]:
        return {"versions": versions(), "machine": machine(self.device)}


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other audits out of a folder; raises Refusal where one is at work there."""
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
