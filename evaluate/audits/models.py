"""The trained models of an audit: their files, and how a file is recognised by what it was trained from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import an8flower
from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from ..models.files import load
from ..models.training import describe_data, epochs_for, train
from ..resources import parse_device
from ..results.files import link_or_copy
from .cell_tasks import CellOutcome, run_cell
from .engines import here
from .plan import Models, Plan


def model_path(folder: Path, store: FlowerStore, models: Models, seed: int) -> Path:
    """The path of a trained model in the folder of a run."""
    epochs = f"-{models.epochs}epochs" if models.epochs else ""
    return folder / "models" / f"{store.path.stem}-{models.arch}-seed{seed}{epochs}.safetensors"


def find_or_take(where: Path, store: FlowerStore, models: Models, seed: int, *, neighbours: Iterable[Path]) -> bool:
    """Whether a trained model is there; one of another run, or from `an8flower train`, is taken from there first."""
    if is_meant(where, store, models, seed):
        return True
    trained = where.parents[2] / store.path.stem / f"{models.arch}-seed{seed}.safetensors"
    for other in [trained, *(run / "models" / where.name for run in neighbours)]:
        if is_meant(other, store, models, seed):
            link_or_copy(other, where)
            return True
    return False


def is_meant(where: Path, store: FlowerStore, models: Models, seed: int) -> bool:
    """Whether a file holds just this model: arch, seed, rows, epochs and version of an8flower are the same.

    The digest of a data set is that of its spec: rows that somebody edited are told by their fingerprint.
    """
    if not where.is_file():
        return False
    try:
        card = load(where).card
    except Refusal:
        return False
    assert models.arch, "asked for only where a model is trained"
    wanted = {**describe_data(store), "epochs": str(epochs_for(models.arch, models.epochs))}
    return (card.arch, card.seed, card.data) == (models.arch, seed, wanted) and (
        card.versions.get("an8flower") == an8flower.__version__
    )


def trained_models(plan: Plan) -> list[tuple[Models, int]]:
    """Every model that the plan wants trained, with its seed."""
    return [(models, seed) for models in plan.models if models.arch for seed in models.seeds]


def train_model(place: str, data: str, models: str, seed: int, device: str) -> CellOutcome:
    """Train a classifier in a worker and save it to `place`; `models`, its entry in the plan, comes as JSON."""
    entry = Models.model_validate_json(models)

    def make() -> None:
        where = parse_device(here.device(device))
        trained = train(FlowerStore(data), str(entry.arch), epochs=entry.epochs, seed=seed, device=where)
        trained.classifier.save(Path(place))

    return run_cell(make)
