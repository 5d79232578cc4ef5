"""The command about networks with prototypes: what each prototype stands for, by the exact parts of the flowers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .ensure import ensure_default_data
from .options import (
    FILE,
    as_json,
    batch_option,
    data_option,
    device_option,
    network_options,
    precision_option,
    sample_option,
    split_option,
    weights_option,
)
from .printing import echo_json, warn, write_json

if TYPE_CHECKING:
    from ..evaluate.results.prototype_results import JudgedModel


@click.command()
@data_option
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    is_eager=True,
    help="A file of a network with prototypes, as `train --pool protopnet` or `--pool pipnet` makes it, or a factory "
    "of yours; repeatable.",
)
@weights_option
@network_options
@split_option
@sample_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice of rows, of noise, and of what is rendered again.",
)
@click.option(
    "--published", is_flag=True, help="Also by the published definitions: keypoints in boxes, noise, an attack."
)
@batch_option
@device_option
@precision_option
@as_json
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="Folder for prototypes.json, and for the pictures of each model: its gallery of prototypes, and how single "
    "rows were recognised, as .png.",
)
def prototypes(
    data: Path | None,
    models: tuple[str, ...],
    weights: tuple[Path, ...],
    split: str,
    rows: int | None,
    seed: int,
    published: bool,
    batch: int | None,
    device: str,
    precision: str,
    as_json: bool,
    output: Path | None,
    **network: Any,
) -> None:
    """Find out what the prototypes of a network stand for, by the exact parts of the flowers.

    Does a prototype lie on one part, on the same part in all rows of its class, also after noise or when all that is
    left to chance is rendered again? Does what it finds change when everything but the part under it is rendered again?
    How many prototypes are there, and how many speak in a row? The chance levels stand beside. Each prototype gets a
    card: its classes, the training patch that it is, the part under it, and where else it is found.

    `an8flower metrics purity` prints the definition of a measure.

    \b
    Example:  an8flower prototypes --model runs/single-6c/flowernet+protopnet-seed0.safetensors --rows 200
    """
    from ..evaluate.metrics.prototypes.judging import PrototypeTest, judge_models
    from ..evaluate.models.sources import NetworkSettings, pair_with_weights
    from ..evaluate.resources import Resources, settle_on
    from ..store import FlowerStore
    from .progress import filling

    resources = Resources(settle_on(device, precision), batch)
    sources = pair_with_weights(models, weights, NetworkSettings.read(**network))
    test = PrototypeTest(FlowerStore(data or ensure_default_data())[split], rows, seed, published)
    with filling("judging prototypes") as progress:
        document = judge_models(sources, test, resources, output, progress, warn)
    if output:
        write_json(document, output / "prototypes.json")
    if as_json:
        echo_json(document)
    else:
        show_prototypes(document)


def show_prototypes(document: Mapping[str, Any]) -> None:
    """Print how the prototypes of each model were judged: the measures, and a line for each prototype."""
    from ..evaluate.results.prototype_results import PrototypesDocument

    judged = PrototypesDocument.model_validate(document["prototypes"])
    click.echo(f"{document['dataset']['name']}, {judged.rows} rows of {judged.split}")
    for model in judged.results:
        _show_model(model, judged.strongest)
    for skipped in judged.skipped:
        click.echo(f"\nskipped: {skipped.model}: {skipped.reason}")


def _show_model(model: JudgedModel, strongest: int) -> None:
    from ..evaluate.results import prototype_words as words
    from .fitting import show

    click.echo(f"\n{words.summary_sentence(model)}")
    show(words.SCORE_COLUMNS, words.score_rows(model), title=model.model)
    title = f"each prototype; the last columns are of its {strongest} strongest patches, each of another row"
    show(words.CARD_COLUMNS, words.card_rows(model), title=title)
    for sentence in words.undefined_words(model):
        click.echo(sentence)
