"""The trained models of an audit: their files, and how a file is recognised by what it was trained from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import an8flower
from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from ..models.classifier import Classifier
from ..models.files import file_name_of, load, read_classifier
from ..models.gradient_penalty import GradientPenalty
from ..models.labels import read_labels
from ..models.normalisation import parse_normalisation
from ..models.penalty_words import STRENGTH
from ..models.sources import Source
from ..models.training import Start, describe_training, recipe_for, train
from ..registry import to_file_name
from ..resources import settle_on
from ..results.files import link_or_copy
from .cell_tasks import CellOutcome, run_cell
from .engines import here
from .plan import Models, Plan


class Training(NamedTuple):
    """One model that a plan wants trained on a data set."""

    where: Path  # of its file
    entry: Models  # as it is trained: what it starts from is a file
    seed: int
    waits: bool  # whether what it starts from is trained before


def list_trainings(plan: Plan, folder: Path, store: FlowerStore) -> list[Training]:
    """Every model that a plan wants trained on a data set, in the order of the plan."""
    bases = {entry.variant: entry for entry in plan.models if entry.arch and entry.starts_from is None}
    trainings = []
    for entry, seed in trained_models(plan):
        where, init = model_path(folder, store, entry, seed), entry.init and str(Path(entry.init).absolute())
        if waits := entry.starts_from is not None:
            init = str(model_path(folder, store, bases[entry.starts_from], seed))
        trainings.append(Training(where, entry.model_copy(update={"init": init, "starts_from": None}), seed, waits))
    return trainings


def model_path(folder: Path, store: FlowerStore, models: Models, seed: int) -> Path:
    """The path of a trained model in the folder of a run."""
    assert models.arch, "asked for only where a model is trained"
    epochs = f"-{models.epochs}epochs" if models.epochs else ""
    name = f"{store.path.stem}-{to_file_name(models.arch)}-seed{seed}{epochs}{_mark(models)}"
    return folder / "models" / f"{name}.safetensors"


def _mark(models: Models) -> str:
    """What the name of a model's file says of how its training begins: nothing where the architecture decides."""
    words = [models.init, models.freeze, models.normalise, models.layer, models.learning_rate]
    words += [str(penalty)] if (penalty := penalty_of(models)) else []
    words += [f"after {models.starts_from}"] if models.starts_from else []
    return f"-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]}" if any(words) else ""


def find_or_take(training: Training, store: FlowerStore, *, neighbours: Iterable[Path]) -> bool:
    """Whether a trained model is there; one of another run, or from `an8flower train`, is taken from there first."""
    where, models, seed, _ = training
    if is_meant(where, store, models, seed):
        return True
    trained = where.parents[2] / store.path.stem / file_name_of(str(models.variant), seed)
    for other in [trained, *(run / "models" / where.name for run in neighbours)]:
        if is_meant(other, store, models, seed):
            link_or_copy(other, where)
            return True
    return False


def is_meant(where: Path, store: FlowerStore, models: Models, seed: int) -> bool:
    """Whether a file holds just this model, trained as the plan says by this version of an8flower, and loads.

    The digest of a data set is that of its spec: rows that somebody edited are told by their fingerprint.
    """
    if not where.is_file():
        return False
    assert models.arch, "asked for only where a model is trained"
    try:
        card, _ = read_classifier(where)
        if (card.arch, card.seed, card.versions.get("an8flower")) != (models.arch, seed, an8flower.__version__):
            return False
        classifier = load(where, trust=models.arch)
    except Refusal:
        return False
    start = start_of(models)
    recipe = recipe_for(models.arch, models.epochs, learning_rate=models.learning_rate)._replace(penalty=start.penalty)
    return card.data == describe_training(store, recipe, start, classifier)


def start_of(models: Models) -> Start:
    """How the training of an entry of a plan begins."""
    init = None if models.init is None else Path(models.init)
    return Start(init, models.freeze, models.normalise, models.layer, models.learning_rate, penalty_of(models))


def penalty_of(models: Models) -> GradientPenalty | None:
    """The penalty of the loss that an entry of a plan asks for; None if it asks for none."""
    if models.gradient_penalty is None:
        return None
    strength = STRENGTH if models.strength is None else models.strength
    return GradientPenalty(models.gradient_penalty, strength, models.gradient_of or "loss")


def trained_models(plan: Plan) -> list[tuple[Models, int]]:
    """Every model that the plan wants trained, with its seed."""
    return [(models, seed) for models in plan.models if models.arch for seed in models.seeds]


def named_source(models: Models, trust: bool) -> Source:
    """The source of a model that a plan names by a file or a factory; the files that it takes are absolute paths."""
    assert models.source, "asked for only where a plan names one"
    return Source(
        models.source,
        weights=None if models.weights is None else Path(models.weights).absolute(),
        class_names=None if models.labels is None else read_labels(Path(models.labels)),
        normalisation=None if models.normalise is None else parse_normalisation(models.normalise),
        layer=models.layer,
        trust=trust,
    )


def train_model(place: str, data: str, models: str, seed: int, device: str) -> CellOutcome:
    """Train a classifier in a worker and save it to `place`; `models`, its entry in the plan, comes as JSON."""
    entry = Models.model_validate_json(models)

    return run_cell(lambda: train_and_save(Path(place), Path(data), entry, seed, device))


def train_and_save(place: Path, data: Path, entry: Models, seed: int, device: str) -> Classifier:
    """Train a classifier as an entry of a plan says, and save it to `place`."""
    where = settle_on(here.device(device))
    start = vars(start_of(entry))
    trained = train(FlowerStore(data), str(entry.arch), epochs=entry.epochs, seed=seed, device=where, **start)
    trained.classifier.save(place)
    return trained.classifier
