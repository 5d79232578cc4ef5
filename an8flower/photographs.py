"""Photographs of the user's own: what lies in a folder, which split each belongs to, and upright RGB copies of them.

A folder is read with all folders in it. What is hidden (its name begins with a dot) is skipped, what is no picture by
its name is named, and a picture that lies there twice counts once. Every photograph belongs to one split: that of its
folder `train`, `val` or `test` if there are such folders, else one that is fixed by its content.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .digests import digest_file
from .errors import Refusal
from .gate.pictures import PICTURE, SUFFIXES
from .gate.regular import check_regular
from .names import unknown
from .picture import read_picture
from .splits import SPLITS, share_out

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NAMED = 3  # how many offenders a message names
PACKAGE = "package:"  # a folder within an installed package: package:skimage.data
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}  # what pip calls some packages
READ = "PNG, JPEG, WebP, TIFF, BMP and GIF"


class Photograph(NamedTuple):
    """One picture of a folder, not opened yet."""

    path: Path
    name: str  # its path within the folder, with / between folders
    digest: str  # sha256 of the file
    split: str | None  # the user's own; None: it is shared out here


class Listing(NamedTuple):
    """What lies in a folder of photographs."""

    photographs: tuple[Photograph, ...]  # in the order of their names
    left_out: tuple[str, ...]  # names of files that are no pictures by their endings
    repeats: tuple[str, ...]  # names of files whose content another one has, which comes before

    def remarks(self) -> Iterator[str]:
        """What was not taken, in sentences; none where all was."""
        if self.left_out:
            yield f"{_count(self.left_out)} are no pictures by their names, and are left out"
        if self.repeats:
            yield f"{_count(self.repeats)} hold what another photograph holds, and count once"


def list_photographs(folder: Path, only: Sequence[str] = ()) -> Listing:
    """List the pictures in a folder and in all folders within; no pixel is decoded.

    Args:
        only: names of files, as paths within the folder, that are taken alone; none: all are.

    Raises:
        Refusal: no such folder, a file under `only` that is not there, no picture at all, a file that cannot be read,
            or one photograph in the folders of two splits.
    """
    names = sorted(_walk(folder))
    if only:
        lacking = [name for name in only if name not in names]
        if lacking:
            raise Refusal(f"{folder}: {unknown('photograph', lacking[0], names)}")
        names = [name for name in names if name in set(only)]
    pictures = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    left_out = tuple(name for name in names if name not in set(pictures))
    if not pictures:
        came = f"; {_count(left_out)} are none of {READ}" if left_out else ""
        raise Refusal(f"{folder}: no photographs in it, nor in the folders within{came}; name a folder of {READ}")
    photographs, repeats = _without_repeats(folder, pictures)
    return Listing(photographs, left_out, repeats)


def assign_splits(photographs: Iterable[Photograph], splits: Collection[str]) -> dict[str, list[Photograph]]:
    """Share photographs out among the splits that have rows, in the order of their digests: 70/10/20, at least one.

    Photographs in the user's own folders of splits stay there. The same photographs are shared out alike on every
    machine, whatever their names.

    Raises:
        Refusal: fewer photographs than splits, or a split of the user's own without any.
    """
    photographs = sorted(photographs, key=lambda photograph: photograph.digest)
    wanted = [split for split in SPLITS if split in splits]
    if any(photograph.split for photograph in photographs):
        shares = {split: [p for p in photographs if p.split == split] for split in wanted}
        if empty := [split for split, members in shares.items() if not members]:
            raise Refusal(
                f"no photographs for {', '.join(empty)}: other splits have folders of their own; add photographs in a "
                f"folder {empty[0]}"
            )
        return shares
    if len(photographs) < len(wanted):
        raise Refusal(
            f"{len(photographs)} photographs for the splits {', '.join(wanted)}: no photograph may be in two of them; "
            f"give at least {len(wanted)}"
        )
    counts, members = share_out(len(photographs), wanted), iter(photographs)
    return {split: [next(members) for _ in range(counts[split])] for split in wanted}


def digest_shares(shares: Mapping[str, Iterable[Photograph]]) -> str:
    """The sha256 over which photographs, by their digests, are in which split: names have no part in it."""
    return digest_digests({split: [photograph.digest for photograph in members] for split, members in shares.items()})


def digest_digests(shares: Mapping[str, Iterable[str]]) -> str:
    """The sha256 over which digests of photographs are in which split."""
    lines = sorted(f"{digest} {split}" for split, digests in shares.items() for digest in digests)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def find_folder(images: str, beside: Path) -> Path:
    """The folder that a spec names: a path, relative to the spec's own place, or one within an installed package.

    Raises:
        Refusal: there is no such package.
    """
    if not images.startswith(PACKAGE):
        return beside / images
    package, *folders = images.removeprefix(PACKAGE).split(".")
    known = importlib.util.find_spec(package) if package.isidentifier() else None
    if known is None or not known.submodule_search_locations:
        raise Refusal(
            f'images = "{images}": the package {package} is not installed; '
            f"install it with `pip install {DISTRIBUTIONS.get(package, package)}`"
        )
    return Path(known.submodule_search_locations[0], *folders)


def read_photograph(photograph: Photograph, shortest: int = 1) -> Image.Image:
    """One photograph, upright, as 8-bit RGB.

    Args:
        shortest: pixels that its shorter side must have.

    Raises:
        Refusal: it cannot be read as a picture, or is smaller than that.
    """
    picture = read_picture(photograph.path)
    if min(picture.size) < shortest:
        width, height = picture.size
        raise Refusal(
            f"{photograph.path}: {width} x {height} px came, expected at least {shortest} on the shorter side; give a "
            "larger photograph, or make smaller pictures"
        )
    return picture


def scale_down(picture: Image.Image, shorter_side: int) -> Image.Image:
    """A picture whose shorter side has at most so many pixels, its aspect kept; never enlarged."""
    width, height = picture.size
    shrink = shorter_side / min(width, height)
    if shrink >= 1:
        return picture
    size = max(shorter_side, round(width * shrink)), max(shorter_side, round(height * shrink))
    return picture.resize(size, Image.Resampling.LANCZOS)


def as_jpeg(picture: Image.Image, quality: int) -> bytes:
    """The bytes of a picture as JPEG, without metadata, colours at full resolution."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _walk(folder: Path) -> Iterator[str]:
    """The names of all files in a folder that are not hidden; links to folders are not followed."""
    if not folder.is_dir():
        raise Refusal(f"{folder}: no such folder; name a folder of photographs")
    for place, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _refuse_unreadable(error: OSError) -> None:
    raise Refusal(f"{error.filename}: cannot be read ({error.strerror}); change its permissions, or move it away")


def _without_repeats(folder: Path, names: Iterable[str]) -> tuple[tuple[Photograph, ...], tuple[str, ...]]:
    """The photographs of a folder, each content once, and the names that were left over."""
    by_digest: dict[str, Photograph] = {}
    repeats = []
    for name in names:
        photograph = _identify(folder, name)
        first = by_digest.setdefault(photograph.digest, photograph)
        if first.split != photograph.split:
            raise Refusal(
                f"{folder}: {first.name} and {name} are the same photograph in two splits; remove one of them"
            )
        if first is not photograph:
            repeats.append(name)
    return tuple(by_digest.values()), tuple(repeats)


def _identify(folder: Path, name: str) -> Photograph:
    path, (top, _, rest) = folder / name, name.partition("/")
    check_regular(path, PICTURE)
    try:
        digest = digest_file(path)
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}); {PICTURE.remedy}") from None
    return Photograph(path, name, digest, SPLIT_FOLDERS.get(top) if rest else None)


def _count(names: Sequence[str]) -> str:
    """A number of files, with the first of them by name."""
    return f"{len(names)} files ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
