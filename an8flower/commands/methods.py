"""The commands about explainers and metrics: list them, print a metric's card, check an explainer's contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal, WrongUsage
from .believed import show_believed
from .known_truths import check_by_hand, check_on_canvases
from .options import (
    FILE,
    as_json,
    batch_option,
    device_option,
    in_process_option,
    memory_limit_option,
    network_options_with,
    time_limit_option,
)
from .printing import echo_json, show_list

if TYPE_CHECKING:
    from ..evaluate.explaining.contract import ContractVerdict


@click.command()
@click.argument("name", required=False)
@click.option(
    "--model",
    help="A safetensors file, package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER or onnx:FILE: "
    "try each method on it, and say which ones run.",
)
@click.option("--weights", type=FILE, help="A safetensors file for the network that the factory makes.")
@network_options_with("--class-names")
@click.option("--data", type=FILE, help="The data set whose pictures methods are tried on.  [default: noise]")
@click.option("--audit", "run", type=FILE, help="The folder of an audit of this model: show its scores as well.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=4, show_default=True, help="How many pictures the cost is that of."
)
@batch_option
@device_option
@in_process_option
@time_limit_option(120, "its pictures")
@memory_limit_option
@as_json
def methods(name: str | None, model: str | None, run: Path | None, as_json: bool, **words: Any) -> None:
    """List the explainers: name, family, parameters with defaults, source, and what a network has to have.

    With NAME, one of them alone, with the ranges of its parameters: the values that are worth a try.

    With --model, each method is tried on that network: which ones run, why the others do not, and what a map costs in
    seconds and in passes. NAME may then be a family, as in family:cam. A method that learns from training rows first
    needs --data; learning is not in the cost. With --audit, the scores of the methods on this model stand beside it.

    Besides these, any class of Captum, pytorch-grad-cam, TorchCAM or Zennit is a method: write captum:Occlusion(...),
    grad_cam:GradCAMPlusPlus, torchcam:LayerCAM, zennit:EpsilonPlusFlat(epsilon=1e-6).

    \b
    Example:  an8flower methods attnlrp
              an8flower methods --model runs/single-6c/flowernet-seed0.safetensors --data data/single-6c.h5
    """
    if model is not None:
        from .applying import show_applicable

        show_applicable(name or "all", model, run, as_json, **words)
        return
    if run is not None or words["data"] is not None:
        raise click.UsageError("--audit and --data go with --model; name the model")
    entries = _describe_one(name) if name else _describe_all()
    if as_json:
        echo_json(entries)
    elif name:
        _show_method(entries[0])
    else:
        show_list([{key: value for key, value in entry.items() if key != "ranges"} for entry in entries], as_json)


def _describe_all() -> list[dict[str, Any]]:
    """Every explainer that can be named, plug-ins among them."""
    from ..evaluate.results.listing import read_listing

    entries = read_listing("methods")
    if entries is None:  # plug-ins are there, which have to be imported
        from ..evaluate.explaining.methods import describe_methods

        entries = describe_methods()
    return entries


def _describe_one(name: str) -> list[dict[str, Any]]:
    """The explainer of a name, in a list."""
    from ..evaluate.results.listing import read_entry

    entry = read_entry("methods", name)
    if entry is None:  # a plug-in, or package.module:attribute
        from ..evaluate.explaining.methods import describe_method

        entry = describe_method(name)
    return [entry]


def _show_method(entry: dict[str, Any]) -> None:
    """Print one explainer, and a table of its parameters."""
    from ..evaluate.results.wording import range_words
    from .fitting import show, show_mapping

    show_mapping({key: value for key, value in entry.items() if key not in ("parameters", "ranges") and value != ""})
    ranges = entry.get("ranges", {})
    rows = [[key, str(value), range_words(ranges.get(key, {}))] for key, value in entry["parameters"].items()]
    if rows:
        show(["parameter", "default", "range"], rows)


@click.command()
@click.argument("name")
@click.option("--by-hand", is_flag=True, help="Judge an explainer on networks whose weights are set, not learnt.")
@click.option("--architecture", is_flag=True, help="Judge it on canvases in which a model can look at one cell only.")
@click.option(
    "--model", metavar="FILE", help="With --architecture: the model.  [default: that of the default data set]"
)
@click.option("--data", type=FILE, help="With --architecture: the data set.  [default: data/single-6c.h5]")
@click.option("--picture", type=FILE, help="Draw the maps of --by-hand or --architecture into this .png.")
@in_process_option
@time_limit_option(120, "the checks on one network")
@memory_limit_option
@as_json
def check(
    name: str,
    by_hand: bool,
    architecture: bool,
    model: str | None,
    data: Path | None,
    picture: Path | None,
    in_process: bool,
    time_limit: float,
    memory_limit: float | None,
    as_json: bool,
) -> None:
    """Check an explainer or a metric: does it keep the promises that scores rest on?

    NAME is anything that --method takes: a registered name with parameters, package.module:attribute for your own
    frozen dataclass, a plug-in's entry point, or a class of another toolkit. Every promise is tested on three small
    networks: a CNN with in-place ReLUs, one with batch norm and reused modules, and a vision transformer. If a promise
    is broken, the command says which one and how to mend it, and exits with 1. What is not ours runs in a process of
    its own; if it dies or takes too long, the check has failed.

    NAME may also be a metric, as --metric takes it. Its promises are tested on made-up maps and masks.

    With --by-hand it is judged instead whether the maps are right, on nine networks of which it is known what they use
    (one reads only the disc, one only the background, one saturates, ...): does the positive attribution lie on pixels
    that the network can use, more than that of maps of other pictures? A method that fails one of them has a limit, and
    need not have a fault: the command exits with 0.

    With --architecture four pictures of different classes are laid side by side, and the model is cut so that its
    logits read the features of one of them: positive attribution beside that cell is wrong. `difull` computes the
    features of each cell alone, `dipart` over the whole canvas; `gridpg` is the model as it is, which may look
    everywhere.

    \b
    Example:  an8flower check "captum:IntegratedGradients(n_steps=20)"
              an8flower check gradcam --by-hand --picture gradcam.png
              an8flower check gradcam --architecture
    """
    import torch

    from ..evaluate.audits.checked_apart import check_apart, check_here, promises_of
    from ..evaluate.explaining.contract import UNWATCHED, outcome
    from ..evaluate.explaining.methods import stranger_of
    from .workers import open_worker

    if by_hand and architecture:
        raise WrongUsage("--by-hand and --architecture came together; ask for one after the other")
    if picture is not None and not (by_hand or architecture):
        raise WrongUsage("--picture came without --by-hand or --architecture; other checks draw no maps")
    if (model or data) and not architecture:
        raise WrongUsage("--model or --data came without --architecture; other checks bring their own networks")
    torch.set_num_threads(1)  # more cost more than they save on images of 16 pixels
    here, limits = in_process or not stranger_of(name), (time_limit, memory_limit)
    if by_hand:
        check_by_hand(name, here, limits, picture, as_json)
        return
    if architecture:
        check_on_canvases(name, (model, data), here, limits, picture, as_json)
        return
    with open_worker(here, *limits, threads=1) as engine:
        kind, verdicts = check_apart(name, engine) if engine else check_here(name)
    broken = outcome(name, verdicts)
    checks = [verdict._asdict() for verdict in verdicts]
    if as_json:
        echo_json({kind: name, "holds": broken is None, "checks": checks, "not_watched": UNWATCHED})
    else:
        _show_verdicts(verdicts, promises_of(kind))
        click.echo(f"Not watched: {'; '.join(UNWATCHED)}.")
    if broken:
        raise Refusal(broken)


def _show_verdicts(verdicts: list[ContractVerdict], promises: dict[str, str]) -> None:
    """Print the outcome of each promise on each network, and below them each reason once."""
    from .fitting import show

    cells = {(verdict.check, verdict.network): verdict.status for verdict in verdicts}
    networks = list(dict.fromkeys(verdict.network for verdict in verdicts))
    rows = [[check, *(cells.get((check, name), "-") for name in networks), text] for check, text in promises.items()]
    show(["check", *networks, "what is promised"], rows)
    places: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.reason:
            places.setdefault((verdict.status, verdict.check, verdict.reason), []).append(verdict.network)
    for (status, name, reason), names in places.items():
        click.echo(f"{status}: {name} on {', '.join(names)}: {reason}")


@click.command()
@click.argument("name", required=False)
@click.option("--meta", "run", type=FILE, help="The folder of an audit: say which of its metrics may be believed.")
@as_json
def metrics(name: str | None, run: Path | None, as_json: bool) -> None:
    """List the metrics, print the card of one, or say which metrics of an audit may be believed.

    Those of the family prototypes score the prototypes of a network, not maps: see `an8flower prototypes`.

    Besides these, metrics of Quantus are metrics: write quantus:PointingGame, or quantus:PixelFlipping(abs=True).

    With --meta the folder of a finished audit is read: how far each metric that needs no truth orders the methods as
    the truths do (Kendall's tau with 95 % intervals), on the models that are certified to rely on the evidence. If the
    plan had a table [meta], as the plan `metrics` has, it is also said until when a metric tells the truth from noise,
    and which wrong maps it takes for the truth. With NAME as well, only that metric is shown.

    \b
    Example:  an8flower metrics iou
              an8flower metrics --meta runs/metrics-reduced
    """
    if run is not None:
        show_believed(run, name, as_json)
        return
    from .fitting import show, show_mapping

    cards = _read_cards(name)
    if as_json:
        echo_json(cards)
    elif name:
        show_mapping(cards[0])
    else:
        show(["name", "family", "what it is"], [[c["name"], c["family"], c["definition"]] for c in cards])


def _read_cards(name: str | None) -> list[dict[str, Any]]:
    """The card of a metric, or of all: of those that score maps, and behind them of those that score prototypes."""
    from ..evaluate.results.listing import read_entry, read_listing
    from ..evaluate.results.prototype_cards import FAMILY, MEASURES, find_measure

    of_prototypes = [measure.card() for measure in MEASURES]
    if name and (measure := find_measure(name)):
        return [measure.card()]
    if name == f"family:{FAMILY}":
        return of_prototypes
    entry = read_entry("metrics", name) if name else None
    cards = [entry] if entry else None if name else read_listing("metrics")
    if cards is None:  # with parameters, of a family, or of a plug-in
        from ..evaluate.metrics.naming import parse_metrics

        cards = [metric.card() for metric in parse_metrics([name or "all"])]
    return cards if name and name != "all" else [*cards, *of_prototypes]
