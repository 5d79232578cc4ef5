"""The data sets of an audit: the path of each, and whether its file is whole and made from the right spec."""

from __future__ import annotations

from pathlib import Path

from an8flower.atomic import noticing_no_room
from an8flower.errors import Refusal
from an8flower.sharding import generate_shard
from an8flower.spec import DatasetSpec, from_json
from an8flower.store import FlowerStore, verify

from .cell_tasks import CellOutcome, run_cell
from .plan import Data


def choose_path(folder: Path, entry: Data, wanted: DatasetSpec) -> Path:
    """The path of a rendered data set: where `generate` puts it, unless the plan changes the spec.

    A data set of a changed spec has its digest in its name, so that nobody who asks for the plain spec gets it.
    """
    plain = folder / f"{wanted.name}.h5"
    as_written = all(value is None for value in (entry.rows, entry.size, entry.seed, entry.agreement))
    if as_written and (not plain.exists() or holds(plain, wanted)):
        return plain
    return plain.with_name(f"{wanted.name}-{wanted.digest[:8]}.h5")


def holds(path: Path, wanted: DatasetSpec) -> bool:
    """Whether a file holds the data set of a spec."""
    try:
        return FlowerStore(path).is_made_from(wanted)
    except Refusal:
        return False


def list_damage(path: Path) -> list[str]:
    """Names of the HDF5 data sets of a file whose checksums fail; "all of it" if the file cannot be opened."""
    try:
        return [place for place, whole in verify(path) if not whole]
    except Refusal:
        return ["all of it"]


def render_shard(spec: str, number: int, of: int, folder: str) -> CellOutcome:
    """Render shard `number` of `of` of a data set, in a worker; the spec comes as JSON."""

    def make() -> None:
        with noticing_no_room(Path(folder)):
            generate_shard(from_json(spec, "the plan's data"), number, of, Path(folder), on_wait=lambda: None)

    return run_cell(make)
