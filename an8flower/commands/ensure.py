"""The default data set and model of the commands, rendered and trained when they are first needed."""

from __future__ import annotations

from pathlib import Path

import click

from .places import DEFAULT_ARCH, DEFAULT_DATA, data_path, run_folder
from .with_progress import generate_with_progress, train_with_progress


def ensure_default_data() -> Path:
    """Render the default data set if it is missing, and return its path."""
    from .. import spec as specs

    path = data_path(DEFAULT_DATA)
    if not path.exists():
        click.echo(f"{path} is not there: generating it first", err=True)
        generate_with_progress(specs.load(DEFAULT_DATA), path, wait=True)
    return path


def ensure_default_model(data: Path, device: str) -> Path:
    """Train the default model of a data set if it is missing, and return its path."""
    from ..evaluate.models.sources import check_trained_on
    from ..store import FlowerStore

    store = FlowerStore(data)  # first, so that nothing is announced of data that are not there
    path = run_folder(data) / f"{DEFAULT_ARCH}-seed0.safetensors"
    if path.exists():
        check_trained_on(path, store)
    else:
        click.echo(f"{path} is not there: training it first", err=True)
        train_with_progress(data, DEFAULT_ARCH, None, 0, device, None)
    return path
