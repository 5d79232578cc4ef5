"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps."
)
batch_option = click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Images in the network at once.  [default: 16, on a GPU 16 to 512 by its memory]",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "tf32"]),
    default="float32",
    show_default=True,
    help="How a GPU multiplies: in full, or in TF32, which is faster and moves maps.",
)
data_option = click.option(
    "--data", type=FILE, help="The data set, an .h5 file.  [default: data/single-6c.h5, rendered if it is missing]"
)
split_option = click.option("--split", default="test", show_default=True)
sample_option = click.option(
    "--rows", type=click.IntRange(min=1), help="How many rows, spread evenly over the classes.  [default: 300]"
)
in_process_option = click.option(
    "--in-process",
    is_flag=True,
    help="Run methods and metrics that are not ours in this process as well, without limits; for debugging.",
)
memory_limit_option = click.option(
    "--memory-limit", type=float, help="GiB for the process of what is not ours.  [default: what the machine has]"
)


def time_limit_option(seconds: float, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --time-limit with its default in seconds; `what` continues "Seconds that what is not ours may take for"."""
    words = f"Seconds that a method that is not ours may take for {what}."
    return click.option("--time-limit", type=float, default=seconds, show_default=True, help=words)


weights_option = click.option(
    "--weights", type=FILE, multiple=True, help="A safetensors file for each factory of --model, in the same order."
)
trust_option = click.option(
    "--trust", is_flag=True, help="Let files of models import the Python modules that they name, which runs their code."
)


def fetch_weights(_context: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    """Download the weights of the models that --model names, before they are opened."""
    if wanted:
        from ..evaluate.models.elsewhere.opening import fetch

        models = _context.params.get("models") or _context.params.get("model") or ()
        fetch([models] if isinstance(models, str) else models)
    return wanted


# The models are parsed before it, whatever their order on the line; it is for the caches of toolkits alone.
download_option = click.option(
    "--download",
    is_flag=True,
    expose_value=False,
    callback=fetch_weights,
    help="Download the weights of timm:NAME, torchvision:NAME or hf:NAME, unless they are there.",
)
NETWORK_OPTIONS = ("class_names", "normalise", "layer", "trust")


def network_options_with(*names_options: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that say what a bare network is like: class names, --normalise and --layer; and --trust."""
    options = (
        click.option(
            *names_options,
            "class_names",
            type=FILE,
            help="For factories: a file of the class names in the order of the outputs.  [default: as the data's]",
        ),
        click.option(
            "--normalise",
            help="For factories: imagenet, none, or means:deviations, M,M,M:S,S,S.  "
            "[default: the network's own, or imagenet]",
        ),
        click.option(
            "--layer", help="For factories: the layer that CAMs look at.  [default: the last one with spatial extent]"
        ),
        trust_option,
        download_option,
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


network_options = network_options_with("--class-names", "--labels")


models_option = click.option(
    "--model",
    "models",
    multiple=True,
    is_eager=True,
    help="A safetensors file, package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER or onnx:FILE; repeatable."
    "  [default: flowernet, trained if it is missing]",
)


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that change a spec before it is rendered, --rows, --size and --seed, and --workers."""
    default = "  [default: as in the spec]"
    options = (
        click.option(
            "--rows", type=click.IntRange(min=1), help=f"Rows in all: 70 % train, 10 % val, 20 % test.{default}"
        ),
        click.option("--size", type=int, help=f"Side of the pictures in pixels.{default}"),
        click.option("--seed", type=click.IntRange(min=0), help=f"Another seed gives other rows.{default}"),
        click.option(
            "--workers", type=click.IntRange(min=1), help="Threads that render.  [default: one for each core]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
