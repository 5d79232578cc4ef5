"""The commands about data sets: render, list, inspect, verify, import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refusal, WrongUsage
from .options import FILE, as_json, device_option, spec_options
from .places import DEFAULT_DATA, data_path
from .printing import echo_json, warn
from .signing import refuse_wrong_signature, show_signature, verify_signature
from .with_progress import generate_with_progress

if TYPE_CHECKING:
    from ..store import FlowerStore


@click.command()
@click.argument("spec", default=DEFAULT_DATA)
@click.option("-o", "--output", type=FILE, help="The file to write.  [default: data/SPEC.h5]")
@spec_options
@click.option("--force", is_flag=True, help="Replace another data set at this place.")
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

    The same command continues an interrupted run. If the file is there already and holds the same data set, it is left
    as it is.

    \b
    Example:  an8flower generate double-12c --rows 20000 -o data/large.h5
    """
    from .. import spec as specs
    from ..album import photograph_remarks

    wanted = specs.load(spec).with_changes(rows=rows, size=size, seed=seed)
    path = output or data_path(wanted.name)
    for sentence in photograph_remarks(wanted):
        warn(sentence)
    result = generate_with_progress(wanted, path, workers, force)
    if as_json:
        echo_json({"file": str(path), "digest": wanted.digest, "rows": wanted.rows.total, "seconds": result.seconds})
    elif result.existed:
        click.echo(f"{path} is there already, with the same spec: nothing to do")
    else:
        click.echo(f"{path}: {wanted.rows.total:,} rows in {result.seconds:.1f} s")


@click.command()
@as_json
def presets(as_json: bool) -> None:
    """List the specs of data sets that come with an8flower.

    \b
    Example:  an8flower presets
    """
    from .. import spec as specs
    from .fitting import show

    shipped = [specs.load(name) for name in specs.presets()]
    if as_json:
        echo_json([{"name": s.name, "title": s.title, "purpose": s.purpose, "digest": s.digest} for s in shipped])
    else:
        show(["name", "what it is", "what it is for"], [[s.name, s.title, s.purpose] for s in shipped])


@click.command()
@click.argument("file", type=FILE)
@click.option("--sheet", type=FILE, help="Also write a contact sheet of pictures and masks.")
@click.option("--split", default="test", show_default=True, help="The split that the sheet shows: train, val or test.")
@click.option("--rows", type=click.IntRange(min=1), default=24, show_default=True, help="Pictures on the sheet.")
@as_json
def inspect(file: Path, sheet: Path | None, split: str, rows: int, as_json: bool) -> None:
    """Show what a data set holds: classes and their evidence, splits, parts.

    \b
    Example:  an8flower inspect data/single-6c.h5 --sheet sheet.png
    """
    from ..inspection import contents, write_sheet
    from ..store import FlowerStore
    from .fitting import show_mapping

    store = FlowerStore(file)
    description = contents(store)
    if sheet:
        write_sheet(store, split, rows, sheet)
    if as_json:
        echo_json(description)
    else:
        show_mapping(description)


