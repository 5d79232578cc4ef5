"""What lies on disk after a run: parts of long rows, what failed, one table, a summary. No torch in here.

A part is a Parquet file of one cell, written beside its name and moved into place: presence means complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from an8flower.errors import Refusal

from .seeds import seed_of
from .statistics import calibrated, interval

CHANCE, ORACLE = "chance", "oracle"  # the two references, filed as if they were explainers
RELIANCE = "reliance"  # filed likewise: whether the model relies on the designed evidence in a row, 1 or 0, by model

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # index within the split
        ("label", pa.int64()),
        ("predicted", pa.int64()),  # null in the references: they ask no model
        ("model", pa.string()),  # arch-seedN-digest, null in the references of a metric that asks no model
        ("explainer", pa.string()),  # repr of the explainer, or chance, or oracle
        ("metric", pa.string()),
        ("value", pa.float32()),  # null where undefined, and for a metric that is a curve
        ("curve", pa.list_(pa.float32())),  # of a metric that is chosen from a curve over all rows
        ("reason", pa.string()),  # why a value is undefined
        ("seconds", pa.float64()),  # per image, of explaining
        ("forwards", pa.float64()),  # per image, in passes through the whole network
        ("backwards", pa.float64()),
    ]
)
Select = Callable[[np.ndarray], np.ndarray]  # curves (n, T) of all rows -> values (n,)


class Run:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def part(self, cell: str) -> Path:
        """Where a cell's rows lie."""
        return self.folder / "scores" / f"{cell}.parquet"

    def failure(self, cell: str) -> Path:
        """Where it is told how a cell failed."""
        return self.folder / "failed" / f"{cell}.json"

    def write_part(self, cell: str, rows: pa.Table) -> None:
        """File a cell's rows; a failure of an earlier run is cleared away."""
        with moved_into(self.part(cell)) as unfinished:
            pq.write_table(rows, unfinished)
        self.failure(cell).unlink(missing_ok=True)

    def write_json(self, place: Path, document: Mapping[str, Any]) -> None:
        """File a JSON document."""
        with moved_into(place) as unfinished:
            unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def has(self, cell: str) -> bool:
        """Whether a cell is done; a part that cannot be read counts as missing."""
        try:
            return pq.read_schema(self.part(cell)).equals(SCHEMA)
        except (OSError, pa.ArrowInvalid):
            return False

    def table(self, cells: Sequence[str]) -> pa.Table:
        """The rows of all given cells; raises Refusal where one is missing."""
        missing = [cell for cell in cells if not self.has(cell)]
        if missing:
            raise Refusal(
                f"{self.folder}: {len(missing)} of {len(cells)} parts are missing; run the same command again"
            )
        return pa.concat_tables(pq.read_table(self.part(cell)) for cell in cells)


@contextmanager
def moved_into(place: Path) -> Iterator[Path]:
    """A name of this process's own beside the final one; what was written there is moved when the block is through."""
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f"{place.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def summarise(table: pa.Table, metrics: Mapping[str, Select | None], seed: int) -> list[dict[str, Any]]:
    """One entry per explainer, in the order of the table: every metric with interval and references, mean cost."""
    frame = table.to_pandas()
    references = {name: frame[frame.explainer == name] for name in (CHANCE, ORACLE)}
    scored = frame[~frame.explainer.isin([CHANCE, ORACLE])]
    return [
        {
            "explainer": explainer,
            "metrics": {
                name: _metric(own[own.metric == name], references, name, select, seed_of(seed, explainer, name))
                for name, select in metrics.items()
            },
            "cost": {key: float(own[key].mean()) for key in ("seconds", "forwards", "backwards")},
        }
        for explainer, own in scored.groupby("explainer", sort=False)
    ]


def _metric(
    own: pd.DataFrame, references: Mapping[str, pd.DataFrame], name: str, select: Select | None, seed: int
) -> dict[str, Any]:
    """Mean over rows and models with its interval, and where it lies between chance and the truth's own value."""
    by_row = _values(own, select).unstack("model")
    defined = by_row.index[by_row.notna().any(axis=1)]
    found = interval(by_row.to_numpy(), seed=seed)
    chance, oracle = (
        float(_values(frame[frame.metric == name], select).groupby("row").mean().reindex(defined).mean())
        for frame in (references[CHANCE], references[ORACLE])
    )
    numbers = {"mean": found.mean, "low": found.low, "high": found.high, "chance": chance, "oracle": oracle}
    numbers["calibrated"] = calibrated(found.mean, chance, oracle)
    told = {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}  # JSON has no NaN
    return {**told, "n": len(by_row), "undefined": len(by_row) - len(defined)}


def _values(own: pd.DataFrame, select: Select | None) -> pd.Series:
    """A value per row and model; where the metric is a curve, the one that it selects from all rows' curves."""
    own = own.assign(model=own.model.fillna("")).set_index(["row", "model"])
    if select is None or own.empty:
        return own.value
    return pd.Series(select(np.stack(own.curve.to_list())), index=own.index)
