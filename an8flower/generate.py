"""From a spec to a store: rows are drawn, rendered, and their evidence is marked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from . import draw
from .album import copy_photographs, open_album
from .errors import Refusal
from .factors import FACTORS, PARTS
from .marking import locate_evidence, marked_parts
from .render import render_marked
from .scene import build
from .spec import DatasetSpec
from .splits import SPLITS
from .store import PHOTOGRAPHS, FlowerStore, StoredRows, verify
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
        store = FlowerStore(path)
        if store.is_made_from(spec):
            return not force or (not store.lack and all(holds for _, holds in verify(path)))
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
    album = open_album(spec, block.split)
    rendering = render_marked(build(table, album), spec.size, marked_parts(spec)[labels], threads=1)
    truth = locate_evidence(spec, labels, table, rendering, album)
    return StoredRows(rendering.images, labels, truth.masks, rendering.parts, table, truth.coverage)


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


def copies(spec: DatasetSpec) -> dict[str, np.ndarray]:
    """The data sets of a file that hold its photographs, by their places; none without photographs."""
    if spec.background is None:
        return {}
    return {f"{PHOTOGRAPHS}/{name}": values for name, values in copy_photographs(spec)._asdict().items()}


def split_rows(spec: DatasetSpec) -> dict[str, int]:
    """How many rows each split has, of those that have any."""
    return {split: rows for split in SPLITS if (rows := getattr(spec.rows, split))}


def _plan(spec: DatasetSpec, path: Path) -> WritingPlan:
    return WritingPlan(
        path,
        attributes(spec),
        split_rows(spec),
        spec.digest,
        lambda block: make_rows(spec, block),
        beside=copies(spec),
    )