@click.command()
@click.argument("file", type=FILE)
@click.option("--leak", is_flag=True, help="Paint evidence and void pixels over, train on what is left, and test it.")
@click.option("--rows", type=click.IntRange(min=1), default=3000, show_default=True, help="Of each split, for --leak.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True, help="Of training, for --leak.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the network of --leak.")
@click.option("--public-key", type=FILE, help="Of an audit: the key (Ed25519, PEM) that has to have signed it.")
@device_option
@as_json
def verify(
    file: Path, leak: bool, rows: int, epochs: int, seed: int, public_key: Path | None, device: str, as_json: bool
) -> None:
    """Recompute every checksum of a data set, or of the folder of an audit, and report what is damaged.

    Of an audit, the manifest lists the files that its page rests on: plan, data, weights, scores, summary and page. One
    that has another sha256 is named. With --public-key, the manifest has to be signed by that key. Nothing that is read
    is run.

    Of a data set, the values are looked at as well. A process with limits of time and memory reads the file, so that a
    damaged one harms nothing else. With --leak a small network is trained on the pictures with all evidence painted
    over. If it tells the classes, the exit status is 1: then something besides the evidence tells them.

    \b
    Example:  an8flower verify --leak data/single-6c.h5
              an8flower verify runs/quick --public-key public.pem
    """
    from ..gate.child import walk_in_child
    from ..store import REMAKE, FlowerStore
    from ..store import verify as recompute

    if os.path.isdir(file):  # a name that no file system takes is no folder, and is refused below
        _verify_run(file, leak, public_key, as_json)
        return
    if public_key:
        raise click.UsageError(f"--public-key is for the folder of an audit; {file} is none")

    places = {}
    for place, holds in walk_in_child(recompute, file, REMAKE):
        places[place] = holds
        if not as_json:
            click.echo(f"{'ok      ' if holds else 'DAMAGED '} {place}")
    broken = [place for place, holds in places.items() if not holds]
    if broken:
        raise Refusal(f"{file}: {', '.join(broken)} damaged; make the file again with `an8flower generate --force`")
    store = FlowerStore(file)
    if store.lack and not as_json:
        click.echo(store.lack)
    document = {"file": str(file), "sound": list(places), "lacks": store.lack}
    verdict = _measure_leak(store, rows, epochs, seed, device) if leak else None
    if as_json:
        echo_json({**document, "leak": verdict} if verdict else document)
    elif verdict:
        click.echo(f"{file}: {verdict['sentence']}")
    if verdict and verdict["leaks"]:
        raise SystemExit(1)


def _verify_run(folder: Path, leak: bool, public_key: Path | None, as_json: bool) -> None:
    """Print the state of every file that an audit rests on; raises Refusal if one is not as it was, or not signed."""
    from ..evaluate.results.manifest import roles_of, verify_run

    if leak:
        raise click.UsageError(f"--leak tests a data set; {folder} is the folder of an audit")
    states, signature = verify_run(folder), verify_signature(folder, public_key)
    if as_json:
        echo_json({"run": str(folder), "files": states, "signature": signature})
    else:
        roles = roles_of(folder)
        rows = [path for path, state in states.items() if roles.get(path) == "rows" and state == "ok"]
        for path, state in states.items():
            if path not in rows:
                click.echo(f"{state:<8} {path}")
        if rows:
            click.echo(f"ok       {len(rows)} files with the scores of rows")
        show_signature(signature, folder)
    if changed := [f"{path} ({state.lower()})" for path, state in states.items() if state != "ok"]:
        raise Refusal(
            f"{folder}: not as the audit left it: {', '.join(changed)}; put the files back, or run the audit again"
        )
    refuse_wrong_signature(signature, folder, public_key)


def _measure_leak(store: FlowerStore, rows: int, epochs: int, seed: int, device: str) -> dict[str, Any]:
    """What a network tells of the classes without the evidence, see `trust.leak`."""
    from ..evaluate.resources import settle_on
    from ..evaluate.trust.leak import measure_leak
    from .progress import counting

    with counting("epochs", epochs) as step:
        verdict = measure_leak(
            store,
            rows=rows,
            epochs=epochs,
            seed=seed,
            device=settle_on(device, needs_double=False),
            on_epoch=lambda report: step(1),
        )
    return verdict.document()


@click.command(name="import")
@click.argument("images", type=FILE)
@click.argument("masks", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--size", type=click.IntRange(16, 1024), help="Scale every picture and mask to this square.")
@click.option("--void", type=click.IntRange(0, 65535), help="The value in a mask of pixels that count for nothing.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "squeeze"]),
    help="What is taken of a picture that is no square: its centre, or the whole, distorted.  [default: it is refused]",
)
@click.option("--force", is_flag=True, help="Replace a file at this place.")
@as_json
def import_(images: Path, masks: Path | None, output: Path, force: bool, as_json: bool, **reading: Any) -> None:
    """Make a data set from your own pictures, IMAGES/<class>/*, and masks, MASKS/<class>/*.

    A mask belongs to the picture of the same class with the same file name, extensions aside. Bright pixels of a mask
    are evidence. Pixels with the value of --void, such as the borders of Pascal VOC (255), are neither evidence nor
    not: no localisation metric counts them. Pictures that are shared out already, IMAGES/train/<class>/*, keep their
    splits. A folder that `an8flower export` wrote is given alone, and becomes the data set that it was.

    \b
    Example:  an8flower import an8Flower_double_12c an8Flower_double_12c_MASK -o data/original.h5
              an8flower import single-6c -o data/single-6c.h5
    """
    if masks is not None:
        _import_pictures(images, masks, output, force, as_json, **reading)
    elif unfit := [f"--{name}" for name, value in reading.items() if value is not None]:
        raise WrongUsage(f"{', '.join(unfit)}: for pictures and masks; an export is read as it is")
    else:
        _import_export(images, output, force, as_json)


def _import_export(folder: Path, output: Path, force: bool, as_json: bool) -> None:
    from ..exporting.reading import import_export, is_export
    from .progress import counting

    if not is_export(folder):
        raise Refusal(f"{folder}: is no export of an8flower; give a folder of masks as well")
    with counting("importing", None) as step:
        contents = import_export(folder, output, force=force, progress=step)
    if as_json:
        echo_json({"file": str(output), "digest": contents.attributes["digest"], "splits": contents.splits})
    else:
        click.echo(f"{output}: {sum(contents.splits.values()):,} rows of an export")


def _import_pictures(images: Path, masks: Path, output: Path, force: bool, as_json: bool, **reading: Any) -> None:
    from ..importing import count_masks, import_folders
    from .progress import counting

    with counting("importing", None) as step:
        pairs = import_folders(images, masks, output, **reading, force=force, progress=step)
    for sentence in pairs.gaps():
        warn(sentence)
    counts, splits = count_masks(output), {split: len(members) for split, members in pairs.splits.items()}
    if as_json:
        document = {"file": str(output), "classes": list(pairs.class_names), "splits": splits, **vars(counts)}
        echo_json({**document, "left_out": [str(path) for path in pairs.left_out]})
        return
    shares = ", ".join(f"{count} {split}" for split, count in splits.items())
    click.echo(f"{output}: {len(pairs.pairs):,} pictures of {len(pairs.class_names)} classes ({shares})")
    click.echo(
        f"evidence: {counts.share:.1%} of the pixels; {counts.empty:,} rows without any, "
        f"{counts.full:,} that are nothing but evidence"
    )
    if pairs.left_out:
        named = ", ".join(str(path) for path in pairs.left_out[:3]) + (", ..." if len(pairs.left_out) > 3 else "")
        click.echo(f"left out: {len(pairs.left_out):,} ({named})")
