"""Rendering and training with a progress bar, for the several commands that may need either."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .places import run_folder

if TYPE_CHECKING:
    from ..generate import Generated
    from ..spec import DatasetSpec


def generate_with_progress(
    spec: DatasetSpec, path: Path, workers: int | None = None, force: bool = False, wait: bool = False
) -> Generated:
    """Render a data set while a bar counts its rows; another process that renders it may be waited for."""
    from ..generate import generate
    from .progress import counting

    with counting(f"rendering {spec.name}", spec.rows.total) as step:
        on_wait = partial(say_waiting, path) if wait else None
        return generate(spec, path, workers=workers, force=force, progress=step, on_wait=on_wait)


def say_waiting(path: Path) -> None:
    """Say on standard error that another process is waited for."""
    from ..writing import waiting_for

    click.echo(waiting_for(path), err=True)


def train_with_progress(
    data: Path, arch: str, epochs: int | None, seed: int, device: str, output: Path | None, **start: Any
) -> dict[str, Any]:
    """Train and save a classifier while a bar counts the epochs; returns the document of `train --json`.

    What was done to the network before is said on standard error. `start` holds options of `train` that say how the
    training begins.
    """
    from ..evaluate.models.files import file_name_of
    from ..evaluate.models.training import train
    from ..evaluate.registry import variant_of
    from ..evaluate.resources import settle_on
    from ..store import FlowerStore
    from .progress import filling

    store = FlowerStore(data)
    variant = variant_of(arch, str(start.get("penalty") or ""), start.get("freeze") or "")
    place = output or run_folder(data) / file_name_of(variant, seed)
    with filling(f"training {arch}") as progress:
        trained = train(
            store,
            arch,
            epochs=epochs,
            seed=seed,
            device=settle_on(device, needs_double=False),
            on_epoch=lambda report: progress(report.epoch + 1, report.epochs),
            note=lambda sentence: click.echo(sentence, err=True),
            **start,
        )
    trained.classifier.save(place)
    numbers = {"accuracy": trained.accuracy, "epochs": trained.epochs, "seconds": trained.seconds}
    numbers["recipe"] = trained.classifier.card.data["recipe"]
    notes = {"notes": list(trained.notes)} if trained.notes else {}
    return {"model": str(place), "arch": arch, "seed": seed, **numbers, **notes}
