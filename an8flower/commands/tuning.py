"""The command that tunes the parameters of a method on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import Refusal
from .ensure import ensure_default_data, ensure_default_model
from .options import (
    FILE,
    as_json,
    batch_option,
    data_option,
    device_option,
    network_options_with,
    precision_option,
    weights_option,
)
from .places import run_folder
from .printing import echo_json, warn, write_json


@click.command()
@click.option("--method", required=True, help="NAME, or NAME:a=1,b=2, whose parameters a and b stay as they are.")
@click.option(
    "--metric", default="iou_area", show_default=True, help="The metric that is tuned for, as in `an8flower score`."
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    help="A parameter that is tuned; repeatable.  [default: all that have a range]",
)
@click.option(
    "--trials", type=click.IntRange(min=2), default=20, show_default=True, help="How many combinations are tried."
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=120,
    show_default=True,
    help="How many validation rows a trial is scored on, spread evenly over the classes; all if there are fewer.",
)
@click.option(
    "--test-rows",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="How many test rows the gain is measured on, in the end; all if there are fewer.",
)
@data_option
@click.option(
    "--model",
    help="A safetensors file, package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER or onnx:FILE.  "
    "[default: runs/DATA/flowernet-seed0]",
)
@weights_option
@network_options_with("--class-names")
@click.option("--target", type=click.Choice(["label", "predicted"]), default="label", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the search, of the choice of rows and of methods that draw.",
)
@batch_option
@device_option
@precision_option
@click.option(
    "--in-process",
    is_flag=True,
    help="Let a method or a metric that is not ours be tuned: its code runs in this process, without limits.",
)
@as_json
@click.option(
    "-o", "--output", type=FILE, help="Folder of the cells, the document and the picture.  [default: runs/DATA/tuning]"
)
def tune(
    method: str,
    metric: str,
    parameters: tuple[str, ...],
    trials: int,
    rows: int,
    test_rows: int,
    data: Path | None,
    model: str | None,
    weights: tuple[Path, ...],
    target: Any,
    seed: int,
    batch: int | None,
    device: str,
    precision: str,
    in_process: bool,
    as_json: bool,
    output: Path | None,
    **network: Any,
) -> None:
    """Tune a method: which values of its parameters find the evidence best?

    Every parameter that has a range is tuned (`an8flower methods NAME` lists them). All combinations are tried if they
    are few, else those that Optuna's TPE proposes. The score is the calibrated mean of one metric, and only rows of the
    validation split are read. What is gained by it is then measured on rows of the test split, with its 95 % interval:
    the validation score of the best of many trials is always too good.

    The tuned method is a method like any other: score it by the text that is printed.

    \b
    Example:  an8flower tune --method finercam --metric iou_area --trials 20
              an8flower score --method finercam --method finercam:gamma=0.9,count=1
    """
    from ..evaluate.models.sources import NetworkSettings, pair_with_weights
    from ..evaluate.resources import Resources, settle_on
    from ..evaluate.results.files import refuse_audit
    from ..evaluate.scoring.tuning import TuningPlan
    from ..evaluate.scoring.tuning import tune as search
    from .progress import filling

    _refuse_strangers(method, metric, in_process)
    resources = Resources(settle_on(device, precision), batch)
    settings = NetworkSettings.read(**network)
    data = data or ensure_default_data()
    folder = output or run_folder(data) / "tuning"
    refuse_audit(folder)
    (source,) = pair_with_weights([model or str(ensure_default_model(data, device))], weights, settings)
    plan = TuningPlan(data, (source,), method, metric, trials, parameters, rows, target, seed=seed)
    with filling("tuning") as progress:
        outcome = search(plan, resources, folder, progress, test_rows=test_rows, warn=warn)
    _write(outcome.document, folder)
    if as_json:
        echo_json(outcome.document)
    else:
        show_search(outcome.document)


def _refuse_strangers(method: str, metric: str, in_process: bool) -> None:
    """Raise a Refusal if code that is not ours would run in this process, unless the user says that it may."""
    from ..evaluate.explaining.methods import stranger_of
    from ..evaluate.metrics import naming

    stranger = stranger_of(method) or naming.stranger_of(metric)
    if stranger and not in_process:
        raise Refusal(f"{stranger} is not ours, and tuning runs it in this process: add --in-process if you trust it")


def _write(document: Mapping[str, Any], folder: Path) -> None:
    """Write the document and the picture of a search into the folder of its cells."""
    from ..evaluate.report.tuning_curve import draw_search

    place = folder / f"tuning-{file_stem(document)}.json"
    write_json(document, place)
    try:
        place.with_suffix(".png").write_bytes(draw_search(document))
    except OSError as error:
        raise Refusal(f"{place.with_suffix('.png')}: cannot be written ({error.strerror}); make room") from None


def file_stem(document: Mapping[str, Any]) -> str:
    """The part of a file's name that tells a search from others: the method and the metric."""
    words = f"{document['text']}-{document['metric']}"
    return "".join(letter if letter.isalnum() or letter in "-_.=" else "." for letter in words)


def show_search(document: Mapping[str, Any]) -> None:
    """Print the trials of a search, what was chosen, and what it gains on test rows."""
    from ..evaluate.results.tuned import gain_words
    from ..evaluate.results.wording import model_words, number
    from .fitting import console, show

    def say(sentence: str) -> None:
        console().print(sentence, markup=False, highlight=False, soft_wrap=True)

    search, test, chosen = document["search"], document["test"], document["chosen"]
    models = ", ".join(map(model_words, document["models"]))
    say(f"{document['text']} on {models}: {document['metric']}, {search['rows']} rows of {search['split']}")
    names = list(search["space"])
    rows = [
        [
            str(trial["number"]),
            *(str(trial["values"][name]) for name in names),
            _with_interval(trial),
            number(trial["best"], 3),
            trial["reason"] or "",
        ]
        for trial in document["trials"]
    ]
    reasons = any(trial["reason"] for trial in document["trials"])
    columns = ["trial", *names, "calibrated", "best so far", *(["reason"] if reasons else [])]
    show(columns, [row[: len(columns)] for row in rows], title="validation rows; trial 0 is the method as it is")
    gain, (untuned, tuned) = test["gain"], (number(test[key]["calibrated"], 3) for key in ("untuned", "tuned"))
    say(f"Chosen: {chosen['text']}")
    say(
        f"On {test['rows']} test rows: {untuned} untuned, {tuned} tuned; gain {number(gain['calibrated'], 3)} "
        f"(95 % interval {number(gain['low'], 3)} to {number(gain['high'], 3)}): {gain_words(gain)}"
    )


def _with_interval(entry: Mapping[str, Any]) -> str:
    """A calibrated score with its 95 % interval."""
    from ..evaluate.results.wording import number

    if entry["calibrated"] is None:
        return "-"
    return f"{number(entry['calibrated'], 3)} ({number(entry['low'], 3)} to {number(entry['high'], 3)})"
