"""The commands to run before scores are read: what a classifier relies on, and whether maps depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal
from .check_options import check_options, values_of
from .ensure import ensure_default_data, ensure_default_model
from .options import (
    FILE,
    NETWORK_OPTIONS,
    as_json,
    batch_option,
    data_option,
    device_option,
    in_process_option,
    memory_limit_option,
    models_option,
    network_options,
    network_options_with,
    precision_option,
    sample_option,
    split_option,
    time_limit_option,
    weights_option,
)
from .places import run_folder
from .printing import echo_json, warn, write_json

if TYPE_CHECKING:
    from ..evaluate.models.classifier import Classifier
    from ..evaluate.resources import Resources
    from ..store import FlowerSplit


@click.command()
@data_option
@models_option
@weights_option
@network_options
@split_option
@sample_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice of rows and of the changes.",
)
@batch_option
@device_option
@precision_option
@as_json
@click.option("-o", "--output", type=FILE, help="Also write the JSON document to this file.")
def certify(
    data: Path | None,
    models: tuple[str, ...],
    weights: tuple[Path, ...],
    split: str,
    rows: int | None,
    seed: int,
    batch: int | None,
    device: str,
    precision: str,
    as_json: bool,
    output: Path | None,
    **network: Any,
) -> None:
    """Find out what a classifier relies on: change one thing in a scene, render it, and classify it again.

    Does the prediction follow when a row gets the evidence of another class? Does it stay when all else is drawn
    again? Does it follow the pixels of the evidence alone, or all other pixels alone, and how much of the evidence does
    it take? What does it do to redraw, swap or remove each part? Who decides where a shortcut contradicts the evidence?

    On photographs with planted marks: does the prediction follow if the mark becomes that of another class, or is taken
    away?

    \b
    Example:  an8flower certify --data data/shortcut-6c.h5 --rows 200
    """
    from ..evaluate.data.world import World
    from ..evaluate.models.sources import NetworkSettings, pair_with_weights
    from ..evaluate.resources import Resources, settle_on
    from ..evaluate.trust.certificate import certify_models
    from ..evaluate.trust.mark_use import certify_marked_models
    from ..planted import planting_of
    from ..store import FlowerStore
    from .certificate_table import show_certificates, show_marks
    from .progress import filling

    resources = Resources(settle_on(device, precision), batch)
    settings = NetworkSettings.read(**network)
    data = data or ensure_default_data()
    has_marks = planting_of(FlowerStore(data)) is not None
    world = None if has_marks else World.of(FlowerStore(data)[split], resources.device)
    sources = pair_with_weights(models, weights, settings) or (str(ensure_default_model(data, device)),)
    with filling("certifying") as progress:
        if world is None:
            document = certify_marked_models(sources, FlowerStore(data)[split], rows, seed, resources, progress)
        else:
            document = certify_models(sources, world, rows, seed, resources, progress, warn)
    if output:
        write_json(document, output)
    if as_json:
        echo_json(document)
    elif has_marks:
        show_marks(document)
    else:
        show_certificates(document)


@click.command()
@click.option("--method", "methods", multiple=True, required=True, help="As in `an8flower score`; repeatable.")
@data_option
@click.option(
    "--model",
    is_eager=True,
    help="A safetensors file, package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER or onnx:FILE.  "
    "[default: runs/DATA/flowernet-seed0]",
)
@click.option("--weights", type=FILE, help="A safetensors file for the network that the factory makes.")
@network_options_with("--class-names")
@split_option
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="How many rows, spread evenly over the classes.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice of rows and of the random models.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Steps of the walk from the logits down, at most.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How often the network is drawn anew; rows are dealt among the draws. From 5 on there are verdicts.",
)
@click.option("--recalibrate", is_flag=True, help="Give batch norms new statistics after each change.")
@check_options
@batch_option
@device_option
@precision_option
@in_process_option
@time_limit_option(1800, "all its checks")
@memory_limit_option
@as_json
@click.option(
    "-o", "--output", type=FILE, help="Folder for sanity.json and the model of permuted labels.  [default: runs/DATA]"
)
def sanity(
    methods: tuple[str, ...],
    data: Path | None,
    model: str | None,
    weights: Path | None,
    split: str,
    rows: int,
    seed: int,
    steps: int,
    draws: int,
    recalibrate: bool,
    batch: int | None,
    device: str,
    precision: str,
    in_process: bool,
    time_limit: float,
    memory_limit: float | None,
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Do the maps of a method depend on what the model has learnt? A sanity check, not a score.

    The model's parameters are drawn anew, several times: layer by layer from the logits down, each layer alone, and all
    of them. One model of the same architecture is trained on permuted labels. Then the maps should change. On a scale
    where 0 means as different as maps of two different images and 1 means the same map, a method passes if its maps of
    such models are below 0.5, and fails if they are above, by a test over the draws, corrected for all tests of the
    method. Methods that are not ours run in a process of their own, as in `an8flower score`.

    \b
    Example:  an8flower sanity --method gradcam --method guided_backprop --method edges --rows 30
    """
    from ..evaluate.audits.scored_apart import sanity_apart
    from ..evaluate.models.sources import NetworkSettings, open_judged, pair_with_weights
    from ..evaluate.resources import Resources, settle_on
    from ..evaluate.trust.sanity.plan import sanity_plan
    from ..evaluate.trust.sanity.run import ModelSanity
    from ..evaluate.trust.sanity.run import sanity as check_sanity
    from ..store import FlowerStore
    from .progress import filling
    from .workers import open_worker, read_methods

    resources = Resources(settle_on(device, precision), batch)
    network, checks = _part(options, NETWORK_OPTIONS)
    with open_worker(in_process, time_limit, memory_limit) as engine:
        wanted = read_methods(methods, "float32", engine)
        settings = NetworkSettings.read(**network)
        data = data or ensure_default_data()
        store, folder = FlowerStore(data), output or run_folder(data)
        places = [model or str(ensure_default_model(data, device))]
        (source,) = pair_with_weights(places, [weights] if weights else [], settings)
        classifier = open_judged(source, store, resources.device)
        about = _circumstances(classifier, store[split], resources)
        plan = sanity_plan(rows=rows, steps=steps, draws=draws, recalibrate=recalibrate, **values_of(checks))
        with filling("randomising") as progress:
            model_sanity = ModelSanity(classifier, store[split], plan, resources, folder=folder, seed=seed)
            if engine:
                document = sanity_apart(model_sanity, source, wanted, progress, engine=engine)
            else:
                document = check_sanity(model_sanity, wanted, progress)
    _print_sanity(document | about, folder, as_json)


