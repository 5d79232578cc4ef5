"""Summaries of a data set: its contents in words, and a contact sheet of its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .evidence import redundant, sufficient_sets
from .planted import Planting, count_agreeing, describe_planting, planting_of
from .sheet import contact_sheet
from .store import FlowerStore


def contents(store: FlowerStore) -> dict[str, Any]:
    """The names, sizes and designed truth of a data set."""
    rows = {split: len(store[split]) for split in store.splits}
    description = {
        "name": store.name,
        "digest": store.digest,
        "size": store.size,
        **{f"rows in {split}": count for split, count in rows.items()},
        "classes": store.class_names,
        "megabytes": round(store.path.stat().st_size / 1e6, 1),
    }
    if store.spec:
        return description | _truth(store)
    if planting := planting_of(store):
        return (
            description | {"evidence": "a planted mark, for a model that goes by it"} | _describe_marks(store, planting)
        )
    return description | {"evidence": "by masks alone: imported, without a spec"}


def _describe_marks(store: FlowerStore, planting: Planting) -> dict[str, Any]:
    """The marks of planted photographs."""
    described = describe_planting(store, planting)
    shares = {split: count_agreeing(planting, store[split].labels, store[split].placed) for split in store.splits}
    agree = {f"agree in {split}": f"{count / len(store[split]):.1%} of the rows" for split, count in shares.items()}
    evidence = "a planted mark, for a model that goes by it"
    return {"evidence": evidence, "mark": described["mark"], "speaks for": described["speaks_for"], **agree}


def write_sheet(store: FlowerStore, split: str, rows: int, place: Path) -> None:
    """Write a contact sheet of the first rows of a split as PNG."""
    shown = store[split].rows(0, min(rows, len(store[split])))
    place.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(shown.images, shown.masks).save(place)


def _truth(store: FlowerStore) -> dict[str, Any]:
    """The designed truth of a data set with a spec: the evidence of each class, and how much of a picture it covers."""
    spec = store.spec
    assert spec is not None
    sets = {spec.class_names[label]: sufficient_sets(spec, label) for label in range(spec.class_count)}
    evidence = [
        f"{name}: {' or '.join('+'.join(sorted(parts)) for parts in minimal)}" for name, minimal in sets.items()
    ]
    covered = [float(np.mean(store[split].rows(0, min(100, len(store[split]))).masks > 0)) for split in store.splits]
    description = {
        "title": spec.title,
        "evidence": evidence,
        "redundant": redundant(spec),
        "evidence covers": f"{np.mean(covered):.1%} of the pixels",
    }
    if spec.suppressor:
        description["suppressor"] = " = ".join(spec.suppressor.factors)
    return description | ({"shortcut": spec.shortcut.factor} if spec.shortcut else {})
