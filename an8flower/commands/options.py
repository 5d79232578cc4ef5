"""The options that several commands have in common."""

from __future__ import annotations

from pathlib import Path

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
