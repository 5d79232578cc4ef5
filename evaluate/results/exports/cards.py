"""The cards of an exported run: README.md, croissant.json, the column dictionary, the environment, LICENSE.

They depend on the run alone, so that a second export has the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from an8flower.exporting.croissant import HEAD, PARQUET
from an8flower.exporting.folders import write_text
from an8flower.gate.documents import parse_toml

from ..finished import FinishedRun
from .columns import TABLES, ExportedColumn, describe_columns

KINDS = {pa.string(): "sc:Text", pa.float32(): "sc:Float", pa.float64(): "sc:Float"}


def write_cards(folder: Path, run: FinishedRun, with_maps: bool) -> None:
    """Write all cards of an exported run into its folder."""
    facts = describe_facts(run)
    documents = {
        "columns.json": describe_columns(with_maps),
        "environment.json": describe_environment(run),
        "croissant.json": describe_croissant(run, facts, with_maps),
    }
    for name, document in documents.items():
        write_text(folder / name, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", write_readme(run, facts, with_maps))
    write_text(folder / "LICENSE", facts["licence"])


@cache
def read_words() -> dict[str, str]:
    """The texts of the cards, which come with the package."""
    return parse_toml((files(__package__) / "words.toml").read_text(encoding="utf-8"))


def describe_environment(run: FinishedRun) -> dict[str, Any]:
    """On what the run was made: the versions, the machine, the command and the seconds, as far as it noted them."""
    known: dict[str, Any] = {**run.plan, **run.summary}
    return {key: known[key] for key in ("versions", "machine", "command", "seconds") if key in known}


def describe_facts(run: FinishedRun) -> dict[str, str]:
    """What has to be known of the results, a few sentences for each heading."""
    filled = {
        "{name}": name_of_run(run),
        "{data}": " and ".join(dict.fromkeys(study.name for study in run.studies)),
        "{command}": f"an8flower {run.command}",
        "{version}": str(run.plan["versions"]["an8flower"]),
    }
    facts = dict(read_words())
    for mark, text in filled.items():
        facts = {key: words.replace(mark, text) for key, words in facts.items()}
    return facts


def name_of_run(run: FinishedRun) -> str:
    """The name of the plan of an audit, and that of the data set of scores."""
    return str(run.summary.get("name") or run.studies[0].name)


def write_readme(run: FinishedRun, facts: Mapping[str, str], with_maps: bool) -> str:
    """The card for people, with the head in YAML that the Hugging Face hub reads."""
    tables = [name for name in TABLES if name != "maps" or with_maps]
    configs = [line for name in tables for line in (f"- config_name: {name}", f"  data_files: {name}/*.parquet")]
    head = "\n".join(
        ["license: other", f"pretty_name: {json.dumps(name_of_run(run), ensure_ascii=False)}", "configs:", *configs]
    )
    parts = [f"---\n{head}\n---\n", f"# {name_of_run(run)}\n", f"{facts['about']}\n"]
    parts += [f"## The columns of `{name}`\n\n{_columns_table(TABLES[name])}\n" for name in tables]
    parts.append(f"## What else is here\n\n{_files_table()}\n")
    parts += [
        f"## {title}\n\n{facts[key]}\n"
        for key, title in (("made", "How it was made"), ("limits", "Limits"), ("biases", "Biases"), ("uses", "Uses"))
    ]
    again = f"\n{facts['maps']}" if with_maps else ""
    parts.append(f"## Reading it\n\n{facts['reading']}{again}")
    return "\n".join(parts)


def _columns_table(columns: tuple[ExportedColumn, ...]) -> str:
    lines = [f"| `{it.name}` | {it.meaning} | {it.unit} | {it.null} |" for it in columns]
    return "\n".join(["| column | what it is | unit | null means |", "|---|---|---|---|", *lines])


def _files_table() -> str:
    contents = {
        "plan.json": "what was asked: data, models, methods, metrics, seeds",
        "summary.json": "what came out: means with intervals, comparisons, ranks, the cards of the metrics",
        "environment.json": "versions and machine",
        "columns.json": "the column dictionary",
        "croissant.json": "the same for machines",
    }
    return "\n".join(["| file | what it holds |", "|---|---|", *(f"| `{k}` | {v} |" for k, v in contents.items())])


def describe_croissant(run: FinishedRun, facts: Mapping[str, str], with_maps: bool) -> dict[str, Any]:
    """The document for machines, in the words of Croissant 1.0 and its responsible-AI fields."""
    tables = [name for name in TABLES if name != "maps" or with_maps]
    return {
        **HEAD,
        "name": f"{name_of_run(run)}-results",
        "description": facts["about"],
        "license": "not stated: see LICENSE",
        "creator": {"@type": "Organization", "name": "whoever made the run"},
        "citeAs": f"{name_of_run(run)}: results of an8flower {run.plan['versions']['an8flower']}",
        "keywords": ["explainability", "saliency", "evaluation"],
        **_responsible(facts),
        "distribution": [_file_set(name) for name in tables],
        "recordSet": [_record_set(name) for name in tables],
    }


def _responsible(facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rai:dataCollection": facts["made"],
        "rai:dataCollectionType": ["Experiments"],
        "rai:dataLimitations": [facts["limits"]],
        "rai:dataBiases": [facts["biases"]],
        "rai:dataUseCases": [facts["uses"]],
        "rai:personalSensitiveInformation": [facts["personal"]],
        "rai:dataReleaseMaintenancePlan": facts["maintenance"],
    }


def _file_set(name: str) -> dict[str, Any]:
    place = f"files-{name}"
    about = {"encodingFormat": PARQUET, "includes": f"{name}/*.parquet"}
    return {"@type": "cr:FileSet", "@id": place, "name": place, **about}


def _record_set(name: str) -> dict[str, Any]:
    about = {"@id": name, "name": name, "description": f"the lines of {name}"}
    return {"@type": "cr:RecordSet", **about, "field": [_field(name, column) for column in TABLES[name]]}


def _field(table: str, column: ExportedColumn) -> dict[str, Any]:
    place, kind = f"{table}/{column.name}", column.type
    repeated = {"repeated": True} if pa.types.is_list(kind) else {}
    item = kind.value_type if repeated else kind
    source = {"fileSet": {"@id": f"files-{table}"}, "extract": {"column": column.name}}
    about = {"description": column.meaning, "dataType": KINDS.get(item, "sc:Integer"), **repeated, "source": source}
    return {"@type": "cr:Field", "@id": place, "name": place, **about}