def _circumstances(classifier: Classifier, split: FlowerSplit, resources: Resources) -> dict[str, Any]:
    """What a document says besides the checks: how the machine multiplies, and the doubts about the model."""
    from ..evaluate.models.networks.arithmetic import describe_arithmetic

    machine = describe_arithmetic(resources.device)
    return {"machine": machine, "warnings": _doubts(classifier, split, resources)}


def _doubts(classifier: Classifier, split: FlowerSplit, resources: Resources) -> list[str]:
    """Why the model's maps mean little, if it is at chance or far below what its file states; also printed."""
    from ..evaluate.models.accuracy_check import check_accuracy

    doubt = check_accuracy(classifier, split, resources.in_flight).doubt
    if not doubt:
        return []
    warn(doubt)
    return [doubt]


def _part(options: dict[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options by the names that are listed, and the others."""
    listed = {name: options[name] for name in names}
    return listed, {name: value for name, value in options.items() if name not in names}


def _print_sanity(document: dict[str, Any], folder: Path, as_json: bool) -> None:
    """File the checks, and print them as JSON or as tables; raises Refusal if a method failed."""
    from ..evaluate.calls import refuse_if_nothing_was_scored
    from .sanity_table import show_sanity

    write_json(document, folder / "sanity.json")
    refuse_if_nothing_was_scored(document)
    if as_json:
        echo_json(document)
    else:
        show_sanity(document)
    if failed := document["failed"]:
        raise Refusal(f"{len(failed)} methods failed; the first: {failed[0]['method']}: {failed[0]['reason']}")
