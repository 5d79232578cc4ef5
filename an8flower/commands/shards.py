"""The commands about data sets in shards: render one shard, and join all shards in one file."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import WrongUsage
from .options import FILE, as_json, spec_options
from .printing import echo_json


@click.command()
@click.argument("spec")
@click.argument("share", metavar="K/N")
@click.option("-o", "--output", type=FILE, default=Path("data"), show_default=True, help="Folder of the shards.")
@spec_options
@click.option("--force", is_flag=True, help="Replace another shard at this place.")
@as_json
def shard(
    spec: str,
    share: str,
    output: Path,
    rows: int | None,
    size: int | None,
    seed: int | None,
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Render one of N parts of a data set, number K. Machines take different K, and the same SPEC and options.

    The same command continues an interrupted run. If the same shard is there already, it is left as it is.

    \b
    Example:  an8flower shard single-6c 2/5 --rows 1000000 -o /shared/shards
    """
    from .. import spec as specs
    from ..sharding import generate_shard
    from .progress import counting

    wanted = specs.load(spec).with_changes(rows=rows, size=size, seed=seed)
    number, of = _share(share)
    with counting(f"rendering {wanted.name} {share}", wanted.rows.total // of) as step:
        result = generate_shard(wanted, number, of, output, workers=workers, force=force, progress=step)
    if as_json:
        echo_json({"file": str(result.path), "digest": wanted.digest, "shard": [number, of], "seconds": result.seconds})
    else:
        click.echo(f"{result.path}: {'is there already' if result.existed else f'written in {result.seconds:.1f} s'}")


@click.command()
@click.argument("shards", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace another data set at this place.")
@as_json
def merge(shards: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Join all SHARDS of a data set in one file. It refers to them and copies no pictures: keep them where they are.

    Every shard is read and checked. The file is used like any other data set.

    \b
    Example:  an8flower merge /shared/shards/single-6c-*of5.h5 -o /shared/single-6c.h5
    """
    from ..sharding import merge as lay_over
    from ..sharding import spec_of
    from .progress import counting

    spec = spec_of(shards[0])
    with counting(f"checking {spec.name}", spec.rows.total) as step:
        result = lay_over(spec, shards, output, force=force, progress=step)
    if as_json:
        echo_json({"file": str(output), "digest": spec.digest, "rows": spec.rows.total, "seconds": result.seconds})
    elif result.existed:
        click.echo(f"{output} is there already, with the same spec: nothing to do")
    else:
        click.echo(f"{output}: {spec.rows.total:,} rows in {len(shards)} shards")


def _share(text: str) -> tuple[int, int]:
    """Read the two numbers of a share such as "2/5"."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdigit() and of.isdigit()):
        raise WrongUsage(f'share "{text}": expected K/N, as in 2/5')
    return int(number), int(of)
