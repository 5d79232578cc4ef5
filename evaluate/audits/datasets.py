"""The data sets of an audit: where they lie, and whether they are what is meant."""

from __future__ import annotations

from pathlib import Path

from an8flower.atomic import noticing_no_room
from an8flower.errors import Refusal
from an8flower.sharding import generate_shard
from an8flower.spec import DatasetSpec, from_json
from an8flower.store import FlowerStore, verify

from .cell_tasks import Settled, settle
from .plan import Data


def place(folder: Path, entry: Data, wanted: DatasetSpec) -> Path:
    """Where a rendered data set lies: where `generate` puts it, unless it differs from the spec as it was written.

    What differs has its digest in its name, so that nobody who asks for the spec gets something else.
    """
    plain = folder / f"{wanted.name}.h5"
    as_written = entry.rows is None and entry.size is None and entry.seed is None
    if as_written and (not plain.exists() or holds(plain, wanted)):
        return plain
    return plain.with_name(f"{wanted.name}-{wanted.digest[:8]}.h5")


def holds(path: Path, wanted: DatasetSpec) -> bool:
    """Whether a file holds the data set of a spec."""
    try:
        return FlowerStore(path).is_made_from(wanted)
    except Refusal:
        return False


def damaged(path: Path) -> list[str]:
    """Which data sets of a file are not what their checksums say; all of it where it cannot even be opened."""
    try:
        return [place for place, whole in verify(path) if not whole]
    except Refusal:
        return ["all of it"]


def render_shard(spec: str, number: int, of: int, folder: str) -> Settled:
    """Render a share of a data set, whose spec comes as JSON."""

    def make() -> None:
        with noticing_no_room(Path(folder)):
            generate_shard(from_json(spec, "the plan's data"), number, of, Path(folder))

    return settle(make)
