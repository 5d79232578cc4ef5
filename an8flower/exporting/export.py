"""Write a data set in the layout of another tool: shard after shard, whole under its final name or not there.

Shards are put down in a folder beside the final one. A run that was killed finds those that are there, and makes the
others. When all are there, the cards and the checksums are written, and the folder gets its name.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..atomic import sweep
from ..errors import Refusal
from ..evidence import discriminative_parts
from ..factors import PARTS
from ..gate.hdf5 import DAMAGE
from ..gate.regular import shorten
from ..names import check_known
from ..spec import DatasetSpec
from ..store import REMAKE, FlowerStore
from ..writing import translate_errors, write_unless_there
from .cards import write_cards
from .contents import MANIFEST, Contents, ExportShard, describe, read_contents
from .folders import take_name, write_checksums, write_text
from .layouts import LABELS, LAYOUTS, PAIRS, Arrays


class Exported(NamedTuple):
    """What an export left."""

    folder: Path
    rows: int
    seconds: float
    existed: bool  # the same export was there already


def export(
    path: Path,
    folder: Path,
    layout: str,
    *,
    with_pairs: bool = False,
    workers: int | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Exported:
    """Write a data set into a new folder in a layout, `parquet`, `folder` or `webdataset`.

    Args:
        with_pairs: also write, for each row and each class, where the row differs from that class.
        force: replace another export in the folder.

    Raises:
        WrongUsage: no such layout.
        Refusal: the data set is damaged, the folder holds something else, or cannot be written.
    """
    began = perf_counter()
    check_known("layout", layout, LAYOUTS)
    store = FlowerStore(path)
    if with_pairs and (store.spec is None or not store.part_names):
        raise Refusal(f"{path}: has no spec, so what tells pairs of classes is not known; leave the masks of pairs out")
    contents = describe(store, layout, with_pairs)
    job = ExportJob(store, contents, folder.absolute())
    rows = sum(contents.splits.values())
    existed = write_unless_there(
        job.folder, lambda: job.is_there(force), lambda: job.run(workers or os.cpu_count() or 1, progress)
    )
    return Exported(folder, rows, perf_counter() - began, existed)


class ExportJob(NamedTuple):
    """A data set that is to be exported into a folder."""

    store: FlowerStore
    contents: Contents
    folder: Path

    @property
    def waiting(self) -> Path:
        """Where shards wait; another data set, layout or version of the program has another folder."""
        mark = hashlib.sha256(f"{self.contents.to_json()}/{__version__}".encode()).hexdigest()[:12]
        return self.folder.with_name(f"{self.folder.name}.{mark}.partial")

    def is_there(self, force: bool) -> bool:
        """Whether this export is there; raises Refusal if something else is, unless another export may be replaced."""
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return False
        if not (self.folder / MANIFEST).is_file():
            raise Refusal(f"{self.folder}: holds something that is no export; choose another -o")
        if not force and read_contents(self.folder, tuple(LAYOUTS)).to_json() == self.contents.to_json():
            return True
        if not force:
            raise Refusal(f"{self.folder}: holds another export; replace it with --force, or write elsewhere with -o")
        return False

    def run(self, workers: int, progress: Callable[[int], None]) -> None:
        """Write what is not there yet, and give the folder its name."""
        with translate_errors(self.folder, f", finished rows are kept in {self.waiting}: the same command goes on"):
            self.waiting.mkdir(parents=True, exist_ok=True)
            for shard in self._write_shards(workers):
                progress(shard.stop - shard.start)
            sweep(self.waiting)  # what a killed export left unfinished beside the cards
            write_cards(self.waiting, self.store, self.contents)
            write_text(self.waiting / MANIFEST, self.contents.to_json())
            write_checksums(self.waiting)
            self._take_name()

    def _write_shards(self, workers: int) -> Iterator[ExportShard]:
        """Every shard, once it is on the disk; a few are in the making, so that memory does not grow with the rows."""
        waiting: deque[Future[ExportShard]] = deque()
        pool = ThreadPoolExecutor(workers)
        for place in {
            LAYOUTS[self.contents.layout].place(self.waiting, shard).parent for shard in self.contents.shards
        }:
            sweep(place)
        try:
            for shard in self.contents.shards:
                waiting.append(pool.submit(self._write_shard, shard))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _write_shard(self, shard: ExportShard) -> ExportShard:
        layout = LAYOUTS[self.contents.layout]
        if not layout.place(self.waiting, shard).exists():
            layout.write(self.waiting, self.contents, shard, self._arrays(shard))
        return shard

    def _arrays(self, shard: ExportShard) -> Arrays:
        """All arrays that are stored of a shard's rows, and the masks of class pairs if they are wanted."""
        self.store.refuse_missing_shards()
        try:
            group = self.store.file[shard.split]
            arrays = {
                array.name: group[array.name][shard.start : shard.stop] for array in self.contents.arrays[shard.split]
            }
        except DAMAGE as error:
            raise Refusal(f"{self.store.path}: {shard.name} is damaged ({shorten(error)}); {REMAKE}") from None
        if self.contents.with_pairs:
            assert self.store.spec is not None, "refused before"
            arrays[PAIRS] = pair_masks(self.store.spec, arrays[LABELS], arrays["parts"])
        return arrays

    def _take_name(self) -> None:
        take_name(self.waiting, self.folder)


def pair_masks(spec: DatasetSpec, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Where rows differ from each class: (n, C S, S) uint8, one square below the other, 255 on parts that differ.

    The square of the row's own class is 0. A part that the row lacks and the other class has is not marked.
    """
    count, side = len(labels), parts.shape[1]
    masks = np.zeros((count, spec.class_count, side, side), np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for other in set(range(spec.class_count)) - {int(label)}:
            differing = [PARTS.index(part) for part in discriminative_parts(spec, int(label), other)]
            masks[rows, other] = np.where(np.isin(parts[rows], differing), 255, 0)
    return masks.reshape(count, spec.class_count * side, side)
