"""A data set in shards: each machine renders its share of the rows, and one file lies over them all.

Rows are pure functions of (spec, split, row), so a shard holds the very bytes that the whole would. The merged file
is an HDF5 virtual data set: it copies no pictures, and refers to its shards by paths relative to its own place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import h5py
import numpy as np

from .errors import Refusal, WrongUsage
from .gate.hdf5 import DAMAGE, is_beside, open_hdf5
from .gate.regular import FileKind
from .generate import Generated, already_there, attributes, copies, make_rows, split_rows
from .spec import DatasetSpec, from_json
from .splits import SPLITS
from .store import (
    ALWAYS,
    FILE,
    FORMAT,
    PHOTOGRAPHS,
    READ_ROWS,
    RENDERED,
    SCHEMA,
    SHARD_FORMAT,
    StoredRows,
    fingerprint,
    is_made_from,
)
from .writing import Block, Checksums, WritingPlan, move_when_whole, seal, write, write_beside, write_unless_there

SHARD = FileKind("a shard", 2**50, "delete it and make the shard again", "make it first")


class Shard(NamedTuple):
    """One share of a data set: number 1 to `of`."""

    number: int
    of: int

    def share(self, rows: int) -> range:
        """Which of a split's rows are in here.

        >>> [Shard(number, 3).share(7) for number in (1, 2, 3)]
        [range(0, 2), range(2, 4), range(4, 7)]
        """
        return range(rows * (self.number - 1) // self.of, rows * self.number // self.of)

    def place(self, spec: DatasetSpec, folder: Path) -> Path:
        """Where the shard lies in a folder."""
        return folder / f"{spec.name}-{self.number}of{self.of}.h5"


def generate_shard(
    spec: DatasetSpec,
    shard: int,
    shards: int,
    folder: Path,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
    on_wait: Callable[[], None] | None = None,
) -> Generated:
    """Write shard 1 to `shards` of a spec's data set, unless it is there. An interrupted run goes on where it stopped.

    Raises WrongUsage where there is no such shard, Refusal where something else lies under its name (and `force` is
    not given), and as `writing.write` does.
    """
    began = perf_counter()
    _check_numbers(spec, shard, shards)
    part = Shard(shard, shards)
    path = part.place(spec, folder)
    existed = write_unless_there(
        path,
        lambda: _already_there(spec, part, path, force),
        lambda: write(_plan(spec, part, path), workers or os.cpu_count() or 1, progress),
        on_wait,
    )
    return Generated(path, spec, existed, perf_counter() - began)


def merge(
    spec: DatasetSpec,
    shards: Sequence[Path],
    output: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
    on_wait: Callable[[], None] | None = None,
) -> Generated:
    """Write one file over all shards of a data set, unless it is there; every shard is read and checked on the way.

    Raises Refusal where a shard is missing, damaged, there twice or of another data set, and where another data set
    lies under the name of the output (and `force` is not given).
    """
    began = perf_counter()
    existed = write_unless_there(
        output,
        lambda: already_there(output, spec, force),
        lambda: _write_merged(spec, shards, output, progress),
        on_wait,
    )
    return Generated(output, spec, existed, perf_counter() - began)


def _write_merged(spec: DatasetSpec, shards: Sequence[Path], output: Path, progress: Callable[[int], None]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(file) for file in _all_of(spec, shards)]
        unfinished = output.with_name(f"{output.name}.{os.getpid()}.unfinished")
        stack.callback(unfinished.unlink, missing_ok=True)
        with move_when_whole(unfinished, output) as merged:
            _lay_over(merged, files, spec, output.parent)
            checksums = _checksums(files, spec, progress)
            write_beside(merged, _read_beside(files[0]), checksums)
            seal(merged, _merged_attributes(files, spec, output.parent), checksums)


def spec_of(path: Path) -> DatasetSpec:
    """Of which data set a file is a shard; raises Refusal where it is none."""
    with _open_file(path) as file:
        if file.attrs.get("format") != SHARD_FORMAT:
            raise Refusal(f"{path}: not a shard; make shards with `an8flower shard`")
        return from_json(str(file.attrs["spec"]), str(path))


def _check_numbers(spec: DatasetSpec, shard: int, shards: int) -> None:
    most = max(split_rows(spec).values())
    if not 1 <= shards <= most:
        raise WrongUsage(f"{shards} shards: expected 1 to {most}, the rows of the largest split of {spec.name}")
    if not 1 <= shard <= shards:
        raise WrongUsage(f"shard {shard} of {shards}: expected 1 to {shards}")


def _already_there(spec: DatasetSpec, shard: Shard, path: Path, force: bool) -> bool:
    """Whether this shard lies there; raises Refusal where something else does, unless it may be replaced."""
    if not path.exists():
        return False
    try:
        with _open_shard(path, spec) as file:
            if _number(file) == shard:
                return True
        obstacle = "another shard is there"
    except Refusal as reason:
        obstacle = str(reason).removeprefix(f"{path}: ").split(";")[0]
    if force:
        return False
    raise Refusal(f"{path}: {obstacle}; replace it with --force, or write into another folder")


def _plan(spec: DatasetSpec, shard: Shard, path: Path) -> WritingPlan:
    shares = {split: shard.share(rows) for split, rows in split_rows(spec).items()}

    def make(block: Block) -> StoredRows:
        first = shares[block.split].start
        return make_rows(spec, Block(block.split, first + block.start, first + block.stop))

    described = {**attributes(spec), "shard": list(shard)}
    rows = {split: len(share) for split, share in shares.items() if share}
    return WritingPlan(
        path, described, rows, f"{spec.digest}/{shard.number}of{shard.of}", make, SHARD_FORMAT, copies(spec)
    )


def _open_file(path: Path) -> h5py.File:
    return open_hdf5(path, SHARD, FILE)


def _open_shard(path: Path, spec: DatasetSpec) -> h5py.File:
    """A shard of this data set; raises Refusal for anything else."""
    file = _open_file(path)
    is_shard = file.attrs.get("format") == SHARD_FORMAT
    if is_shard and file.attrs.get("schema") != SCHEMA:
        file.close()
        raise Refusal(f"{path}: a shard of an earlier version, without coverage; make it again with --force")
    if is_shard and file.attrs.get("complete") and is_made_from(file, spec):
        return file
    file.close()
    what = f"a shard of another data set than {spec.name}" if is_shard else "not a shard"
    raise Refusal(f"{path}: {what}; give the shards of one spec")


def _number(file: h5py.File) -> Shard:
    return Shard._make(int(number) for number in file.attrs["shard"])


def _all_of(spec: DatasetSpec, paths: Sequence[Path]) -> list[h5py.File]:
    """All shards by their numbers; raises Refusal where they do not make up the whole."""
    files = sorted((_open_shard(path, spec) for path in paths), key=_number)
    numbers = [_number(file) for file in files]
    count = numbers[0].of if numbers else 1
    lacking = sorted(set(range(1, count + 1)) - {shard.number for shard in numbers})
    if lacking:
        raise Refusal(f"shards {', '.join(map(str, lacking))} of {count} of {spec.name} are missing; make them first")
    if numbers != [Shard(number, count) for number in range(1, count + 1)]:
        listed = ", ".join(f"{shard.number} of {shard.of}" for shard in numbers)
        raise Refusal(f"the shards of {spec.name} do not fit together ({listed}); give each of one cutting once")
    if len(versions := {str(file.attrs["generator"]) for file in files}) > 1:
        raise Refusal(f"the shards were made by several versions ({', '.join(sorted(versions))}); make them by one")
    return files


def _lay_over(merged: h5py.File, files: Sequence[h5py.File], spec: DatasetSpec, folder: Path) -> None:
    """Virtual data sets whose rows lie in the shards."""
    for split, rows in split_rows(spec).items():
        first = next(file[split] for file in files if split in file)
        for name, data in first.items():
            layout = h5py.VirtualLayout((rows, *data.shape[1:]), data.dtype)
            for file in files:
                if share := _number(file).share(rows):
                    source = file[split][name]
                    layout[share.start : share.stop] = h5py.VirtualSource(
                        _relative(file, folder), source.name, source.shape, source.dtype
                    )
            merged.require_group(split).create_virtual_dataset(name, layout)


def _relative(file: h5py.File, folder: Path) -> str:
    """The path of a shard as a merged file in a folder states it."""
    name = Path(os.path.relpath(file.filename, folder)).as_posix()
    if not is_beside(name):
        raise Refusal(
            f"{file.filename}: a merged file finds its shards beside it, or in folders there; "
            f"write it with -o into {Path(file.filename).parent}, or a folder above"
        )
    return name


def _merged_attributes(files: Sequence[h5py.File], spec: DatasetSpec, folder: Path) -> dict[str, object]:
    shards = {_relative(file, folder): fingerprint(file) for file in files}
    generator = str(files[0].attrs["generator"])
    return {**attributes(spec), "format": FORMAT, "generator": generator, "shards": json.dumps(shards)}


def _checksums(files: Sequence[h5py.File], spec: DatasetSpec, progress: Callable[[int], None]) -> Checksums:
    """Of the whole; raises Refusal where a shard does not hold what it held when it was made."""
    whole = Checksums()
    for file in files:
        sums = Checksums()
        for block, rows in _blocks(file):
            whole.add(block, rows)
            sums.add(block, rows)
            progress(block.stop - block.start)
        for place, values in _read_beside(file).items():
            sums.add_array(place, values)
        wrong = [f"{split}/{name}" for split in file for name in file[split] if not _agree(sums, file, split, name)]
        if wrong:
            raise Refusal(f"{file.filename}: {', '.join(wrong)} damaged; delete it and make the shard again")
    return whole


def _read_beside(file: h5py.File) -> dict[str, np.ndarray]:
    """The photographs that a shard holds, each data set by its place."""
    group = file.get(PHOTOGRAPHS, {})
    return {f"{PHOTOGRAPHS}/{name}": data[:] for name, data in group.items()}


def _agree(sums: Checksums, file: h5py.File, split: str, name: str) -> bool:
    return sums[f"{split}/{name}"] == file[split][name].attrs["sha256"]


def _blocks(file: h5py.File) -> Iterator[tuple[Block, StoredRows]]:
    """The rows of a shard, some at a time."""
    for split in (split for split in SPLITS if split in file):
        count = len(file[split]["labels"])
        for start in range(0, count, READ_ROWS):
            block = Block(split, start, min(start + READ_ROWS, count))
            yield block, _rows(file, block)


def _rows(file: h5py.File, block: Block) -> StoredRows:
    def read(name: str) -> np.ndarray:
        return file[block.split][name][block.start : block.stop]

    try:
        return StoredRows(**{name: read(name) for name in (*ALWAYS, *RENDERED)})
    except DAMAGE as error:
        damage = f"{file.filename}: {block.split} rows {block.start} to {block.stop} are damaged ({error})"
        raise Refusal(f"{damage}; delete it and make the shard again") from None
