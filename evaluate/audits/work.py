"""What a worker does: one cell of an audit, found again by its name. All that it is told are words.

A worker opens a data set and a model once for all the cells of theirs that it gets.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from an8flower.errors import NotApplicable, Refusal
from an8flower.sharding import generate_shard
from an8flower.spec import from_json
from an8flower.store import FlowerStore

from ..data.selection import select_rows
from ..explaining.methods import Method, parse_method
from ..models.classifier import Classifier
from ..models.training import train
from ..resources import device_named
from ..results import files
from ..results.arrays import write_arrays
from ..results.folder import Run
from ..scoring.run import Scoring
from ..seeds import seed_of
from ..trust.certificate import certify
from ..trust.sanity.label_randomisation import Memory
from ..trust.sanity.run import Check, SanityPlan
from ..trust.sanity.run import without_nan as plain
from . import filters, pictures
from .engines import here
from .pieces import Settled
from .study import Study

STEADY = "a factory has to give the same weights at each call: load them in it, or give them with --weights"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def score_cell(study: Study, model: str, cell: str) -> Settled:
    """File the long rows of a cell, by its name."""

    def make() -> None:
        known = makers(study, model)
        if cell not in known:
            raise Refusal(f"{model}: is another model than when the audit began; {STEADY}")
        Run(Path(study.folder)).write_part(cell, known[cell]())

    return settled(make)


def certify_model(study: Study, model: str, rows: int, place: str) -> Settled:
    """File the certificate of a model."""

    def make() -> None:
        opened = opened_for(study, model)
        if opened.judge.world is None:
            raise NotApplicable(f"{study.data}: has no spec, so that nothing can be rendered with one thing changed")
        labels = opened.judge.split.labels
        indices = select_rows(labels, min(rows, len(labels)), seed_of("rows", study.seed))
        found = certify(
            the_classifier(opened), opened.judge.world, indices, seed=study.seed, batch=study.resources.in_flight
        )
        files.write_json(Path(place), {**found.document(), "rows": len(indices)})

    return settled(make)


def check_sanity(study: Study, model: str, plan: SanityPlan, method: str | None, place: str) -> Settled:
    """File what is found of a method; where it is None, what all methods on the model share."""

    def make() -> None:
        check = checks(study, model, plan)
        if method is None:
            files.write_json(Path(place), check.document([]))
            return
        found = check.of(parse_method(method), lambda arrays: kept_beside(Path(place), arrays))
        files.write_json(Path(place), plain({"text": method, **found}))

    return settled(make)


def take_pictures(
    study: Study, model: str, method: str, rows: tuple[tuple[str, tuple[int, ...]], ...], place: str
) -> Settled:
    """File what a method says of some rows, `(role, rows)` each."""

    def make() -> None:
        opened = opened_for(study, model)
        chosen = {role: list(own) for role, own in rows}
        ready = fitted(opened, method)
        write_arrays(Path(place), pictures.pictures_of(opened.judge, the_classifier(opened), ready, chosen))

    return settled(make)


def look_into_filters(study: Study, model: str, method: str, place: str) -> Settled:
    """File what the filters look for that a fitted method found relevant."""

    def make() -> None:
        opened = opened_for(study, model)
        found = filters.filters_of(the_classifier(opened), fitted(opened, method), opened.judge, study.seed)
        write_arrays(Path(place), found)

    return settled(make)


def train_model(data: str, arch: str, seed: int, epochs: int | None, device: str, place: str) -> Settled:
    """Train a classifier and file it."""

    def make() -> None:
        trained = train(FlowerStore(data), arch, epochs=epochs, seed=seed, device=device_named(here.device(device)))
        trained.classifier.save(Path(place))

    return settled(make)


def render_shard(spec: str, number: int, of: int, folder: str) -> Settled:
    """Render a share of a data set, whose spec is given as JSON."""
    return settled(lambda: generate_shard(from_json(spec, "the plan's data"), number, of, Path(folder)) and None)


def settled(make: Callable[[], None]) -> Settled:
    """Do it, and tell how long it took, or why it cannot be."""
    began = time.perf_counter()
    skipped = full = ""
    try:
        make()
    except NotApplicable as reason:
        skipped = str(reason)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        full = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
    return Settled(time.perf_counter() - began, skipped, full)


@lru_cache(maxsize=2)
def opened_for(study: Study, model: str) -> Scoring:
    """The data set and one model, opened once in this process."""
    return study.open(model)


@lru_cache(maxsize=2)
def makers(study: Study, model: str) -> Mapping[str, Callable[[], pa.Table]]:
    """How each cell of a model is made, by the cell's name."""
    return {cell.name: make for cell, make in opened_for(study, model).cells()}


@lru_cache(maxsize=1)
def checks(study: Study, model: str, plan: SanityPlan) -> Check:
    """The random models of a model, drawn once in this process."""
    opened = opened_for(study, model)
    folder = Path(study.folder) / "models"
    return Check(the_classifier(opened), opened.store, plan, study.resources, folder)


def sanity_plan(study: Study, rows: int, steps: int, draws: int, labels: bool, available: int) -> SanityPlan:
    """The checks of an audit, on at most the rows that there are."""
    memory = Memory(seed=study.seed) if labels else None
    return SanityPlan(study.split, min(rows, available), study.seed, steps, draws, memory=memory)


def the_classifier(opened: Scoring) -> Classifier:
    """The one model that was opened."""
    (model,) = opened.models
    return model.classifier


def fitted(opened: Scoring, method: str) -> Method:
    """A method that is ready to explain the one model."""
    (model,) = opened.models
    return model.fitted(parse_method(method))


def kept_beside(place: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """File the pictures of a document, and say where, from the run's folder."""
    beside = place.with_suffix(".npz")
    write_arrays(beside, arrays)
    return f"{place.parent.name}/{beside.name}"
