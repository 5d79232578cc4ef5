"""The command that writes a data set, or the results of a run, in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from .options import FILE, as_json
from .printing import echo_json


@click.command()
@click.argument("source", metavar="DATA|RUN", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The folder to write.")
@click.option(
    "--to",
    "layout",
    type=click.Choice(["parquet", "folder", "webdataset"]),
    help="Of a data set: Parquet files, a folder of pictures for each class, or tar archives.  [required]",
)
@click.option("--pairs", is_flag=True, help="Of a data set: also write where each row differs from each other class.")
@click.option("--maps", is_flag=True, help="Of a run: also write the maps that it kept (--keep-maps).")
@click.option("--workers", type=click.IntRange(min=1), help="Threads that compress.  [default: one for each core]")
@click.option("--force", is_flag=True, help="Replace another export at this place.")
@as_json
def export(
    source: Path,
    output: Path,
    layout: str | None,
    pairs: bool,
    maps: bool,
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a data set, or the results of a run, for other tools, with cards about them.

    DATA is an .h5 file: pictures, masks, part maps and factors are written. `an8flower import FOLDER -o FILE` gives the
    same data set back.

    RUN is the folder of a finished audit, or of scores: a line for each row, method and metric is written as Parquet,
    with the plan and the environment. `an8flower compare` takes the folder as it takes the run.

    The same command continues an interrupted run.

    \b
    Example:  an8flower export data/single-6c.h5 -o single-6c --to parquet
              an8flower export runs/quick -o quick-results
    """
    if source.is_dir():
        if pairs or layout not in (None, "parquet"):
            raise click.UsageError("--pairs and --to are for data sets; the results of a run become Parquet")
        _export_run(source, output, maps, force, as_json)
    elif layout is None:
        raise click.UsageError("Missing option '--to'. Choose from: parquet, folder, webdataset")
    elif maps:
        raise click.UsageError("--maps is for the folder of a run, and DATA is a file")
    else:
        _export_data(source, output, layout, pairs, workers, force, as_json)


def _export_data(
    data: Path, output: Path, layout: str, pairs: bool, workers: int | None, force: bool, as_json: bool
) -> None:
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


def _export_run(run: Path, output: Path, maps: bool, force: bool, as_json: bool) -> None:
    from ..evaluate.results.exports.write import export_run

    result = export_run(run, output, with_maps=maps, force=force)
    if as_json:
        echo_json({"folder": str(output), "lines": result.lines, "maps": result.maps})
    elif result.existed:
        click.echo(f"{output} is there already, the same export: nothing to do")
    else:
        click.echo(f"{output}: {result.lines:,} lines of scores{f', {result.maps:,} maps' if maps else ''}")
