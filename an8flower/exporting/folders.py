"""The folder of an export: its texts, the checksums of its files, and the moment at which it gets its name."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..atomic import moved_into
from ..digests import digest_file

CHECKSUMS = "checksums.sha256"


def write_text(place: Path, text: str) -> None:
    """Write a text, which has the same bytes on every system."""
    with moved_into(place) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def write_checksums(folder: Path) -> None:
    """Write the sha256 of every file, as `sha256sum --check` reads them."""
    files = sorted(place for place in folder.rglob("*") if place.is_file() and place.name != CHECKSUMS)
    lines = [f"{digest_file(place)}  {place.relative_to(folder).as_posix()}\n" for place in files]
    write_text(folder / CHECKSUMS, "".join(lines))


def take_name(waiting: Path, folder: Path) -> None:
    """Give a finished folder its name; what was there under it is removed only then."""
    former = waiting.with_suffix(".former")
    shutil.rmtree(former, ignore_errors=True)  # of a run that was killed just here
    if folder.exists():
        folder.rename(former)
    waiting.rename(folder)
    shutil.rmtree(former, ignore_errors=True)
