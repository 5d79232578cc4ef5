"""The options that several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
batch_option = click.option("--batch", type=click.IntRange(min=1), help="Images in flight; default 16, on a GPU 128.")
data_option = click.option(
    "--data", type=FILE, help="The data set.  [default: data/single-6c.h5, made if it is not there]"
)
weights_option = click.option(
    "--weights", type=FILE, multiple=True, help="Safetensors for each package.module:factory, in the same order."
)
models_option = click.option(
    "--model", "models", multiple=True, help="Repeatable.  [default: flowernet, trained if it is not there]"
)


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What changes a spec before it is rendered, and how that is done: --rows, --size, --seed, --workers."""
    kept = "  [default: as in the spec]"
    options = (
        click.option("--rows", type=click.IntRange(min=1), help=f"Rows in all, shared out 70/10/20.{kept}"),
        click.option("--size", type=int, help=f"Side of the pictures in pixels.{kept}"),
        click.option("--seed", type=click.IntRange(min=0), help=f"Another seed gives other rows.{kept}"),
        click.option("--workers", type=click.IntRange(min=1), help="Threads that render.  [default: one per core]"),
    )
    for option in reversed(options):
        command = option(command)
    return command
