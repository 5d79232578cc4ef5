"""Files before they are opened: a file is a regular one and not larger than what is read of its kind."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Refusal

LONGEST = 160  # characters that a message takes over from a file or a library
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileKind(NamedTuple):
    """A kind of file, in the words of its messages."""

    noun: str  # "a file of class names"
    largest: int  # bytes
    remedy: str  # what to do about one that cannot be used
    absent: str = ""  # what to do about one that is not there; the same where empty


def check_regular(path: Path, kind: FileKind) -> int:
    """The size of a regular file in bytes; raises Refusal for all that is none, or is too large."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(f"{shorten(path)}: no such file; {kind.absent or kind.remedy}") from None
    except (OSError, ValueError) as error:  # a name that is too long, that holds a zero, that may not be looked at
        reason = getattr(error, "strerror", None) or error
        raise Refusal(f"{shorten(path)}: cannot be read ({shorten(reason)}); {kind.remedy}") from None
    for is_kind, noun in KINDS:
        if is_kind(status.st_mode):
            raise Refusal(f"{shorten(path)}: {noun} came, expected {kind.noun}; {kind.remedy}")
    if status.st_size > kind.largest:
        raise Refusal(
            f"{shorten(path)}: {megabytes(status.st_size)} came, "
            f"{kind.noun} may have {megabytes(kind.largest)}; {kind.remedy}"
        )
    return status.st_size


def read_bytes(path: Path, kind: FileKind) -> bytes:
    """The bytes of a small file; raises Refusal as `check_regular` does."""
    check_regular(path, kind)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}); {kind.remedy}") from None


def shorten(text: Any) -> str:
    """What a file or a library says, on one line and cut to a length that fits into a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def megabytes(size: float) -> str:
    """A number of bytes in words.

    >>> megabytes(3_500_000), megabytes(12)
    ('3.5 MB', '0.0 MB')
    """
    return f"{size / 1e6:,.1f} MB"
