"""The columns of exported scores and maps, each with its meaning: a table says by itself what its numbers are."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pyarrow as pa

from ..folder import SCHEMA

RUN_MANIFEST = "an8flower-run.json"  # the file by which the folder of an exported run is known
DICTIONARY = "columns"  # the entry of a table's metadata that holds its column dictionary as JSON
FLAT_MAP = pa.list_(pa.float32())


class ExportedColumn(NamedTuple):
    """A column of an exported table."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    null: str = ""  # what a missing value means; nothing where none is missing

    def to_document(self) -> dict[str, str]:
        """The column ready for JSON."""
        return {
            "name": self.name,
            "type": str(self.type),
            "unit": self.unit,
            "meaning": self.meaning,
            "null": self.null,
        }


WHERE = (
    ExportedColumn("dataset", pa.string(), "the name of the data set"),
    ExportedColumn("split", pa.string(), "the split of the data set: train, val or test"),
)
MEANINGS: dict[str, tuple[str, str, str]] = {
    "row": ("the number of the row within its split, from 0", "", ""),
    "label": ("the class of the row, by its index", "", ""),
    "predicted": ("the class that the model predicts, by its index", "", "no model is asked"),
    "model": ("the model: its architecture, seed and the start of its digest", "", "no model is asked"),
    "explainer": (
        "what made the map: the method with all its parameters, or a reference (chance, oracle, reliance, other rows: "
        "..., truth at the grid of: ...)",
        "",
        "",
    ),
    "metric": ("the metric with its options; its card is in summary.json", "", ""),
    "value": (
        "the value of the metric; its range and whether more is better stand on its card",
        "that of the metric",
        "undefined (as NaN is), see reason; or chosen from the curves of all rows",
    ),
    "curve": ("the curve that the value is chosen from, or that it sums up", "that of the metric", "there is none"),
    "reason": ("why the value is undefined", "", "the value is defined"),
    "seconds": ("what it took to explain one picture", "s", "not measured"),
    "forwards": ("what it took to explain one picture", "forward passes", "not counted"),
    "backwards": ("what it took to explain one picture", "backward passes", "not counted"),
}
SCORES = (
    *WHERE,
    ExportedColumn("cell", pa.string(), "the cell of the run to which the line belongs: a model, a method, some rows"),
    ExportedColumn("method", pa.string(), "the method as the plan names it", null="the line is about a reference"),
    *(ExportedColumn(field.name, field.type, *MEANINGS[field.name]) for field in SCHEMA),
)
MAPS = (
    *WHERE,
    ExportedColumn("cell", pa.string(), "the cell of the run to which the map belongs"),
    ExportedColumn("method", pa.string(), "the method as the plan names it"),
    ExportedColumn("model", pa.string(), "the digest of the model that is explained", null="no model is asked"),
    ExportedColumn("target", pa.string(), "the class that is explained: label or predicted"),
    ExportedColumn("row", pa.int64(), "the number of the row within its split, from 0"),
    ExportedColumn("height", pa.int32(), "the height of the map", "pixels"),
    ExportedColumn("width", pa.int32(), "the width of the map", "pixels"),
    ExportedColumn("map", FLAT_MAP, "height x width values, line by line from the top; larger is more evidence"),
)
TABLES = {"scores": SCORES, "maps": MAPS}


def to_schema(columns: tuple[ExportedColumn, ...], **metadata: str) -> pa.Schema:
    """The Arrow schema of a table, with its column dictionary and other texts as metadata."""
    fields = [pa.field(it.name, it.type, metadata={"meaning": it.meaning, "unit": it.unit}) for it in columns]
    words = json.dumps([it.to_document() for it in columns], ensure_ascii=False)
    return pa.schema(fields, {DICTIONARY: words, **metadata})


def describe_columns(with_maps: bool) -> dict[str, Any]:
    """The column dictionary of an export, ready for JSON: the columns of each of its tables."""
    return {
        name: [it.to_document() for it in columns] for name, columns in TABLES.items() if name != "maps" or with_maps
    }
