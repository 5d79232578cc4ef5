"""The commands about classifiers: train one, list the architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ..evaluate.models.penalty_words import STRENGTH, Distance, Scalar
from .ensure import ensure_default_data
from .options import FILE, as_json, data_option, device_option
from .places import DEFAULT_ARCH
from .printing import echo_json, show_list
from .with_progress import train_with_progress
from .workers import keep_stdout

if TYPE_CHECKING:
    from ..evaluate.models.gradient_penalty import GradientPenalty


@click.command()
@data_option
@click.option(
    "--arch",
    default=DEFAULT_ARCH,
    show_default=True,
    help="A name of `an8flower archs`, timm:NAME, torchvision:NAME, or package.module:factory of your own.",
)
@click.option(
    "--pool",
    type=click.Choice(["gap", "ca-final", "ca-stream", "protopnet", "pipnet"]),
    default="gap",
    show_default=True,
    help="How the last features are pooled: as the architecture does, by cross-attention at one stage or at all, or by "
    "looking for prototypes.",
)
@click.option(
    "--prototypes",
    type=click.IntRange(min=1),
    help="How many prototypes each class has at first, with --pool protopnet.  [default: 5]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs at most.  [default: as the architecture says]")
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    help="Repeatable: one training for each.  [default: 0]",
)
@click.option("--seeds", "count", type=click.IntRange(min=1), help="How many seeds, from 0 on, in place of --seed.")
@click.option("--init", type=FILE, help="Pretrained weights to start from, safetensors; the last linear layer is new.")
@click.option("--freeze", metavar="LAYER", help="Train nothing up to this layer, statistics of batch norms included.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="At the top of the cycle.  [default: as the architecture says]",
)
@click.option(
    "--normalise", help="imagenet, none, or means:deviations, M,M,M:S,S,S.  [default: as the architecture says]"
)
@click.option("--layer", help="The layer that CAMs look at.  [default: the architecture's, or the last spatial one]")
@click.option(
    "--gradient-penalty",
    type=click.Choice(get_args(Distance)),
    help="Add to the loss how far input gradients are from guided ones, so that they can be read; needs ReLUs.",
)
@click.option(
    "--strength", type=click.FloatRange(min=0), help="The weight of that penalty in the loss.  [default: 0.0075]"
)
@click.option(
    "--gradient-of",
    type=click.Choice(get_args(Scalar)),
    help="Whose gradient the penalty is about: each picture's loss, or the logit of its class.  [default: loss]",
)
@device_option
@click.option("-o", "--output", type=FILE, help="The file to write.  [default: runs/DATA/ARCH-seedN.safetensors]")
@as_json
def train(
    data: Path | None,
    arch: str,
    pool: str,
    epochs: int | None,
    seeds: tuple[int, ...],
    count: int | None,
    device: str,
    output: Path | None,
    as_json: bool,
    gradient_penalty: Distance | None,
    strength: float | None,
    gradient_of: Scalar | None,
    **start: Any,
) -> None:
    """Train a classifier on a data set, and print its accuracy on the test rows.

    An architecture of your own is a function of the number of classes and the side of the pictures, `net(classes,
    size)`; or one without arguments, whose last linear layer is replaced. What was replaced, loaded and frozen is said
    before the training begins. Several seeds give a file each, and a table with the mean and the range of their
    accuracies; with --json, a list. On a GPU the same seed gives other weights, by rounding, at each training; on a CPU
    it gives the same.

    \b
    Example:  an8flower train --data data/double-12c.h5 --arch resnet18 --seed 1
              an8flower train --arch my_model:small_network --seed 0 --seed 1
              an8flower train --arch flowernet --seeds 3
              an8flower train --arch torchvision:resnet50 --init resnet50.safetensors --freeze layer2
              an8flower train --arch resnet18 --pool ca-stream --init resnet18.safetensors --freeze backbone
              an8flower train --arch flowernet --pool protopnet --prototypes 10
              an8flower train --arch resnet18 --gradient-penalty cosine --strength 7.5e-3
    """
    from ..evaluate.models.factories import find_arch

    seeds = _choose_seeds(seeds, count)
    if output is not None and len(seeds) > 1:
        raise click.UsageError(f"-o names one file, and {len(seeds)} seeds came; leave -o out, or give one --seed")
    arch = arch if pool == "gap" else f"{arch}+{pool}"
    with keep_stdout():  # which a module of somebody's own may print to
        find_arch(arch)  # before data are rendered for it
    start["penalty"] = _penalty(gradient_penalty, strength, gradient_of)
    data = data or ensure_default_data()
    outcomes = []
    for seed in seeds:
        with keep_stdout():
            outcomes.append(train_with_progress(data, arch, epochs, seed, device, output, **start))
        if not as_json:
            _print_training(outcomes[-1])
    if as_json:
        echo_json(outcomes if len(outcomes) > 1 else outcomes[0])
    elif len(outcomes) > 1:
        _print_seeds(outcomes)


def _choose_seeds(seeds: tuple[int, ...], count: int | None) -> tuple[int, ...]:
    """The seeds to train from, each once: those that were named, or so many from 0 on."""
    if seeds and count is not None:
        raise click.UsageError("--seeds says how many from 0 on, and --seed names them; give one of the two")
    return tuple(range(count)) if count is not None else tuple(dict.fromkeys(seeds or (0,)))


def _penalty(distance: Distance | None, strength: float | None, scalar: Scalar | None) -> GradientPenalty | None:
    """The penalty that the options ask for; None where they ask for none."""
    from ..evaluate.models.gradient_penalty import GradientPenalty

    options = {"--strength": strength, "--gradient-of": scalar}
    if distance is None:
        for name in [name for name, value in options.items() if value is not None]:
            raise click.UsageError(f"{name} goes with --gradient-penalty; give both, or neither")
        return None
    return GradientPenalty(distance, STRENGTH if strength is None else strength, scalar or "loss")


def _print_training(outcome: dict[str, Any]) -> None:
    effort = f"{outcome['epochs']} epochs, {outcome['seconds']:.0f} s"
    click.echo(f"{outcome['model']}: test accuracy {outcome['accuracy']:.2%} after {effort}")


def _print_seeds(outcomes: list[dict[str, Any]]) -> None:
    """Print the accuracy of each seed, and below it their mean and range."""
    from .fitting import show

    accuracies = [outcome["accuracy"] for outcome in outcomes]
    rows = [[str(outcome["seed"]), f"{outcome['accuracy']:.2%}", f"{outcome['seconds']:.0f}"] for outcome in outcomes]
    mean, seconds = sum(accuracies) / len(accuracies), sum(outcome["seconds"] for outcome in outcomes)
    show(["seed", "test accuracy", "seconds"], [*rows, ["mean", f"{mean:.2%}", f"{seconds / len(outcomes):.0f}"]])
    click.echo(f"from {min(accuracies):.2%} to {max(accuracies):.2%} over {len(outcomes)} seeds")


@click.command()
@as_json
def archs(as_json: bool) -> None:
    """List the classifier architectures.

    \b
    Example:  an8flower archs
    """
    from ..evaluate.models.training import RECIPE, describe_recipe, recipe_for
    from ..evaluate.registry import archs as registered

    entries = [registered[name] for name in registered.names()]
    recipes = [describe_recipe(entry.name, recipe_for(entry.name)) for entry in entries]
    rows = [{"name": entry.name, **entry.about, RECIPE: words} for entry, words in zip(entries, recipes, strict=True)]
    show_list(rows, as_json)
