"""What is taken where no data set or model is named: made first where it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..generate import Generated
    from ..spec import DatasetSpec

DEFAULT_DATA, DEFAULT_ARCH = "single-6c", "flowernet"


def default_data() -> Path:
    """The default data set, made first where it is not there."""
    from .. import spec as specs

    path = data_path(DEFAULT_DATA)
    if not path.exists():
        click.echo(f"{path} is not there: generating it first", err=True)
        generated(specs.load(DEFAULT_DATA), path)
    return path


def default_model(data: Path, device: str) -> Path:
    """The default model of a data set, trained first where it is not there."""
    from ..evaluate.models.sources import check_trained_on
    from ..store import FlowerStore

    path = run_folder(data) / f"{DEFAULT_ARCH}-seed0.safetensors"
    if path.exists():
        check_trained_on(path, FlowerStore(data))
    else:
        click.echo(f"{path} is not there: training it first", err=True)
        trained(data, DEFAULT_ARCH, None, 0, device, None)
    return path


def generated(spec: DatasetSpec, path: Path, workers: int | None = None, force: bool = False) -> Generated:
    """Render with a progress bar."""
    from ..generate import generate as make
    from .progress import counting

    with counting(f"rendering {spec.name}", spec.rows.total) as step:
        return make(spec, path, workers=workers, force=force, progress=step)


def trained(data: Path, arch: str, epochs: int | None, seed: int, device: str, output: Path | None) -> dict[str, Any]:
    """Train, save, and tell as `train --json` does."""
    from ..evaluate.models.training import train as fit
    from ..evaluate.resources import device_named
    from ..store import FlowerStore
    from .progress import filling

    store = FlowerStore(data)
    place = output or run_folder(data) / f"{arch}-seed{seed}.safetensors"
    with filling(f"training {arch}") as progress:
        found = fit(
            store,
            arch,
            epochs=epochs,
            seed=seed,
            device=device_named(device),
            on_epoch=lambda report: progress(report.epoch + 1, report.epochs),
        )
    found.classifier.save(place)
    numbers = {"accuracy": found.accuracy, "epochs": found.epochs, "seconds": found.seconds}
    return {"model": str(place), "arch": arch, "seed": seed, **numbers}


def data_path(name: str) -> Path:
    """Where a data set lies unless another place is named."""
    return Path("data") / f"{name}.h5"


def run_folder(data: Path) -> Path:
    """Where models and scores of a data set lie unless another place is named."""
    return Path("runs") / data.stem
