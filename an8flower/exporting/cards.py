"""The cards of an export: what the data are, how they were made, what they are no evidence of, and under which licence.

README.md with the head that the Hugging Face hub reads, croissant.json (core and responsible-AI fields), LICENSE and
CITATION.cff. They depend on the data set alone, so that a second export has the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import __version__
from ..evidence import sufficient_sets
from ..gate.documents import parse_toml
from ..store import FlowerStore
from .contents import Contents
from .croissant import describe_croissant
from .folders import write_text
from .layouts import LAYOUTS, column_of, pixel_arrays

SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
DEVELOPERS = "The an8flower developers"
HEADINGS = {
    "made": "How it was made",
    "limits": "Limits",
    "biases": "Biases",
    "uses": "Uses",
    "personal": "Personal information",
    "maintenance": "Maintenance",
}


def write_cards(folder: Path, store: FlowerStore, contents: Contents) -> None:
    """Write all cards of an export into its folder."""
    facts = describe_facts(store)
    croissant = describe_croissant(store, contents, facts, folder)
    texts = {
        "README.md": write_readme(store, contents, facts),
        "croissant.json": json.dumps(croissant, indent=1, ensure_ascii=False) + "\n",
        "LICENSE": facts["licence"],
        "CITATION.cff": write_citation(store),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


@cache
def read_words() -> dict[str, Any]:
    """The texts of the cards, which come with the package."""
    return parse_toml((files("an8flower.exporting") / "words.toml").read_text(encoding="utf-8"))


def describe_facts(store: FlowerStore) -> dict[str, str]:
    """What has to be known of a data set, a few sentences for each heading."""
    spec, words = store.spec, read_words()
    if spec is None:
        return {key: str(text) for key, text in words["imported"].items()}
    rendered = dict(words["rendered"])
    shortcuts = rendered.pop("shortcuts")
    shortcut = shortcuts["some"].format(factor=spec.shortcut.factor) if spec.shortcut else shortcuts["none"]
    filled = {"{name}": spec.name, "{title}": spec.title or "without a title", "{shortcut}": shortcut}
    for key in ("made", "biases"):
        for mark, text in filled.items():
            rendered[key] = rendered[key].replace(mark, text)
    return rendered


def write_citation(store: FlowerStore) -> str:
    """The CITATION.cff of the data; who made those of somebody's own is not known."""
    title = json.dumps(f"{store.name}: a data set of an8flower", ensure_ascii=False)
    licence, authors = ("license: Apache-2.0\n", DEVELOPERS) if store.spec else ("", "not stated")
    return str(read_words()["citation"]["text"]).format(title=title, licence=licence, authors=authors)


def write_readme(store: FlowerStore, contents: Contents, facts: Mapping[str, str]) -> str:
    """The data card, with the head in YAML that the Hugging Face hub reads."""
    sections = read_words()["sections"]
    summary = (
        f"{sum(contents.splits.values()):,} pictures of {store.size} x {store.size} pixels in {len(store.class_names)} "
        f"classes, with the evidence of the class marked in each, as {contents.layout}. Digest: `{store.digest}`."
    )
    parts = [f"---\n{_yaml_head(store, contents)}---\n", f"# {store.name}\n", f"{summary}\n"]
    parts.append(f"## What is in it\n\n{_rows_table(contents)}\n\n{_columns_table(store, contents)}\n")
    parts.append(f"## Classes\n\n{_classes_table(store)}\n")
    parts += [f"## {heading}\n\n{facts[key]}\n" for key, heading in HEADINGS.items()]
    parts.append(f"## Reading it back\n{sections['rows']}")
    if store.spec:
        parts.append(sections["render"].format(version=__version__, split=next(iter(contents.splits))).lstrip("\n"))
    return "\n".join(parts)


def _yaml_head(store: FlowerStore, contents: Contents) -> str:
    rows = sum(contents.splits.values())
    size = next((name for most, name in SIZES if rows < most), "1M<n<10M")
    pattern = LAYOUTS[contents.layout].files
    paths = {split: json.dumps(pattern.format(split=split)) for split in contents.splits}
    lines = [
        f"license: {'apache-2.0' if store.spec else 'other'}",
        f"pretty_name: {json.dumps(store.name, ensure_ascii=False)}",
        *("task_categories:", "- image-classification", "- image-segmentation"),
        *("tags:", "- explainability", "- saliency", "- ground-truth"),
        *("size_categories:", f"- {size}"),
        *("configs:", "- config_name: default", "  data_files:"),
        *(line for split, path in paths.items() for line in (f"  - split: {split}", f"    path: {path}")),
    ]
    return "".join(f"{line}\n" for line in lines)


def _rows_table(contents: Contents) -> str:
    lines = [f"| {split} | {rows:,} |" for split, rows in contents.splits.items()]
    return "\n".join(["| split | rows |", "|---|---|", *lines])


def _columns_table(store: FlowerStore, contents: Contents) -> str:
    shard, words = contents.shards[0], read_words()["columns"]
    pixels = [column_of(array) for array in pixel_arrays(contents, shard)]
    lines = [f"| `{name}` | {words.get(name, words['other'])} |" for name in (*pixels, "row", "label", "class")]
    if any(array.is_table for array in contents.arrays[shard.split]):
        lines.append(f"| `petals.count` and so on | {words['factors']} |")
    if store.part_names:
        lines.append(f"| ids in `parts` | {', '.join(f'{i} {name}' for i, name in enumerate(store.part_names))} |")
    return "\n".join(["| column | what it is |", "|---|---|", *lines])


def _classes_table(store: FlowerStore) -> str:
    lines = [f"| {i} | {name} | {_evidence_words(store, i)} |" for i, name in enumerate(store.class_names)]
    return "\n".join(["| label | class | evidence |", "|---|---|---|", *lines])


def _evidence_words(store: FlowerStore, label: int) -> str:
    if store.spec is None:
        return "as marked"
    return " or ".join("+".join(sorted(parts)) for parts in sufficient_sets(store.spec, label))
