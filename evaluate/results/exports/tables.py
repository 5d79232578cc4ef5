"""The tables of an exported run: long rows of scores in shards, and a file of maps for each cell that kept them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind
from an8flower.gate.tables import read_parquet

from ..finished import FinishedRun, FinishedStudy
from ..folder import SCHEMA
from ..map_files import MapPart, MapsManifest, open_part, read_maps
from ..statistics.scores import is_method
from .columns import MAPS, SCORES, to_schema

SHARD_BYTES = 2**27  # of the long rows of one file, not compressed
MAP_ROWS = 64  # maps of a row group
EXPORTED = FileKind("a table of an exported run", 2**32, "export the run again")


class ScoreShard(NamedTuple):
    """The long rows of some cells of one data set, which lie in one file."""

    name: str
    cells: tuple[str, ...]
    tables: tuple[pa.Table, ...]


class WrittenShard(NamedTuple):
    """What was written into a file of scores."""

    place: Path
    cells: int
    lines: int


def write_scores(folder: Path, run: FinishedRun) -> Iterator[WrittenShard]:
    """Write the long rows of a run in shards, as `scores/00-NAME-00000.parquet`; each is told of once it is there."""
    for number, study in enumerate(run.studies):
        for shard in _shards(run, study, number):
            place = folder / "scores" / f"{shard.name}.parquet"
            with moved_into(place) as unfinished:
                _write_shard(unfinished, study, shard)
            yield WrittenShard(place, len(shard.cells), sum(table.num_rows for table in shard.tables))


def _shards(run: FinishedRun, study: FinishedStudy, number: int) -> Iterator[ScoreShard]:
    """The cells of a data set in shards of bounded size."""
    start, count, cells, tables = f"{number:02d}-{to_file_stem(study.name)}", 0, [], []
    for cell, rows in run.cells(study):
        cells.append(cell)
        tables.append(rows)
        if sum(table.nbytes for table in tables) >= SHARD_BYTES:
            yield ScoreShard(f"{start}-{count:05d}", tuple(cells), tuple(tables))
            count, cells, tables = count + 1, [], []
    if cells:
        yield ScoreShard(f"{start}-{count:05d}", tuple(cells), tuple(tables))


def to_file_stem(name: str) -> str:
    """The name of a data set as part of a file's name.

    >>> to_file_stem("my flowers/2")
    'my-flowers-2'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80]


def _write_shard(unfinished: Path, study: FinishedStudy, shard: ScoreShard) -> None:
    schema = to_schema(SCORES)
    with pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for cell, rows in zip(shard.cells, shard.tables, strict=True):
            writer.write_table(_with_place(rows, study, cell, schema))


def _with_place(rows: pa.Table, study: FinishedStudy, cell: str, schema: pa.Schema) -> pa.Table:
    """Long rows with the columns that say where they belong."""
    count, names = rows.num_rows, study.methods
    methods = [names.get(name) if is_method(name) else None for name in rows["explainer"].to_pylist()]
    texts = {"dataset": [study.name] * count, "split": [study.split] * count, "cell": [cell] * count, "method": methods}
    columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    return pa.table({**columns, **{name: rows[name] for name in SCHEMA.names}}, schema=schema)


def write_cell_maps(folder: Path, study: FinishedStudy, cell: str, place: Path) -> int:
    """Write the maps of a cell as `maps/CELL.parquet` unless they are there, and return how many there are."""
    target, part = folder / "maps" / f"{cell}.parquet", open_part(place)
    if not target.exists():
        with moved_into(target) as unfinished:
            _write_maps(unfinished, study, cell, part)
    return part.shape[0]


def _write_maps(unfinished: Path, study: FinishedStudy, cell: str, part: MapPart) -> None:
    schema = to_schema(MAPS, manifest=part.manifest.to_json())
    rows = np.arange(part.shape[0]) if part.rows is None else part.rows
    with pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for start in range(0, len(rows), MAP_ROWS):
            places = np.arange(start, min(start + MAP_ROWS, len(rows)))
            writer.write_table(_maps_table(study, cell, part.manifest, rows[places], read_maps(part, places), schema))


def _maps_table(
    study: FinishedStudy, cell: str, manifest: MapsManifest, rows: np.ndarray, maps: np.ndarray, schema: pa.Schema
) -> pa.Table:
    """Maps (n, H, W) float32 of rows (n,) as a table."""
    count, height, width = maps.shape
    ends = np.arange(0, (count + 1) * height * width, height * width, dtype=np.int32)
    same = {
        "dataset": study.name,
        "split": manifest.split,
        "cell": cell,
        "method": manifest.method,
        "model": manifest.model,
        "target": manifest.target,
        "height": height,
        "width": width,
    }
    columns = {name: pa.array([value] * count, schema.field(name).type) for name, value in same.items()}
    columns |= {"row": pa.array(rows, pa.int64()), "map": pa.ListArray.from_arrays(ends, pa.array(maps.ravel()))}
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def read_score_shard(place: Path) -> pa.Table:
    """The lines of a file of exported scores; raises Refusal if it is none, or damaged."""
    return read_parquet(place, EXPORTED, to_schema(SCORES))


def split_into_cells(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Each cell of exported scores with its long rows as the run filed them, in the order of the export."""
    names = table["cell"].to_pylist()
    starts = [i for i, name in enumerate(names) if not i or name != names[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(names)], strict=True):
        yield names[start], table.slice(start, stop - start).select(SCHEMA.names).cast(SCHEMA)


def refuse_no_maps(run: FinishedRun) -> None:
    """Raise a Refusal where a run kept no maps at all."""
    if not any(run.maps(study) for study in run.studies):
        raise Refusal(f"{run.folder}: kept no maps; run `an8flower audit` with --keep-maps, or leave --maps out")
