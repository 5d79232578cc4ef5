"""Tar archives: regular files alone, of bounded number and size, and nothing is written where a name says."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from ..errors import Refusal
from .regular import FileKind, check_regular, shorten

DAMAGE = (OSError, ValueError, EOFError, tarfile.TarError, zlib.error, MemoryError, LookupError)
"""What tarfile raises where a file is damaged."""

MEMBERS = 2**20


def read_tar(path: Path, kind: FileKind) -> dict[str, bytes]:
    """The files of an archive by their names, not compressed: the size of the archive bounds them all."""
    size = check_regular(path, kind)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse() or member.size > size or len(files) >= MEMBERS:
                    raise ValueError(f"{member.name} is no plain file of it")
                content = archive.extractfile(member)
                files[member.name] = content.read() if content else b""
    except DAMAGE as error:
        raise Refusal(f"{path}: no archive, or damaged ({shorten(error)}); {kind.remedy}") from None
    return files
