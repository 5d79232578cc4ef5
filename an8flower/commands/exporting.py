"""The command that writes a data set in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from .options import FILE, as_json
from .printing import echo_json


@click.command()
@click.argument("data", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The folder to write.")
@click.option(
    "--to",
    "layout",
    type=click.Choice(["parquet", "folder", "webdataset"]),
    required=True,
    help="Parquet files, a folder of pictures for each class, or tar archives.",
)
@click.option("--pairs", is_flag=True, help="Also write where each row differs from each other class.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that compress.  [default: one for each core]")
@click.option("--force", is_flag=True, help="Replace another export at this place.")
@as_json
def export(data: Path, output: Path, layout: str, pairs: bool, workers: int | None, force: bool, as_json: bool) -> None:
    """Write a data set for other tools: pictures, masks, part maps, factors, and cards about them.

    The same command continues an interrupted run. `an8flower import FOLDER -o FILE` gives the same data set back.

    \b
    Example:  an8flower export data/single-6c.h5 -o single-6c --to parquet
    """
    from ..exporting.export import export as write
    from ..store import FlowerStore
    from .progress import counting

    store = FlowerStore(data)
    total = sum(len(store[split]) for split in store.splits)
    with counting(f"exporting {store.name}", total) as step:
        result = write(data, output, layout, with_pairs=pairs, workers=workers, force=force, progress=step)
    if as_json:
        echo_json({"folder": str(output), "layout": layout, "rows": result.rows, "seconds": result.seconds})
    elif result.existed:
        click.echo(f"{output} is there already, the same export: nothing to do")
    else:
        click.echo(f"{output}: {result.rows:,} rows in {result.seconds:.1f} s")
