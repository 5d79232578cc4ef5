"""Writing a data set so that it is either whole under its final name or not there at all.

Blocks of rows are made by threads and each is put down as a small finished file in a folder beside the final name. A
run that was killed finds the blocks that are there and makes the others. When all are there, their compressed chunks
are joined (not compressed again) into one file, which is moved into place.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from filelock import FileLock, Timeout
from isal import isal_zlib

from . import __version__, atomic
from .errors import Refusal
from .gate.hdf5 import DAMAGE, Schema, open_hdf5
from .gate.regular import FileKind
from .store import DATASETS, FORMAT, SCHEMA, StoredRows

CHUNK = 32  # rows that are compressed, and later read, together
BLOCK = 8 * CHUNK  # rows that are made, kept and resumed together, of pictures up to a side of
BLOCK_SIDE = 128  # pixels; of larger ones fewer rows, so that memory does not grow with the size
BLOCK_KIND = FileKind("rows that wait", 2**40, "the same command makes them again")
LEVEL = 1  # of deflate: higher ones cost more time than they save space
LOOK = 0.5  # seconds after which the lock of a file is tried again
PATIENCE = 600.0  # seconds without a new block after which whoever holds the lock is taken for stuck


class Block(NamedTuple):
    """Rows start to stop of a split."""

    split: str
    start: int
    stop: int


@dataclass(frozen=True)
class WritingPlan:
    """A data set that is to be written, and how its rows are made."""

    path: Path
    attributes: Mapping[str, object]  # of the root, besides those that every file has
    splits: Mapping[str, int]  # rows of each split
    key: str  # what tells this data set from another one under the same name
    make: Callable[[Block], StoredRows]  # pure, and safe to call from several threads
    format: str = FORMAT
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)  # further data sets, by their places in the file

    @property
    def folder(self) -> Path:
        """Where the blocks wait; another data set or another version of the program has another folder."""
        mark = hashlib.sha256(f"{self.key}/{__version__}".encode()).hexdigest()[:12]
        return self.path.with_name(f"{self.path.name}.{mark}.partial")

    @property
    def blocks(self) -> list[Block]:
        """All blocks of all splits, in order."""
        step = block_rows(int(str(self.attributes.get("size", 0))))
        return [
            Block(split, start, min(start + step, rows))
            for split, rows in self.splits.items()
            for start in range(0, rows, step)
        ]


def block_rows(size: int) -> int:
    """How many rows of pictures of a side in pixels make a block: a whole number of chunks.

    >>> [block_rows(size) for size in (112, 128, 224, 512)]
    [256, 256, 64, 32]
    """
    share = (BLOCK_SIDE / max(size, BLOCK_SIDE)) ** 2
    return CHUNK * max(1, int(BLOCK * share) // CHUNK)


def write(plan: WritingPlan, workers: int, progress: Callable[[int], None] = lambda rows: None) -> None:
    """Make all blocks that are not there yet, then the file. `progress` is told the rows of each finished block.

    To be called by whoever holds the lock of the file: see `write_unless_there`. Raises Refusal where the place cannot
    be written, or the disk is full.
    """
    remark = f", finished rows are kept in {plan.folder}: the same command goes on from there"
    with translate_errors(plan.path, remark):
        plan.folder.mkdir(parents=True, exist_ok=True)
        checksums = Checksums()
        for block, rows in _make_in_order(plan, workers):
            checksums.add(block, rows)
            progress(block.stop - block.start)
        _join(plan, checksums)
        shutil.rmtree(plan.folder)


def write_unless_there(
    path: Path, is_there: Callable[[], bool], make: Callable[[], None], on_wait: Callable[[], None] | None = None
) -> bool:
    """Make a file while nobody else makes one of its name; whether it was there already, and nothing was made.

    Args:
        is_there: whether the very same is there; it raises Refusal if anything else is. Asked again under the lock.
        on_wait: called once before another process that writes the file is waited for; None: it is not waited for.

    Raises:
        Refusal: another process is writing the file, and is not waited for or gets no further; or it cannot be written.
    """
    if is_there():
        return True
    with translate_errors(path), _hold_lock(path, on_wait):
        if is_there():
            return True
        make()
    return False


class Checksums:
    """Running sha256 of every data set of every split, over the uncompressed bytes in row order."""

    def __init__(self) -> None:
        self._running: dict[str, hashlib._Hash] = {}

    def add(self, block: Block, rows: StoredRows) -> None:
        """Take the rows of the next block in."""
        for name, values in _present_columns(rows).items():
            self.add_array(f"{block.split}/{name}", values)

    def add_array(self, place: str, values: np.ndarray) -> None:
        """Take the next rows of one data set in."""
        running = self._running.setdefault(place, hashlib.sha256())
        running.update(np.ascontiguousarray(values).data)

    def __getitem__(self, place: str) -> str:
        return self._running[place].hexdigest()

    @property
    def digest(self) -> str:
        """sha256 over all of them: names a data set that has no spec."""
        lines = [f"{place} {running.hexdigest()}" for place, running in sorted(self._running.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def translate_errors(path: Path, remark: str = "") -> Iterator[None]:
    """Turn what the operating system says into a sentence with a remedy; `remark` says what a full disk leaves."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:  # h5py raises the latter where the disk is full when a file is closed
        if _disk_is_full(error):
            raise Refusal(f"{path}: the disk is full; make room{remark}") from error
        if isinstance(error, OSError):
            raise Refusal(f"{path}: cannot be written ({error.strerror or error}); choose another -o") from error
        raise


