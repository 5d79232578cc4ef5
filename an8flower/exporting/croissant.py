"""croissant.json: an export described for machines, in the words of Croissant 1.0 and its responsible-AI fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..digests import digest_file
from ..store import FlowerStore
from .contents import Contents, ExportShard
from .layouts import LAYOUTS, column_of, flat_schema, pixel_arrays

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
HEAD: dict[str, Any] = {
    "@context": CONTEXT,
    "@type": "sc:Dataset",
    "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
    "url": "https://pypi.org/project/an8flower/",
    "version": "1.0.0",
    "datePublished": "2026-01-01",  # always the same, so that two exports of the same are equal
    "isLiveDataset": False,
}
"""What is said of every export, of data or of results."""
PARQUET, PNG = "application/x-parquet", "image/png"


def describe_croissant(
    store: FlowerStore, contents: Contents, facts: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """The document: what the data are, the files of each split, and the records in them.

    Args:
        facts: sentences by `made`, `limits`, `biases`, `personal`, `uses` and `maintenance`.
        folder: where the shards lie.
    """
    licence = "https://www.apache.org/licenses/LICENSE-2.0" if store.spec else "not stated: see LICENSE"
    return {
        **HEAD,
        "name": store.name,
        "description": f"{sum(contents.splits.values())} pictures with their class and its evidence. {facts['made']}",
        "license": licence,
        "creator": {"@type": "Organization", "name": "The an8flower developers"},
        "citeAs": f"{store.name}, made by an8flower; digest {store.digest}",
        "keywords": ["explainability", "saliency", "ground truth"],
        **_responsible(store, facts),
        "distribution": [file for split in contents.splits for file in _files(contents, split, folder)],
        "recordSet": [records for split in contents.splits for records in _record_sets(contents, split)],
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


def _files(contents: Contents, split: str, folder: Path) -> list[dict[str, Any]]:
    if contents.layout == "webdataset":
        return _archives(contents, split, folder)
    rows, pictures = (f"{split}-rows", PARQUET, f"rows/{split}-*.parquet"), f"images/{split}/*/*.png"
    whole = (split, PARQUET, f"data/{split}-*.parquet")
    kinds = [whole] if contents.layout == "parquet" else [rows, (split, PNG, pictures)]
    return [_file_set(name, kind, pattern) for name, kind, pattern in kinds]


def _archives(contents: Contents, split: str, folder: Path) -> list[dict[str, Any]]:
    """Every archive of a split with its checksum, then what lies in them, each kind of file by itself."""
    shards = [shard for shard in contents.shards if shard.split == split]
    places = [LAYOUTS["webdataset"].place(folder, shard) for shard in shards]
    about = [{"@id": place.name, "name": place.name, "contentUrl": place.name} for place in places]
    archives = [
        {"@type": "cr:FileObject", **words, "encodingFormat": "application/x-tar", "sha256": digest_file(place)}
        for words, place in zip(about, places, strict=True)
    ]
    within = {"containedIn": [{"@id": place.name} for place in places]}
    kinds = [(ending, kind) for ending, kind, _ in _members(contents, shards[0])]
    return [*archives, *(_file_set(f"{split}-{ending}", kind, f"*.{ending}") | within for ending, kind in kinds)]


def _members(contents: Contents, shard: ExportShard) -> list[tuple[str, str, str]]:
    """The endings of the files of a row in an archive, with their formats and the types of their contents."""
    pictures = [column_of(array) for array in pixel_arrays(contents, shard) if array.is_picture]
    return [*((f"{name}.png", PNG, "sc:ImageObject") for name in pictures), ("cls", "text/plain", "sc:Text")]


def _file_set(name: str, kind: str, pattern: str) -> dict[str, Any]:
    place = f"files-{name}"
    return {"@type": "cr:FileSet", "@id": place, "name": place, "encodingFormat": kind, "includes": pattern}


def _record_sets(contents: Contents, split: str) -> list[dict[str, Any]]:
    shard = next(shard for shard in contents.shards if shard.split == split)
    if contents.layout == "webdataset":
        kinds = [(f"{split}-{ending.partition('.')[0]}", ending, kind) for ending, _, kind in _members(contents, shard)]
        return [_record_set(name, _member_fields(name, f"{split}-{ending}", kind)) for name, ending, kind in kinds]
    describe = {"parquet": _parquet_fields, "folder": _folder_fields}[contents.layout]
    return [_record_set(split, describe(contents, shard))]


def _record_set(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"@id": name, "name": name, "description": f"the rows of {name}"}
    return {"@type": "cr:RecordSet", **about, "field": fields}


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


def _member_fields(records: str, file_set: str, kind: str) -> list[dict[str, Any]]:
    """The key of a row, which the names of its files begin with, and what one of these files holds."""
    files = {"fileSet": {"@id": f"files-{file_set}"}}
    name = {**files, "extract": {"fileProperty": "filename"}, "transform": {"regex": r"^([^.]+)\..*$"}}
    content = {**files, "extract": {"fileProperty": "content"}}
    return [_field(records, "key", "sc:Text", name), _field(records, "content", kind, content)]


def _values(contents: Contents, shard: ExportShard) -> list[tuple[str, str]]:
    """The columns that are no pixels, with Croissant's types."""
    kinds = {"string": "sc:Text", "double": "sc:Float", "float": "sc:Float", "bool": "sc:Boolean"}
    return [(field.name, kinds.get(str(field.type), "sc:Integer")) for field in flat_schema(contents, shard)]


def _column(split: str, file_set: str, name: str, kind: str) -> dict[str, Any]:
    return _field(split, name, kind, {"fileSet": {"@id": file_set}, "extract": {"column": name}})


def _field(split: str, name: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    place = f"{split}/{name}"
    return {"@type": "cr:Field", "@id": place, "name": place, "dataType": kind, "source": source}
