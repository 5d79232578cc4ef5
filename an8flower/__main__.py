"""The command line: options in, one call, words out. Heavy imports wait inside, so that --help is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import Refusal
from .names import unknown

if TYPE_CHECKING:
    from .evaluate.contract import Verdict
    from .spec import DatasetSpec

DEFAULT_DATA, DEFAULT_ARCH = "single-6c", "flowernet"
FILE = click.Path(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")


class Commands(click.Group):
    """Tells a refusal in one sentence, and answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, with a remedy."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(unknown("command", args[0], self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a refusal ends it with its own exit code."""
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            click.echo(f"Error: {refusal}", err=True)
            ctx.exit(refusal.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted. What is finished is kept: the same command goes on from there.", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="an8flower")
def main() -> None:
    """Which visual explanations of an image classifier can be trusted?

    Flowers are rendered whose class-discriminative parts are known to the pixel; classifiers are trained on them; any
    explainer is scored against the truth.

    \b
    Example:  an8flower score --method gradcam --method random
    """


@main.command()
@click.argument("spec", default=DEFAULT_DATA)
@click.option("-o", "--output", type=FILE, help="The file to write.  [default: data/SPEC.h5]")
@click.option("--rows", type=click.IntRange(min=1), help="Rows in all, shared out 70/10/20.  [default: as in the spec]")
@click.option("--size", type=int, help="Side of the pictures in pixels.  [default: as in the spec]")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed gives other rows.  [default: as in the spec]")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that render.  [default: one per core]")
@click.option("--force", is_flag=True, help="Replace another data set that is there.")
@as_json
def generate(
    spec: str,
    output: Path | None,
    rows: int | None,
    size: int | None,
    seed: int | None,
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Render a data set: SPEC is a preset's name or a .toml file.

    An interrupted run goes on where it stopped. The same data set already there is left as it is.

    \b
    Example:  an8flower generate double-12c --rows 20000 -o data/large.h5
    """
    from . import spec as specs

    wanted = specs.load(spec).with_changes(rows=rows, size=size, seed=seed)
    path = output or _data_path(wanted.name)
    made = _generate(wanted, path, workers, force)
    if as_json:
        _echo_json({"file": str(path), "digest": wanted.digest, "rows": wanted.rows.total, "seconds": made.seconds})
    elif made.existed:
        click.echo(f"{path} is there already, with the same spec: nothing to do")
    else:
        click.echo(f"{path}: {wanted.rows.total:,} rows in {made.seconds:.1f} s")


@main.command()
@as_json
def presets(as_json: bool) -> None:
    """List the data sets that are shipped as specs.

    \b
    Example:  an8flower presets
    """
    from . import spec as specs
    from .tables import show

    shipped = [specs.load(name) for name in specs.presets()]
    if as_json:
        _echo_json([{"name": s.name, "title": s.title, "purpose": s.purpose, "digest": s.digest} for s in shipped])
    else:
        show(["name", "what it is", "what it is for"], [[s.name, s.title, s.purpose] for s in shipped])


@main.command()
@click.argument("file", type=FILE)
@click.option("--sheet", type=FILE, help="Also write a contact sheet of pictures and masks.")
@click.option("--split", default="test", show_default=True, help="Where the sheet's rows come from.")
@click.option("--rows", type=click.IntRange(min=1), default=24, show_default=True, help="Pictures on the sheet.")
@as_json
def inspect(file: Path, sheet: Path | None, split: str, rows: int, as_json: bool) -> None:
    """Tell what a data set holds.

    \b
    Example:  an8flower inspect data/single-6c.h5 --sheet sheet.png
    """
    from .inspection import contents, write_sheet
    from .store import FlowerStore
    from .tables import show_mapping

    store = FlowerStore(file)
    found = contents(store)
    if sheet:
        write_sheet(store, split, rows, sheet)
    if as_json:
        _echo_json(found)
    else:
        show_mapping(found)


@main.command()
@click.argument("file", type=FILE)
def verify(file: Path) -> None:
    """Recompute every checksum of a data set.

    \b
    Example:  an8flower verify data/single-6c.h5
    """
    from .store import verify as recompute

    broken = []
    for place, holds in recompute(file):
        click.echo(f"{'ok      ' if holds else 'DAMAGED '} {place}")
        broken += [] if holds else [place]
    if broken:
        raise Refusal(f"{file}: {', '.join(broken)} damaged; make the file again with `an8flower generate --force`")


@main.command(name="import")
@click.argument("images", type=FILE)
@click.argument("masks", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--size", type=click.IntRange(16, 1024), help="Scale every picture and mask to this square.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def import_(images: Path, masks: Path, output: Path, size: int | None, force: bool) -> None:
    """Make a data set from IMAGES/<class>/* and MASKS/<class>/*, matched by stem.

    \b
    Example:  an8flower import an8Flower_double_12c an8Flower_double_12c_MASK -o data/original.h5
    """
    from .importing import import_folders
    from .progress import counting

    if output.exists() and not force:
        raise Refusal(f"{output}: exists; replace it with --force, or write elsewhere with -o")
    with counting("importing", None) as step:
        found = import_folders(images, masks, output, size=size, progress=step)
    shares = ", ".join(f"{len(pairs)} {split}" for split, pairs in found.splits.items())
    click.echo(f"{output}: {len(found.pairs):,} pictures of {len(found.class_names)} classes ({shares})")


@main.command()
@click.option("--data", type=FILE, help="The data set.  [default: data/single-6c.h5, made if it is not there]")
@click.option("--arch", default=DEFAULT_ARCH, show_default=True, help="See `an8flower archs`.")
@click.option("--epochs", type=click.IntRange(min=1), help="At most so many.  [default: the arch's own]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@device_option
@click.option("-o", "--output", type=FILE, help="The file to write.  [default: runs/DATA/ARCH-seedN.safetensors]")
@as_json
def train(
    data: Path | None, arch: str, epochs: int | None, seed: int, device: str, output: Path | None, as_json: bool
) -> None:
    """Train a classifier and print its test accuracy.

    \b
    Example:  an8flower train --data data/double-12c.h5 --arch resnet18 --seed 1
    """
    data = data or _default_data()
    told = _train(data, arch, epochs, seed, device, output)
    if as_json:
        _echo_json(told)
    else:
        effort = f"{told['epochs']} epochs, {told['seconds']:.0f} s"
        click.echo(f"{told['model']}: test accuracy {told['accuracy']:.2%} after {effort}")


@main.command()
@as_json
def methods(as_json: bool) -> None:
    """List the explainers: name, family, parameters with defaults, source, what they need.

    Besides these, any class of Captum, pytorch-grad-cam or Zennit is a method: write captum:Occlusion(...),
    grad_cam:GradCAMPlusPlus, zennit:EpsilonPlusFlat(epsilon=1e-6).

    \b
    Example:  an8flower methods --json
    """
    from .evaluate.methods import describe

    _list(describe(), as_json)


@main.command()
@click.argument("name")
@as_json
def check(name: str, as_json: bool) -> None:
    """Check an explainer: does it keep the promises that scores rest on?

    NAME is all that --method takes: a registered name with parameters, package.module:attribute for your own frozen
    dataclass, a plug-in's entry point, or a class of another toolkit. It is put through a table of checks on three
    small networks: a CNN with in-place ReLUs, one with batch norm and reused modules, and a vision transformer. Exits
    with 1 where a promise is broken, and says which, and how to mend it.

    \b
    Example:  an8flower check "captum:IntegratedGradients(n_steps=20)"
    """
    import torch

    from .evaluate.contract import check_explainer, outcome
    from .evaluate.methods import parse_method

    method = parse_method(name)
    torch.set_num_threads(1)  # more cost more than they save on images of 16 pixels
    verdicts = list(check_explainer(method.explainer, method.class_sensitive))
    broken = outcome(name, verdicts)
    if as_json:
        _echo_json({"method": name, "holds": broken is None, "checks": [each._asdict() for each in verdicts]})
    else:
        _show_verdicts(verdicts)
    if broken:
        raise Refusal(broken)


def _show_verdicts(verdicts: list[Verdict]) -> None:
    """Each promise with what came of it on each network; below, the reasons, each once."""
    from .evaluate.contract import CHECKS
    from .tables import show

    cells = {(each.check, each.network): each.status for each in verdicts}
    networks = list(dict.fromkeys(each.network for each in verdicts))
    rows = [
        [each.name, *(cells.get((each.name, network), "-") for network in networks), each.promise] for each in CHECKS
    ]
    show(["check", *networks, "what is promised"], rows)
    places: dict[tuple[str, str, str], list[str]] = {}
    for each in verdicts:
        if each.reason:
            places.setdefault((each.status, each.check, each.reason), []).append(each.network)
    for (status, name, reason), where in places.items():
        click.echo(f"{status}: {name} on {', '.join(where)}: {reason}")


@main.command()
@click.argument("name", required=False)
@as_json
def metrics(name: str | None, as_json: bool) -> None:
    """List the metrics, or print the card of one.

    \b
    Example:  an8flower metrics iou
    """
    from .evaluate.measures import parse_metrics
    from .tables import show, show_mapping

    cards = [metric.card() for metric in parse_metrics([name or "all"])]
    if as_json:
        _echo_json(cards)
    elif name:
        show_mapping(cards[0])
    else:
        show(["name", "family", "what it is"], [[c["name"], c["family"], c["definition"]] for c in cards])


@main.command()
@as_json
def archs(as_json: bool) -> None:
    """List the classifier architectures.

    \b
    Example:  an8flower archs
    """
    from .evaluate.registry import archs as registered

    entries = [registered[name] for name in registered.names()]
    _list([{"name": entry.name, **entry.about} for entry in entries], as_json)


@main.command()
@click.option("--method", required=True, help="See `an8flower methods`; parameters as in smoothgrad:samples=50.")
@click.option("--image", type=FILE, help="A picture to explain.")
@click.option("--data", type=FILE, help="A data set to take a row from.  [default: data/single-6c.h5]")
@click.option("--row", type=click.IntRange(min=0), help="The row within the split.")
@click.option("--split", default="test", show_default=True)
@click.option("--model", help="A safetensors file or package.module:factory.  [default: runs/DATA/flowernet-seed0]")
@click.option("--target", type=int, help="Class index to explain.  [default: the row's label, or what is predicted]")
@device_option
@click.option("-o", "--output", type=FILE, default=Path("explanation.png"), show_default=True)
def explain(
    method: str,
    image: Path | None,
    data: Path | None,
    row: int | None,
    split: str,
    model: str | None,
    target: int | None,
    device: str,
    output: Path,
) -> None:
    """Explain one picture: input, map and overlay as a PNG, and the map as .npy beside it.

    \b
    Example:  an8flower explain --method gradcam --row 7 -o why.png
    """
    if (image is None) == (row is None):
        raise click.UsageError("give either --image FILE, or --row N (with --data FILE)")
    from .evaluate.single import explain_image, explain_row

    data = data or _default_data()
    source = model or str(_default_model(data, device))
    if image is not None:
        told = explain_image(image, data, source, method, target, device, output)
    else:
        told = explain_row(data, split, int(row or 0), source, method, target, device, output)
    click.echo(told)


@main.command()
@click.option(
    "--method",
    "methods",
    multiple=True,
    required=True,
    help="Repeatable; all, family:cam, NAME:a=1,b=2, package.module:attribute, captum:CLASS(a=1).",
)
@click.option("--data", type=FILE, help="The data set.  [default: data/single-6c.h5, made if it is not there]")
@click.option("--model", "models", multiple=True, help="Repeatable.  [default: flowernet, trained if it is not there]")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Repeatable; all, family:NAME, NAME:a=1,b=2.  [default: what maps and masks tell]",
)
@click.option("--split", default="test", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), help="Spread evenly over the classes.  [default: all]")
@click.option("--target", type=click.Choice(["label", "predicted"]), default="label", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of rows and explainers.")
@click.option("--batch", type=click.IntRange(min=1), help="Images in flight; default 16, on a GPU 128.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    show_default=True,
    help="Of methods that mask; the error of bf16 is printed.",
)
@device_option
@as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print one CSV table and nothing else.")
@click.option("-o", "--output", type=FILE, help="Folder of the results.  [default: runs/DATA]")
def score(
    methods: tuple[str, ...],
    data: Path | None,
    models: tuple[str, ...],
    metrics: tuple[str, ...],
    split: str,
    rows: int | None,
    target: Any,
    seed: int,
    batch: int | None,
    precision: str,
    device: str,
    as_json: bool,
    as_csv: bool,
    output: Path | None,
) -> None:
    """Explain and score: each method on each row against the truth, with 95 % intervals and calibration.

    Calibrated: 0 is what a random map scores on these masks, 1 what the truth itself scores.

    \b
    Example:  an8flower score --method gradcam --method random --rows 300
    """
    if as_json and as_csv:
        raise click.UsageError("give one of --json and --csv, not both")
    from .evaluate.measures import USUAL, parse_metrics
    from .evaluate.methods import at_precision, broken_plug_ins, parse_methods
    from .evaluate.resources import Resources, device_named
    from .evaluate.scoring import ScoringPlan
    from .evaluate.scoring import score as judge
    from .progress import filling
    from .tables import show_scores, write_csv

    resources = Resources(device_named(device), batch)
    wanted = tuple(at_precision(parse_methods(methods), precision))
    if any(text == "all" or text.startswith("family:") for text in methods):
        for reason in broken_plug_ins().values():
            click.echo(f"left out: {reason}", err=True)
    names = tuple(metric.name for metric in parse_metrics(metrics or (USUAL,)))
    data = data or _default_data()
    sources = models or (str(_default_model(data, device)),)
    plan = ScoringPlan(data, sources, wanted, names, split, rows, target, seed)
    with filling("scoring") as progress:
        outcome = judge(plan, resources, output or _run_folder(data), progress)
    document = outcome.document
    _refuse_if_nothing_was_scored(document)
    if as_json:
        _echo_json(document)
    elif as_csv:
        write_csv(document, sys.stdout)
    else:
        show_scores(document)
    if failed := document["failed"]:
        raise Refusal(f"{len(failed)} cells failed; the first: {failed[0]['method']}: {failed[0]['reason']}")


def _refuse_if_nothing_was_scored(document: dict[str, Any]) -> None:
    if not document["results"]:
        raise Refusal((document["failed"] or document["skipped"])[0]["reason"])


@main.command()
@click.option("--data", type=FILE, help="The data set.  [default: data/single-6c.h5, made if it is not there]")
@click.option("--model", "models", multiple=True, help="Repeatable.  [default: flowernet, trained if it is not there]")
@click.option("--split", default="test", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), help="Spread evenly over the classes.  [default: 300]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of rows and changes.")
@click.option("--batch", type=click.IntRange(min=1), help="Images in flight; default 16, on a GPU 128.")
@device_option
@as_json
@click.option("-o", "--output", type=FILE, help="Also write the JSON document to this file.")
def certify(
    data: Path | None,
    models: tuple[str, ...],
    split: str,
    rows: int | None,
    seed: int,
    batch: int | None,
    device: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Tell what a classifier relies on: one thing in a scene is changed, and it is rendered and asked again.

    Does the prediction follow when the row gets the class's parts of another class? Does it stay when all else is drawn
    again? What does it do to redraw, swap or remove each part? Who decides where a shortcut contradicts the evidence?

    \b
    Example:  an8flower certify --data data/shortcut-6c.h5 --rows 200
    """
    from .certificate_table import show_certificates
    from .evaluate.causes.certificate import certified
    from .evaluate.causes.world import World
    from .evaluate.resources import Resources, device_named
    from .progress import filling
    from .store import FlowerStore

    resources = Resources(device_named(device), batch)
    data = data or _default_data()
    world = World.of(FlowerStore(data)[split], resources.device)
    sources = models or (str(_default_model(data, device)),)
    with filling("certifying") as progress:
        document = certified(sources, world, rows, seed, resources, progress)
    if output:
        _write_json(document, output)
    if as_json:
        _echo_json(document)
    else:
        show_certificates(document)


@main.command()
@click.option("--method", "methods", multiple=True, required=True, help="Repeatable; as in `an8flower score`.")
@click.option("--data", type=FILE, help="The data set.  [default: data/single-6c.h5, made if it is not there]")
@click.option("--model", help="A safetensors file or package.module:factory.  [default: runs/DATA/flowernet-seed0]")
@click.option("--split", default="test", show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=60, show_default=True, help="Spread over the classes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of rows and random models.")
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="Of the walk down, at most.")
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True, help="Of the whole random network.")
@click.option("--recalibrate", is_flag=True, help="Have batch norms take new statistics, not keep theirs.")
@click.option("--smooth", is_flag=True, help="Also smooth MPRT: --samples times the cost.")
@click.option("--samples", type=click.IntRange(min=1), default=50, show_default=True, help="Noisy images of --smooth.")
@click.option("--labels/--no-labels", default=True, show_default=True, help="Also a model of permuted labels.")
@click.option("--batch", type=click.IntRange(min=1), help="Images in flight; default 16, on a GPU 128.")
@device_option
@as_json
@click.option("-o", "--output", type=FILE, help="Folder of sanity.json and of that model.  [default: runs/DATA]")
def sanity(
    methods: tuple[str, ...],
    data: Path | None,
    model: str | None,
    split: str,
    rows: int,
    seed: int,
    steps: int,
    draws: int,
    recalibrate: bool,
    smooth: bool,
    samples: int,
    labels: bool,
    batch: int | None,
    device: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Do the maps of a method depend on what the model has learnt? A sanity check, not a score.

    The model's parameters are drawn anew: layer by layer from the logits down, each layer alone, and all of them. A
    model of the same architecture memorises permuted labels. A method passes where its maps of such models are no more
    like those of the trained model than halfway between maps of other images and the same map.

    \b
    Example:  an8flower sanity --method gradcam --method guided_backprop --method edges --rows 30
    """
    from .evaluate.methods import parse_methods
    from .evaluate.models import open_model
    from .evaluate.resources import Resources, device_named
    from .evaluate.sanity.label_randomisation import Memory
    from .evaluate.sanity.run import SanityPlan
    from .evaluate.sanity.run import sanity as check_sanity
    from .progress import filling
    from .sanity_table import show_sanity
    from .store import FlowerStore

    resources, wanted = Resources(device_named(device), batch), parse_methods(methods)
    data = data or _default_data()
    store, folder = FlowerStore(data), output or _run_folder(data)
    classifier = open_model(model or str(_default_model(data, device)), store, resources.device)
    memory = Memory(seed=seed) if labels else None
    count, noisy = min(rows, len(store[split])), samples if smooth else None
    plan = SanityPlan(split, count, seed, steps, draws, recalibrate, noisy, memory)
    with filling("randomising") as progress:
        document = check_sanity(classifier, wanted, store, plan, resources, folder, progress)
    _write_json(document, folder / "sanity.json")
    _refuse_if_nothing_was_scored(document)
    if as_json:
        _echo_json(document)
    else:
        show_sanity(document)
    if failed := document["failed"]:
        raise Refusal(f"{len(failed)} methods failed; the first: {failed[0]['method']}: {failed[0]['reason']}")


def _generate(spec: DatasetSpec, path: Path, workers: int | None = None, force: bool = False) -> Any:
    from .generate import generate as make
    from .progress import counting

    with counting(f"rendering {spec.name}", spec.rows.total) as step:
        return make(spec, path, workers=workers, force=force, progress=step)


def _train(data: Path, arch: str, epochs: int | None, seed: int, device: str, output: Path | None) -> dict[str, Any]:
    """Train, save, and tell as `train --json` does."""
    from .evaluate.resources import device_named
    from .evaluate.training import train as fit
    from .progress import filling
    from .store import FlowerStore

    store = FlowerStore(data)
    place = output or _run_folder(data) / f"{arch}-seed{seed}.safetensors"
    with filling(f"training {arch}") as progress:
        trained = fit(
            store,
            arch,
            epochs=epochs,
            seed=seed,
            device=device_named(device),
            on_epoch=lambda report: progress(report.epoch + 1, report.epochs),
        )
    trained.classifier.save(place)
    numbers = {"accuracy": trained.accuracy, "epochs": trained.epochs, "seconds": trained.seconds}
    return {"model": str(place), "arch": arch, "seed": seed, **numbers}


def _default_data() -> Path:
    """The default data set, made first where it is not there."""
    from . import spec as specs

    path = _data_path(DEFAULT_DATA)
    if not path.exists():
        click.echo(f"{path} is not there: generating it first", err=True)
        _generate(specs.load(DEFAULT_DATA), path)
    return path


def _default_model(data: Path, device: str) -> Path:
    """The default model of a data set, trained first where it is not there."""
    from .evaluate.models import check_trained_on
    from .store import FlowerStore

    path = _run_folder(data) / f"{DEFAULT_ARCH}-seed0.safetensors"
    if path.exists():
        check_trained_on(path, FlowerStore(data))
    else:
        click.echo(f"{path} is not there: training it first", err=True)
        _train(data, DEFAULT_ARCH, None, 0, device, None)
    return path


def _data_path(name: str) -> Path:
    return Path("data") / f"{name}.h5"


def _run_folder(data: Path) -> Path:
    return Path("runs") / data.stem


def _list(entries: list[dict[str, Any]], as_json: bool) -> None:
    from .tables import show

    if as_json:
        _echo_json(entries)
    else:
        columns = list(dict.fromkeys(key for entry in entries for key in entry))
        show(columns, [[_words(entry.get(column)) for column in columns] for entry in entries])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each!r}" for key, each in value.items())
    return "" if value is None else str(value)


def _write_json(document: Any, path: Path) -> None:
    """Write a JSON document; the file appears when it is whole."""
    from .evaluate.results import moved_into

    try:
        with moved_into(path) as unfinished:
            unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None


def _echo_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))


if __name__ == "__main__":
    main(prog_name="an8flower")
