"""The commands about data sets: render, list, inspect, verify, import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import Refusal
from .options import FILE, as_json, spec_options
from .places import DEFAULT_DATA, data_path
from .printing import echo_json, warn
from .with_progress import generate_with_progress


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

    wanted = specs.load(spec).with_changes(rows=rows, size=size, seed=seed)
    path = output or data_path(wanted.name)
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
    from .tables import show

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
    from .tables import show_mapping

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
def verify(file: Path) -> None:
    """Recompute every checksum of a data set, look at its values, and report what is damaged.

    A process with limits of time and memory reads the file, so that a damaged one harms nothing else.

    \b
    Example:  an8flower verify data/single-6c.h5
    """
    from ..gate.child import walk_in_child
    from ..store import REMAKE
    from ..store import verify as recompute

    broken = []
    for place, holds in walk_in_child(recompute, file, REMAKE):
        click.echo(f"{'ok      ' if holds else 'DAMAGED '} {place}")
        broken += [] if holds else [place]
    if broken:
        raise Refusal(f"{file}: {', '.join(broken)} damaged; make the file again with `an8flower generate --force`")


@click.command(name="import")
@click.argument("images", type=FILE)
@click.argument("masks", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--size", type=click.IntRange(16, 1024), help="Scale every picture and mask to this square.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "squeeze"]),
    help="What is taken of a picture that is no square: its centre, or the whole, distorted.  [default: it is refused]",
)
@click.option("--force", is_flag=True, help="Replace a file at this place.")
@as_json
def import_(images: Path, masks: Path, output: Path, size: int | None, fit: Any, force: bool, as_json: bool) -> None:
    """Make a data set from your own pictures, IMAGES/<class>/*, and masks, MASKS/<class>/*.

    A mask belongs to the picture of the same class with the same file name, extensions aside. Bright pixels of a mask
    are evidence. Pictures that are shared out already, IMAGES/train/<class>/*, keep their splits.

    \b
    Example:  an8flower import an8Flower_double_12c an8Flower_double_12c_MASK -o data/original.h5
    """
    from ..importing import count_masks, import_folders
    from .progress import counting

    with counting("importing", None) as step:
        pairs = import_folders(images, masks, output, size=size, fit=fit, force=force, progress=step)
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
