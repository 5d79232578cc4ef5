"""The command that plants a shortcut on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import WrongUsage
from .options import FILE, as_json
from .printing import echo_json

FIXED = ("mark", "speaks_for", "scale", "seed", "size", "fit")  # what a planted file has decided already


@click.command()
@click.argument("pictures", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option(
    "--mark", default="tag", show_default=True, help="tag, ball or flower, in a colour for each class; or a PNG."
)
@click.option("--for", "speaks_for", metavar="CLASS", help="The class that a PNG speaks for.  [default: the first]")
@click.option("--agreement", type=float, default=0.98, show_default=True, help="Share of the training rows that agree.")
@click.option("--val", type=float, help="Share of the validation rows that agree.  [default: as --agreement]")
@click.option("--test", type=float, default=0.0, show_default=True, help="Share of the test rows that agree.")
@click.option(
    "--scale",
    type=float,
    nargs=2,
    default=(0.15, 0.25),
    show_default=True,
    help="Longer side of a mark, from and to, as a share of the picture's side.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other places.")
@click.option("--size", type=click.IntRange(16, 1024), help="Scale every picture to this square.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "squeeze"]),
    help="What is taken of a picture that is no square: its centre, or the whole, distorted.  [default: it is refused]",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads that read.  [default: one for each core]")
@click.option("--force", is_flag=True, help="Replace a file at this place.")
@as_json
def plant(
    pictures: Path,
    output: Path,
    size: int | None,
    fit: Any,
    workers: int | None,
    force: bool,
    as_json: bool,
    **wish: Any,
) -> None:
    """Plant a shortcut on your own photographs, PICTURES/<class>/*, to see which explainers would have told you.

    Every photograph gets a mark, at a place of its own. In the share of the training rows that --agreement says, it is
    the mark of the photograph's class, else another class's. A PNG with opacity (a logo, a ruler) speaks for one class
    by being there, and for the others by missing. The photograph below is kept, so that the marks of other classes can
    be put in the same place: a model trained on the file goes by the mark or by the picture, and `certify` tells which.

    PICTURES can also be a file that this command wrote: its photographs are planted again at the same places, with the
    same marks, in other shares.

    \b
    Example:  an8flower plant photos --fit crop --size 112 --agreement 0.98 -o data/planted.h5
              an8flower plant data/planted.h5 --agreement 0.6 -o data/weaker.h5
    """
    from .progress import counting

    with counting("planting", None) as step:
        if pictures.suffix in (".h5", ".hdf5"):
            left_out = _replant(pictures, output, wish, force, workers=workers, progress=step)
        else:
            left_out = _plant(pictures, output, wish, size=size, fit=fit, workers=workers, force=force, progress=step)
    _print_planted(output, left_out, as_json)


def _plant(pictures: Path, output: Path, wish: dict[str, Any], **how: Any) -> list[Path]:
    """Plant marks on photographs; returns what was left out."""
    from ..planting import Wish
    from ..planting import plant as carry_out

    return sorted(set(carry_out(pictures, output, Wish(**wish), **how).photographs.left_out))


def _replant(source: Path, output: Path, wish: dict[str, Any], force: bool, **how: Any) -> list[Path]:
    """Plant the photographs of a file again; raises WrongUsage for options that the file has decided."""
    from ..importing import refuse_existing
    from ..planting import replant

    fixed = [name for name in FIXED if _is_typed(name)]
    if fixed:
        names = ", ".join("--for" if name == "speaks_for" else f"--{name}" for name in fixed)
        raise WrongUsage(f"{names}: {source} has marks, places and a size already; give the photographs instead")
    refuse_existing(output, force)
    val = wish["agreement"] if wish["val"] is None else wish["val"]
    replant(source, output, {"train": wish["agreement"], "val": val, "test": wish["test"]}, force=True, **how)
    return []


def _is_typed(name: str) -> bool:
    """Whether the user gave an option."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _print_planted(output: Path, left_out: list[Path], as_json: bool) -> None:
    """Print what was planted, and in how many rows of each split it agrees."""
    from ..planted import count_agreeing, describe_planting, planting_of
    from ..store import FlowerStore

    store = FlowerStore(output)
    planting = planting_of(store)
    assert planting is not None, "it was planted just now"
    splits = {split: len(store[split]) for split in store.splits}
    shares = {
        split: count_agreeing(planting, store[split].labels, store[split].placed) / rows
        for split, rows in splits.items()
    }
    if as_json:
        document = {"file": str(output), "classes": store.class_names, "splits": splits, "agreeing": shares}
        described = describe_planting(store, planting)
        echo_json({**document, "planting": described, "left_out": [str(path) for path in left_out]})
        return
    counts = ", ".join(f"{splits[split]} {split}, {share:.1%} agree" for split, share in shares.items())
    click.echo(f"{output}: {sum(splits.values()):,} pictures of {len(store.class_names)} classes ({counts})")
    if left_out:
        named = ", ".join(map(str, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        click.echo(f"left out: {len(left_out):,} ({named})")
