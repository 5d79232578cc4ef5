"""The command that scores methods against the truth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal
from .ensure import ensure_default_data, ensure_default_model
from .options import (
    FILE,
    as_json,
    batch_option,
    data_option,
    device_option,
    in_process_option,
    memory_limit_option,
    models_option,
    network_options,
    split_option,
    time_limit_option,
    weights_option,
)
from .places import run_folder
from .printing import echo_json, warn
from .requirements import Gate, end_by_requirements, requirement_options, show_requirements, write_verdict_files

if TYPE_CHECKING:
    from ..evaluate.audits.engines.task import Engine
    from ..evaluate.results.requirements import Requirement
    from ..evaluate.scoring.run import ScoringOutcome


@click.command()
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="NAME, NAME:a=1,b=2, family:cam, all, package.module:attribute, captum:CLASS(a=1) and its like; repeatable.",
)
@click.option(
    "--maps",
    multiple=True,
    help="A file (.npz, .npy, .h5, .safetensors) or a folder of maps, scored beside the methods; repeatable.",
)
@click.option("--name", "names", multiple=True, help="The name of the maps of each --maps, in the same order.")
@data_option
@models_option
@weights_option
@network_options
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="NAME, NAME:a=1,b=2, family:NAME, all, quantus:NAME(a=1); repeatable.  "
    "[default: those that need maps and masks alone]",
)
@split_option
@click.option(
    "--rows", type=click.IntRange(min=1), help="How many rows, spread evenly over the classes.  [default: all]"
)
@click.option("--target", type=click.Choice(["label", "predicted"]), default="label", show_default=True)
@click.option(
    "--truth",
    type=click.Choice(["association", "use"]),
    default="association",
    show_default=True,
    help="Of data with a suppressor: what goes along with the class, or all that the best classifier uses.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice of rows and of methods that draw.",
)
@requirement_options
@batch_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "tf32"]),
    default="float32",
    show_default=True,
    help="bf16: of methods that mask; its error is printed. tf32: how a GPU multiplies, which moves maps.",
)
@device_option
@in_process_option
@time_limit_option(1800, "one block of rows")
@memory_limit_option
@as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print one CSV table and nothing else.")
@click.option("-o", "--output", type=FILE, help="Folder of the results.  [default: runs/DATA]")
def score(
    methods: tuple[str, ...],
    maps: tuple[str, ...],
    names: tuple[str, ...],
    data: Path | None,
    models: tuple[str, ...],
    weights: tuple[Path, ...],
    metrics: tuple[str, ...],
    split: str,
    rows: int | None,
    target: Any,
    truth: Any,
    seed: int,
    gate: Gate,
    batch: int | None,
    precision: str,
    device: str,
    in_process: bool,
    time_limit: float,
    memory_limit: float | None,
    as_json: bool,
    as_csv: bool,
    output: Path | None,
    **network: Any,
) -> None:
    """Score methods: explain each row by each method, and compare the maps with the truth.

    Scores are calibrated: 0 is what a random map scores on these masks, 1 what the truth itself scores. They come with
    95 % intervals. Beside mean_mask, center or edges they have a skill: 0 is the best of these, which see no model. A
    further number says how much of a score is about the picture, and is lost with the maps of other rows.

    Methods and metrics that are not ours (a module of yours, a plug-in, a toolkit's class) run in a process of their
    own. If one fails, hangs or dies, a sentence says so, and the others have their numbers.

    Maps that were made elsewhere are scored by --maps: one for each row, with a manifest that says which data set,
    split and model they explain.

    What --require asks for is decided by the bounds of 95 % intervals: it holds, fails, or is undecided. The exit code
    is 3 if something fails, with --strict 4 if something is undecided, and 1 if some method failed.

    \b
    Example:  an8flower score --method gradcam --method random --rows 300
              an8flower score --maps maps.npz --name mine --model mine.nets:factory
    """
    methods = _take_words((*methods, *_name_maps(maps, names)), as_json, as_csv)
    from ..evaluate.metrics.naming import parse_metrics
    from ..evaluate.models.sources import NetworkSettings, pair_with_weights
    from ..evaluate.options import USUAL
    from ..evaluate.resources import Resources, settle_on
    from ..evaluate.scoring.required import read_requirements
    from ..evaluate.scoring.run import ScoringPlan
    from .progress import filling
    from .workers import open_worker, read_methods

    resources = Resources(settle_on(device, "tf32" if precision == "tf32" else "float32"), batch)
    with open_worker(in_process, time_limit, memory_limit) as engine:
        wanted = tuple(read_methods(methods, "float32" if precision == "tf32" else precision, engine))
        _name_broken_plug_ins(methods)
        metrics = metrics or (USUAL,)
        parse_metrics(metrics)
        requirements = read_requirements(gate.require, wanted, metrics)
        settings = NetworkSettings.read(**network)
        data = data or ensure_default_data()
        sources = pair_with_weights(models, weights, settings) or (str(ensure_default_model(data, device)),)
        plan = ScoringPlan(data, sources, wanted, metrics, split, rows, target, truth, seed)
        folder = _folder_of_scores(output, data)
        with filling("scoring") as progress:
            outcome = _choose_scorer(engine)(plan, resources, folder, progress, warn=warn)
    _conclude(outcome.document, requirements, gate, as_json, as_csv)


def _folder_of_scores(output: Path | None, data: Path) -> Path:
    """The folder of the results, which must not be that of an audit."""
    from ..evaluate.results.files import refuse_audit

    folder = output or run_folder(data)
    refuse_audit(folder)
    return folder


def _take_words(methods: tuple[str, ...], as_json: bool, as_csv: bool) -> tuple[str, ...]:
    """The words for methods as they are; raises UsageError if there are none, or two ways of printing."""
    if not methods:
        raise click.UsageError("Missing option '--method'; give methods with it, or maps with --maps")
    if as_json and as_csv:
        raise click.UsageError("give one of --json and --csv, not both")
    return methods


def _name_maps(maps: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """The texts by which maps in files are methods."""
    from ..evaluate.options import to_stored

    if names and len(names) != len(maps):
        raise click.UsageError(f"{len(names)} --name came for {len(maps)} --maps; give one for each, or none")
    return [to_stored(path, name) for path, name in zip(maps, names or [None] * len(maps), strict=True)]


def _choose_scorer(engine: Engine | None) -> Callable[..., ScoringOutcome]:
    """The function that scores: one that has the engine run strangers' code, or one that runs everything here."""
    if engine:
        from ..evaluate.audits.scored_apart import score_apart

        return partial(score_apart, engine=engine)
    from ..evaluate.scoring.run import score

    return score


def _name_broken_plug_ins(methods: tuple[str, ...]) -> None:
    """Name the plug-ins that cannot be imported on standard error, if `all` or a family leaves them out."""
    from ..evaluate.explaining.methods import broken_plug_ins

    if any(text == "all" or text.startswith("family:") for text in methods):
        for reason in broken_plug_ins().values():
            click.echo(f"left out: {reason}", err=True)


def _conclude(
    document: dict[str, Any], requirements: Sequence[Requirement], gate: Gate, as_json: bool, as_csv: bool
) -> None:
    """Decide what was required, write and print what came out, and end with the exit code that it gives."""
    from ..evaluate.calls import refuse_if_nothing_was_scored
    from ..evaluate.scoring.required import decide_scores, to_summary

    refuse_if_nothing_was_scored(document)
    decided = decide_scores(requirements, document)
    write_verdict_files(to_summary(decided), gate)
    _print_scores(decided, as_json, as_csv)
    end_by_requirements(decided["requirements"], gate.strict)


def _print_scores(document: dict[str, Any], as_json: bool, as_csv: bool) -> None:
    """Print scores as JSON, as CSV or as tables; raises Refusal if some cells failed."""
    from .tables import show_scores, write_csv

    if as_json:
        echo_json(document)
    elif as_csv:
        write_csv(document, sys.stdout)
    else:
        show_scores(document)
        show_requirements(document["requirements"])
    if failed := document["failed"]:
        raise Refusal(f"{len(failed)} cells failed; the first: {failed[0]['method']}: {failed[0]['reason']}")
