"""The data set and the model that a command takes if none is named: made first if they are not there."""

from __future__ import annotations

from pathlib import Path

import click

from .places import DEFAULT_ARCH, DEFAULT_DATA, data_path, run_folder
from .with_progress import generate_with_progress, train_with_progress


def ensure_default_data() -> Path:
    """The default data set, rendered first if it is not there."""
    from .. import spec as specs

    path = data_path(DEFAULT_DATA)
    if not path.exists():
        click.echo(f"{path} is not there: generating it first", err=True)
        generate_with_progress(specs.load(DEFAULT_DATA), path)
    return path


def ensure_default_model(data: Path, device: str) -> Path:
    """The default model of a data set, trained first if it is not there."""
    from ..evaluate.models.sources import check_trained_on
    from ..store import FlowerStore

    path = run_folder(data) / f"{DEFAULT_ARCH}-seed0.safetensors"
    if path.exists():
        check_trained_on(path, FlowerStore(data))
    else:
        click.echo(f"{path} is not there: training it first", err=True)
        train_with_progress(data, DEFAULT_ARCH, None, 0, device, None)
    return path
