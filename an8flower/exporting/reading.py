"""Read an export back: the very data set that was exported, row by row held against its recorded checksums."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from .. import atomic
from ..errors import Refusal
from ..store import FlowerStore, StoredRows
from ..writing import Block, WritingPlan, write, write_unless_there
from .contents import MANIFEST, Contents, check_rows, read_contents
from .layouts import LAYOUTS, Arrays, EncodedShard

HELD = 3  # shards that are held at once, not decoded
MOST_WORKERS = 4  # whose blocks lie in no more shards than are held


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return (folder / MANIFEST).is_file()


def import_export(
    folder: Path,
    path: Path,
    *,
    force: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Contents:
    """Write the data set of an export into a file, which is equal to the one that was exported.

    Raises Refusal if the file is there and `force` is not given, and if the export is damaged, or was changed.
    """
    contents = read_contents(folder, tuple(LAYOUTS))
    unknown = {array.name for arrays in contents.arrays.values() for array in arrays} - set(StoredRows._fields)
    if unknown:
        raise Refusal(f"{folder}: holds {sorted(unknown)[0]}, which this version does not know; use a later an8flower")

    def is_there() -> bool:
        if path.exists() and not force:
            raise Refusal(f"{path}: exists; replace it with --force, or write elsewhere with -o")
        return False

    def make() -> None:
        unchecked = path.with_name(f"{path.name}.unchecked")
        attributes = {
            key: value for key, value in contents.attributes.items() if key != "digest" or "spec" in contents.attributes
        }
        plan = WritingPlan(unchecked, attributes, contents.splits, contents.fingerprint, _maker(folder, contents))
        try:
            write(plan, min(workers or os.cpu_count() or 1, MOST_WORKERS), progress)
            _refuse_changed(folder, contents, unchecked)
            atomic.move(unchecked, path)
        finally:
            unchecked.unlink(missing_ok=True)

    write_unless_there(path, is_there, make)
    return contents


def _maker(folder: Path, contents: Contents) -> Callable[[Block], StoredRows]:
    """The function that gives the rows of a block, which may lie in several shards."""
    layout = LAYOUTS[contents.layout]
    shards = {(shard.split, shard.number): shard for shard in contents.shards}

    one_at_a_time = Lock()  # two threads that want the same shard would both read it

    @lru_cache(maxsize=HELD)
    def load(split: str, number: int) -> EncodedShard:
        return layout.load(folder, contents, shards[split, number])

    def read(block: Block, number: int) -> Arrays:
        """The rows of a block that lie in one shard."""
        shard = shards[block.split, number]
        part = shard._replace(start=max(block.start, shard.start), stop=min(block.stop, shard.stop))
        with one_at_a_time:
            encoded = load(block.split, number)
        arrays = encoded.decode(part.start - shard.start, part.stop - shard.start)
        return check_rows(arrays, contents, part, layout.place(folder, shard))

    def make(block: Block) -> StoredRows:
        step = contents.shard_rows
        pieces = [read(block, number) for number in range(block.start // step, -(-block.stop // step))]
        rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        return StoredRows(**{name: rows.get(name) for name in StoredRows._fields})  # type: ignore[arg-type]

    return make


def _refuse_changed(folder: Path, contents: Contents, path: Path) -> None:
    """Raise a Refusal unless the rows that were read are those of the checksums."""
    store = FlowerStore(path)
    different = [
        f"{split}/{array.name}"
        for split, arrays in contents.arrays.items()
        for array in arrays
        if store.file[split][array.name].attrs["sha256"] != array.sha256
    ]
    store.close()
    if different:
        raise Refusal(
            f"{folder}: {', '.join(different)} is not what was exported, so files were changed; "
            "export the data set again"
        )
