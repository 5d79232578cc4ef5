"""The commands about classifiers: train one, list the architectures."""

from __future__ import annotations

from pathlib import Path

import click

from .ensure import ensure_default_data
from .options import FILE, as_json, data_option, device_option
from .places import DEFAULT_ARCH
from .printing import echo_json, show_list
from .with_progress import train_with_progress


@click.command()
@data_option
@click.option("--arch", default=DEFAULT_ARCH, show_default=True, help="The architecture; `an8flower archs` lists them.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs at most.  [default: as the architecture says]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@device_option
@click.option("-o", "--output", type=FILE, help="The file to write.  [default: runs/DATA/ARCH-seedN.safetensors]")
@as_json
def train(
    data: Path | None, arch: str, epochs: int | None, seed: int, device: str, output: Path | None, as_json: bool
) -> None:
    """Train a classifier on a data set, and print its accuracy on the test rows.

    \b
    Example:  an8flower train --data data/double-12c.h5 --arch resnet18 --seed 1
    """
    data = data or ensure_default_data()
    outcome = train_with_progress(data, arch, epochs, seed, device, output)
    if as_json:
        echo_json(outcome)
    else:
        effort = f"{outcome['epochs']} epochs, {outcome['seconds']:.0f} s"
        click.echo(f"{outcome['model']}: test accuracy {outcome['accuracy']:.2%} after {effort}")


@click.command()
@as_json
def archs(as_json: bool) -> None:
    """List the classifier architectures.

    \b
    Example:  an8flower archs
    """
    from ..evaluate.registry import archs as registered

    entries = [registered[name] for name in registered.names()]
    show_list([{"name": entry.name, **entry.about} for entry in entries], as_json)
