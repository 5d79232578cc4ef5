"""From a spec to a store: rows are drawn, rendered, and their evidence is marked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from . import draw
from .errors import Refusal
from .evidence import absent_evidence, evidence_parts
from .factors import FACTORS, PARTS
from .render import render
from .scene import build
from .spec import DatasetSpec
from .splits import SPLITS
from .store import FlowerStore, StoredRows, verify
from .writing import Block, WritingPlan, write, write_unless_there


class Generated(NamedTuple):
    """The data set that `generate` wrote or found."""

    path: Path
    spec: DatasetSpec
    existed: bool  # the same data set was there already, and nothing was written
    seconds: float


def generate(
    spec: DatasetSpec,
    path: Path,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
    on_wait: Callable[[], None] | None = None,
) -> Generated:
    """Write the data set of a spec, unless it is there.

    Another process that writes it is waited for if there is an `on_wait`, which is called before. Raises Refusal where
    another data set lies under the name (and `force` is not given), and as `write_unless_there` and `write` do.
    """
    began = perf_counter()
    existed = write_unless_there(
        path,
        lambda: already_there(path, spec, force),
        lambda: write(_plan(spec, path), workers or os.cpu_count() or 1, progress),
        on_wait,
    )
    return Generated(path, spec, existed, perf_counter() - began)


def already_there(path: Path, spec: DatasetSpec, force: bool) -> bool:
    """Whether the same data set lies there; raises Refusal where something else does, unless it may be replaced.

    What may be replaced is read through, so that a damaged file counts as something else.
    """
    if not path.exists():
        return False
    try:
        if FlowerStore(path).is_made_from(spec):
            return not force or all(holds for _, holds in verify(path))
        obstacle = "another data set is there"
    except Refusal:
        obstacle = "something else is there"
    if force:
        return False
    raise Refusal(f"{path}: {obstacle}; replace it with --force, or write elsewhere with -o")


def make_rows(spec: DatasetSpec, block: Block) -> StoredRows:
    """The rows of a block: pure, the same whoever makes them."""
    labels = draw.labels(spec, block.split, block.start, block.stop)
    table = draw.factors_of(spec, block.split, labels, block.start, FACTORS)
    images, parts = render(build(table), spec.size, threads=1)
    return StoredRows(images, labels, evidence_masks(spec, labels, table, parts), parts, table)


def evidence_masks(spec: DatasetSpec, labels: np.ndarray, table: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Masks (n, S, S) uint8 of rows: 1 where an evidence part of the class is seen, 2 where a missing one would be."""
    marked = np.zeros((spec.class_count, len(PARTS)), np.uint8)
    for label in range(spec.class_count):
        marked[label, [PARTS.index(part) for part in evidence_parts(spec, label)]] = 1
    masks = np.empty_like(parts)
    for label, seen, mask in zip(labels, parts, masks, strict=True):  # a third of the time of indexing all at once
        np.take(marked[label], seen, out=mask, mode="clip")
    for label in range(spec.class_count):
        for part, count in absent_evidence(spec, label).items():
            rows = np.flatnonzero(labels == label)
            _mark_absent(masks, rows, _render_parts_with(table[rows], part, count, spec.size) == PARTS.index(part))
    return masks


def _render_parts_with(table: np.ndarray, part: str, count: int, size: int) -> np.ndarray:
    """Part maps of rows if the part were there."""
    return render(build(draw.override(table, {f"{part}.count": count})), size, threads=1)[1]


def _mark_absent(masks: np.ndarray, rows: np.ndarray, covered: np.ndarray) -> None:
    """Evidence that can be seen stays evidence by presence."""
    masks[rows] = np.where(covered & (masks[rows] == 0), 2, masks[rows])


def attributes(spec: DatasetSpec) -> dict[str, object]:
    """The attributes of a file's root that describe its data set."""
    return {
        "name": spec.name,
        "spec": spec.to_json(),
        "canonical": spec.canonical_json(),
        "digest": spec.digest,
        "class_names": list(spec.class_names),
        "part_names": list(PARTS),
        "size": spec.size,
    }


def split_rows(spec: DatasetSpec) -> dict[str, int]:
    """How many rows each split has, of those that have any."""
    return {split: rows for split in SPLITS if (rows := getattr(spec.rows, split))}


def _plan(spec: DatasetSpec, path: Path) -> WritingPlan:
    return WritingPlan(path, attributes(spec), split_rows(spec), spec.digest, lambda block: make_rows(spec, block))