def _disk_is_full(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


@contextmanager
def _hold_lock(path: Path, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of a file that is to be written; the operating system frees it when a process dies."""
    place = path.with_name(f"{path.name}.lock")
    place.touch()  # where nothing can be written, this says so; the lock would take it for one that somebody holds
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is None:
            raise Refusal(f"{path}: another process is writing it; wait for it, or give another -o") from None
        on_wait()
        _wait_for(lock, path)
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()


def waiting_for(path: Path) -> str:
    """The sentence that says that another process is waited for."""
    return f"{path}: another process is writing it, and is waited for"


def _wait_for(lock: FileLock, path: Path) -> None:
    """Wait for the lock of a file while whoever holds it puts down blocks; raises Refusal once none comes any more."""
    blocks, since = _list_blocks(path), time.monotonic()
    while time.monotonic() - since < PATIENCE:
        with suppress(Timeout):
            lock.acquire(timeout=LOOK)
            return
        if (now := _list_blocks(path)) != blocks:
            blocks, since = now, time.monotonic()
    raise Refusal(
        f"{path}: another process holds its lock, and has written nothing for {PATIENCE:.0f} s; end that process, and "
        "run the same command again"
    )


def _list_blocks(path: Path) -> dict[Path, int]:
    """The sizes of what is being written for a file: its blocks in their folder, or a merged file beside it."""
    sizes = {}
    for place in [*path.parent.glob(f"{path.name}.*/*"), *path.parent.glob(f"{path.name}.*")]:
        with suppress(OSError):  # it may have got its final name
            sizes[place] = place.stat().st_size
    return sizes


def _make_in_order(plan: WritingPlan, workers: int) -> Iterator[tuple[Block, StoredRows]]:
    """Every block with its rows, in order, with a few in the making: memory does not grow with the job."""
    waiting: deque[tuple[Block, Future[StoredRows]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for block in plan.blocks:
            waiting.append((block, pool.submit(_obtain, plan, block)))
            if len(waiting) > workers + 1:
                block, future = waiting.popleft()
                yield block, future.result()
        for block, future in waiting:
            yield block, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _obtain(plan: WritingPlan, block: Block) -> StoredRows:
    """Read a block that an earlier run has left, or make it and put it down."""
    place = _block_path(plan, block)
    finished = _read_block(place)
    if finished is not None and len(finished.labels) == block.stop - block.start:
        return finished
    rows = plan.make(block)
    unfinished = place.with_suffix(".unfinished")
    with h5py.File(unfinished, "w") as part:
        for name, values in _present_columns(rows).items():
            data = _create(part, name, values.dtype, values.shape)
            _write_chunks(data, 0, _compress(values))
    atomic.move(unfinished, place)
    return rows


def _read_block(place: Path) -> StoredRows | None:
    """The rows of a block that is there and can be read."""
    try:
        with _open_block(place) as part:
            return StoredRows._make(part[name][:] if name in part else None for name in StoredRows._fields)
    except (Refusal, *DAMAGE):
        return None


def _open_block(place: Path) -> h5py.File:
    return open_hdf5(place, BLOCK_KIND, Schema(DATASETS))


def _block_path(plan: WritingPlan, block: Block) -> Path:
    return plan.folder / f"{block.split}-{block.start:09d}.h5"


def _present_columns(rows: StoredRows) -> dict[str, np.ndarray]:
    return {name: values for name, values in rows._asdict().items() if values is not None}


def _create(group: h5py.Group, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> h5py.Dataset:
    grows = (None, *shape[1:])  # HDF5 allows a chunk to be larger than the data only where the data may grow
    chunks = (CHUNK, *shape[1:])
    return group.create_dataset(
        name, shape, dtype, chunks=chunks, maxshape=grows, compression="gzip", compression_opts=LEVEL
    )


def _compress(values: np.ndarray) -> list[bytes]:
    """Chunks as the deflate filter of HDF5 would write them; the last one is filled up with zeros."""
    chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
    if len(chunks[-1]) < CHUNK:
        whole = np.zeros((CHUNK, *values.shape[1:]), values.dtype)
        whole[: len(chunks[-1])] = chunks[-1]
        chunks[-1] = whole
    return [isal_zlib.compress(np.ascontiguousarray(chunk).view(np.uint8), LEVEL) for chunk in chunks]


def _write_chunks(data: h5py.Dataset, start: int, chunks: list[bytes]) -> None:
    for i, chunk in enumerate(chunks):
        data.id.write_direct_chunk((start + i * CHUNK, *(0,) * (data.ndim - 1)), chunk)


def _join(plan: WritingPlan, checksums: Checksums) -> None:
    """One file from all blocks: beside the final name first, then moved."""
    with move_when_whole(plan.folder / "joined.unfinished", plan.path) as file:
        for block in plan.blocks:
            with _open_block(_block_path(plan, block)) as part:
                _append(file.require_group(block.split), part, block, plan.splits[block.split])
        write_beside(file, plan.beside, checksums)
        attributes = {"digest": checksums.digest, **plan.attributes, "format": plan.format, "generator": __version__}
        seal(file, attributes, checksums)


def write_beside(file: h5py.File, arrays: Mapping[str, np.ndarray], checksums: Checksums) -> None:
    """Write data sets that have no rows of a split, and take their sums."""
    for place, values in arrays.items():
        file.create_dataset(place, data=values)
        checksums.add_array(place, values)


@contextmanager
def move_when_whole(unfinished: Path, path: Path) -> Iterator[h5py.File]:
    """A new file under another name, moved to its own when it is closed and on the disk."""
    with h5py.File(unfinished, "w") as file:
        yield file
    atomic.move(unfinished, path)


def seal(file: h5py.File, attributes: Mapping[str, object], checksums: Checksums) -> None:
    """Write down what the file is and what its data sets sum up to; that it is complete comes last."""
    for split in file:
        for name, data in file[split].items():
            data.attrs["sha256"] = checksums[f"{split}/{name}"]
    file.attrs.update({**attributes, "schema": SCHEMA})
    file.attrs["complete"] = True


def _append(group: h5py.Group, part: h5py.File, block: Block, rows: int) -> None:
    """Copy a block's compressed chunks to their place in the split."""
    for name, data in part.items():
        if name not in group:
            _create(group, name, data.dtype, (rows, *data.shape[1:]))
        starts = range(0, len(data), CHUNK)
        rest = (0,) * (data.ndim - 1)
        _write_chunks(group[name], block.start, [data.id.read_direct_chunk((start, *rest))[1] for start in starts])
