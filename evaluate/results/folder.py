"""The folder of a run: parts of long rows, and what failed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from an8flower.atomic import moved_into
from an8flower.errors import Refusal

from .files import write_json

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # index within the split
        ("label", pa.int64()),
        ("predicted", pa.int64()),  # null in the references: they ask no model
        ("model", pa.string()),  # arch-seedN-digest, null in the references of a metric that asks no model
        ("explainer", pa.string()),  # repr of the explainer, or chance, or oracle
        ("metric", pa.string()),
        ("value", pa.float32()),  # null where undefined, and for a metric that is a curve
        ("curve", pa.list_(pa.float32())),  # that the value is chosen from over all rows, or that lies behind it
        ("reason", pa.string()),  # why a value is undefined
        ("seconds", pa.float64()),  # per image, of explaining
        ("forwards", pa.float64()),  # per image, in passes through the whole network
        ("backwards", pa.float64()),
    ]
)


class Run:
    """A folder of results."""

    def __init__(self, folder: Path, neighbours: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._neighbours = neighbours  # other runs, whose parts are taken where they answer: a name says all

    def part(self, cell: str) -> Path:
        """Where a cell's rows lie."""
        return self.folder / "scores" / f"{cell}.parquet"

    def failure(self, cell: str) -> Path:
        """Where it is told how a cell failed."""
        return self.folder / "failed" / f"{cell}.json"

    def write_part(self, cell: str, rows: pa.Table) -> None:
        """File a cell's rows; a failure of an earlier run is cleared away."""
        with moved_into(self.part(cell)) as unfinished:
            pq.write_table(rows, unfinished, write_page_checksum=True)
        self.failure(cell).unlink(missing_ok=True)

    def write_json(self, place: Path, document: Mapping[str, Any]) -> None:
        """File a JSON document."""
        write_json(place, document)

    def has(self, cell: str) -> bool:
        """Whether a cell is done, here or in a neighbour; a part that is damaged counts as missing."""
        if read_part(self.part(cell)) is not None:
            return True
        for folder in self._neighbours:
            other = Run(folder).part(cell)
            if other.exists() and read_part(other) is not None:
                with moved_into(self.part(cell)) as unfinished:
                    shutil.copyfile(other, unfinished)
                return True
        return False

    def table(self, cells: Sequence[str]) -> pa.Table:
        """The rows of all given cells; raises Refusal where one is missing or damaged."""
        parts = [read_part(self.part(cell)) for cell in cells]
        missing = sum(part is None for part in parts)
        if missing:
            raise Refusal(f"{self.folder}: {missing} of {len(cells)} parts are missing; run the same command again")
        return pa.concat_tables(part for part in parts if part is not None) if parts else SCHEMA.empty_table()


def read_part(place: Path) -> pa.Table | None:
    """The long rows of a file, checksums verified; None where there are none, or they are damaged."""
    try:
        found = pq.read_table(place, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    return found if found.schema.equals(SCHEMA) else None
