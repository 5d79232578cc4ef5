"""The folder of a run: long rows, a Parquet file for each cell, and a JSON file for each cell that failed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind
from an8flower.gate.tables import read_parquet

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # index within the split
        ("label", pa.int64()),
        ("predicted", pa.int64()),  # null in the references, which need no model
        ("model", pa.string()),  # arch-seedN-digest, null in the references of a metric that needs no model
        ("explainer", pa.string()),  # repr of the explainer, or chance, or oracle
        ("metric", pa.string()),
        ("value", pa.float32()),  # null if undefined, and for a metric that is a curve
        ("curve", pa.list_(pa.float32())),  # the curve that the value is chosen from over all rows, or that it sums up
        ("reason", pa.string()),  # why a value is undefined
        ("seconds", pa.float64()),  # for explaining one image
        ("forwards", pa.float64()),  # per image, in passes through the whole network
        ("backwards", pa.float64()),  # likewise
    ]
)


PART = FileKind("the rows of a cell", 2**30, "run the same command again")
CELL = "cell"  # the entry of a part's metadata that says of which cell it is
METRIC_FAILED = "this metric failed: "  # how the reason begins of a value that is missing for that


class RunFolder:
    """The folder in which a run keeps its results."""

    def __init__(self, folder: Path, neighbours: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._neighbours = neighbours  # other runs: a part of the same name is equal, so it is taken from there

    def part(self, cell: str) -> Path:
        """The path of the long rows of a cell."""
        return self.folder / "scores" / f"{cell}.parquet"

    def failure(self, cell: str) -> Path:
        """The path of the document that says how a cell failed."""
        return self.folder / "failed" / f"{cell}.json"

    def write_part(self, cell: str, rows: pa.Table) -> None:
        """Write the long rows of a cell, and remove the failure of an earlier run."""
        with moved_into(self.part(cell)) as unfinished:
            pq.write_table(rows.replace_schema_metadata({CELL: cell}), unfinished, write_page_checksum=True)
        self.failure(cell).unlink(missing_ok=True)

    def has(self, cell: str, is_answer: Callable[[pa.Table], bool] = lambda rows: True) -> bool:
        """Whether a cell is done, here or in another run; a part that is damaged, or no answer, counts as missing."""
        if holds_answer(self.part(cell), is_answer):
            return True
        for folder in self._neighbours:
            other = RunFolder(folder).part(cell)
            if other.exists() and holds_answer(other, is_answer):
                with moved_into(self.part(cell)) as unfinished:
                    shutil.copyfile(other, unfinished)
                return True
        return False

    def table(self, cells: Sequence[str]) -> pa.Table:
        """The long rows of several cells; raises Refusal if those of a cell are missing or damaged."""
        parts = [read_part(self.part(cell)) for cell in cells]
        missing = sum(part is None for part in parts)
        if missing:
            raise Refusal(f"{self.folder}: {missing} of {len(cells)} parts are missing; run the same command again")
        return pa.concat_tables(part for part in parts if part is not None) if parts else SCHEMA.empty_table()


def holds_answer(place: Path, is_answer: Callable[[pa.Table], bool]) -> bool:
    """Whether a file holds the long rows that are meant."""
    rows = read_part(place)
    return rows is not None and is_answer(rows)


def read_part(place: Path) -> pa.Table | None:
    """The long rows of the cell after which a file is named; None if they are missing, damaged, or another cell's."""
    try:
        rows = read_parquet(place, PART, SCHEMA)
    except Refusal:
        return None
    return rows if (rows.schema.metadata or {}).get(CELL.encode()) == place.stem.encode() else None


def list_parts(summary: Mapping[str, Any]) -> list[str]:
    """The names of the cells whose long rows an audit's summary rests on; none in summaries that do not say."""
    return [name for study in summary["studies"] for name in (study.get("long_rows") or {}).get("parts", ())]
