"""The sha256 of files, by which copies are compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

AT_ONCE = 2**20  # bytes that are read at once


def digest_file(path: Path) -> str:
    """The sha256 of all bytes of a file, in hexadecimal."""
    running = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(AT_ONCE):
            running.update(block)
    return running.hexdigest()
