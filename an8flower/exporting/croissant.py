"""croissant.json: an export described for machines, in the words of Croissant 1.0 and its responsible-AI fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..store import FlowerStore
from .contents import Contents, ExportShard
from .layouts import column_of, flat_schema, pixel_arrays

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
PARQUET = "application/x-parquet"


def describe_croissant(store: FlowerStore, contents: Contents, facts: Mapping[str, str]) -> dict[str, Any]:
    """The document: what the data are, the files of each split, and the records in them.

    Args:
        facts: sentences by `made`, `limits`, `biases`, `personal`, `uses` and `maintenance`.
    """
    licence = "https://www.apache.org/licenses/LICENSE-2.0" if store.spec else "not stated: see LICENSE"
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": store.name,
        "description": f"{sum(contents.splits.values())} pictures with their class and its evidence. {facts['made']}",
        "license": licence,
        "url": "https://pypi.org/project/an8flower/",
        "version": "1.0.0",
        "datePublished": "2026-01-01",
        "creator": {"@type": "Organization", "name": "The an8flower developers"},
        "citeAs": f"{store.name}, made by an8flower; digest {store.digest}",
        "keywords": ["explainability", "saliency", "ground truth"],
        "isLiveDataset": False,
        **_responsible(store, facts),
        "distribution": [file_set for split in contents.splits for file_set in _file_sets(contents, split)],
        "recordSet": [_record_set(contents, split) for split in contents.splits],
    }


def _responsible(store: FlowerStore, facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rai:dataCollection": facts["made"],
        "rai:dataCollectionType": ["Others" if store.spec is None else "Synthetic"],
        "rai:dataAnnotationProtocol": facts["annotation"],
        "rai:dataPreprocessingProtocol": ["Kept as 8-bit sRGB, without lossy compression."],
        "rai:dataLimitations": [facts["limits"]],
        "rai:dataBiases": [facts["biases"]],
        "rai:dataUseCases": [facts["uses"]],
        "rai:personalSensitiveInformation": [facts["personal"]],
        "rai:dataSocialImpact": "Explanations that were never tested are trusted too much; these data test them.",
        "rai:dataReleaseMaintenancePlan": facts["maintenance"],
    }


def _file_sets(contents: Contents, split: str) -> list[dict[str, Any]]:
    rows, pictures = (f"{split}-rows", PARQUET, f"rows/{split}-*.parquet"), f"images/{split}/*/*.png"
    kinds = {
        "parquet": [(split, PARQUET, f"data/{split}-*.parquet")],
        "folder": [rows, (split, "image/png", pictures)],
        "webdataset": [(split, "application/x-tar", f"{split}-*.tar")],
    }[contents.layout]
    sets = [(f"files-{name}", kind, pattern) for name, kind, pattern in kinds]
    return [
        {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": kind, "includes": pattern}
        for name, kind, pattern in sets
    ]


def _record_set(contents: Contents, split: str) -> dict[str, Any]:
    shard = next(shard for shard in contents.shards if shard.split == split)
    describe = {"parquet": _parquet_fields, "folder": _folder_fields, "webdataset": _archive_fields}[contents.layout]
    about = {"@id": split, "name": split, "description": f"the rows of {split}"}
    return {"@type": "cr:RecordSet", **about, "field": describe(contents, shard)}


def _parquet_fields(contents: Contents, shard: ExportShard) -> list[dict[str, Any]]:
    fields = [_column(shard.split, f"files-{shard.split}", name, kind) for name, kind in _values(contents, shard)]
    for array in pixel_arrays(contents, shard):
        kind = "sc:ImageObject" if array.is_picture else "sc:Text"
        field = _column(shard.split, f"files-{shard.split}", column_of(array), kind)
        if array.is_picture:
            field["source"]["transform"] = {"jsonPath": "bytes"}
        fields.append(field)
    return fields


def _folder_fields(contents: Contents, shard: ExportShard) -> list[dict[str, Any]]:
    """The values and the places of pictures; what lies there is known by these."""
    values = [*_values(contents, shard), *((column_of(array), "sc:Text") for array in pixel_arrays(contents, shard))]
    return [_column(shard.split, f"files-{shard.split}-rows", name, kind) for name, kind in values]


def _archive_fields(contents: Contents, shard: ExportShard) -> list[dict[str, Any]]:
    """The names of the archives: their members are grouped by what stands before the first dot."""
    source = {"fileSet": {"@id": f"files-{shard.split}"}, "extract": {"fileProperty": "filename"}}
    return [_field(shard.split, "archive", "sc:Text", source)]


def _values(contents: Contents, shard: ExportShard) -> list[tuple[str, str]]:
    """The columns that are no pixels, with Croissant's types."""
    kinds = {"string": "sc:Text", "double": "sc:Float", "float": "sc:Float", "bool": "sc:Boolean"}
    return [(field.name, kinds.get(str(field.type), "sc:Integer")) for field in flat_schema(contents, shard)]


def _column(split: str, file_set: str, name: str, kind: str) -> dict[str, Any]:
    return _field(split, name, kind, {"fileSet": {"@id": file_set}, "extract": {"column": name}})


def _field(split: str, name: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    place = f"{split}/{name}"
    return {"@type": "cr:Field", "@id": place, "name": place, "dataType": kind, "source": source}
