"""Whether the files of a data set are still those that were opened."""

from __future__ import annotations

from pathlib import Path

from an8flower.errors import Refusal
from an8flower.store import FlowerStore, fingerprint

Mark = tuple[int, int, int]
"""The number, the size and the time of the last change of a file: another file, or an edited one, has another mark."""


class DataSeal:
    """What the files of a data set were when they were opened: compared before anything of them is filed."""

    def __init__(self, store: FlowerStore) -> None:
        self._store = store
        self._fingerprint = fingerprint(store.file)
        self._marks = {path.absolute(): mark_of(path.absolute()) for path in (store.path, *store.shards)}

    def check(self) -> None:
        """Raise a Refusal if a file was exchanged or written to since."""
        same = all(mark_of(path) == mark for path, mark in self._marks.items())
        if not same or fingerprint(self._store.file) != self._fingerprint:
            raise Refusal(
                f"{self._store.path}: changed while the run went on, so that nothing of this cell is kept; "
                "put the data set back, or run the same command again"
            )


def mark_of(path: Path) -> Mark | None:
    """The mark of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
