"""Albums: the photographs of a split as they lie behind the plant, read from a folder or from a file of rows.

Of each photograph a copy is kept, as JPEG and no larger than the pictures need. Rows are rendered from copies alone, so
a file that holds them can be rendered again anywhere. A row takes a crop of one of them, or of its scrambled twin: the
same amplitudes of all waves, each shifted at random.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import Refusal
from .gate.pictures import parse_jpeg
from .photographs import (
    PACKAGE,
    Photograph,
    as_jpeg,
    assign_splits,
    digest_digests,
    digest_shares,
    find_folder,
    list_photographs,
    read_photograph,
    scale_down,
)
from .scenery import PHOTO, SCRAMBLE
from .splits import SPLITS
from .terms import PhotographTerms, Range

if TYPE_CHECKING:
    from .spec import DatasetSpec

VARIANTS = 4  # scrambled twins of a photograph
HELD = 2**27  # bytes of decoded pictures that an album holds
LARGEST_COPIES = 2**30  # bytes of all copies together
NAME = 160  # bytes of a photograph's name that are kept: its end
TEXTS = {"name": f"S{NAME}", "sha256": "S64", "split": "S5"}
NUMBERS = {"start": "i8", "length": "i8", "width": "i4", "height": "i4"}
ENTRY = np.dtype(list((TEXTS | NUMBERS).items()))  # one photograph of a file
LEVELS = 8  # sizes of a picture: whole, halved, halved again


class Pyramid(NamedTuple):
    """A picture at all sizes that pictures of rows may need."""

    levels: list[np.ndarray]  # (h, w, 3) uint8, then half as large, and so on
    mean: np.ndarray  # (3,) float64, its mean colour

    @property
    def bytes(self) -> int:
        """The memory that all sizes take."""
        return sum(level.nbytes for level in self.levels)


class Copies(NamedTuple):
    """Copies of photographs, as a file holds them."""

    entries: np.ndarray  # (k,) ENTRY: name and sha256 of a photograph, its split, and where its copy lies in `bytes`
    content: np.ndarray  # (bytes,) uint8: JPEG files, one after the other


class Album:
    """The photographs of one split. Safe to use from several threads at once."""

    def __init__(self, entries: np.ndarray, read: Callable[[int, int], bytes], size: int, place: Path) -> None:
        """Make the album of some entries; `read` gives the bytes from a start to a stop, `place` is for messages."""
        self.entries, self.size, self.place = entries, size, place
        self._read, self._held, self._lock = read, OrderedDict[tuple[int, int], Pyramid](), Lock()

    def lay(self, table: np.ndarray, kind: np.ndarray) -> dict[str, np.ndarray]:
        """The crops of the rows (n,) that lie on photographs, as the fields of `scenery.Ground`."""
        rows = np.flatnonzero(kind >= SCRAMBLE)
        number, variant, level, crops = self._place(table[rows], kind[rows])
        keys = (number * (1 + VARIANTS) + variant) * LEVELS + level
        wanted, which = np.unique(keys, return_inverse=True)
        held = {key: self._pyramid(*divmod(key, 1 + VARIANTS)) for key in set((wanted // LEVELS).tolist())}
        pictures = [held[key // LEVELS].levels[key % LEVELS] for key in wanted.tolist()]
        frame, crop = np.full(len(table), -1), np.zeros((len(table), 4))
        frame[rows], crop[rows] = which, crops
        starts = np.cumsum([0, *(picture.size for picture in pictures)])[:-1]
        shapes = [(start, *picture.shape[:2]) for start, picture in zip(starts, pictures, strict=True)]
        return {
            "frame": frame,
            "crop": crop,
            "frames": np.array(shapes, np.int64).reshape(-1, 3),
            "means": np.array([held[key // LEVELS].mean for key in wanted.tolist()], np.float32).reshape(-1, 3),
            "pixels": np.concatenate([picture.reshape(-1) for picture in pictures]),
        }

    def _place(self, table: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which photograph, which twin and how far halved rows show, and their crops: left, top, side, flipped."""
        number = table["background.photograph"].astype(np.int64) % len(self.entries)
        variant = np.where(kind == PHOTO, 0, 1 + table["background.texture"].astype(np.int64) % VARIANTS)
        width, height = self.entries["width"][number], self.entries["height"][number]
        shorter = np.minimum(width, height)
        side = np.maximum(shorter * table["background.scale"], np.minimum(self.size, shorter))
        level = np.clip(np.floor(np.log2(side / self.size) + 1e-9), 0, LEVELS - 1)
        left, top = (width - side) * table["background.x"], (height - side) * table["background.y"]
        share = 0.5**level
        crops = np.stack([left * share, top * share, side * share, table["background.flip"]], axis=1)
        return number, variant, level.astype(np.int64), crops

    def _pyramid(self, number: int, variant: int) -> Pyramid:
        """A photograph (0) or one of its scrambled twins, at all sizes; decoded anew if it is not held any more."""
        with self._lock:
            if (number, variant) in self._held:
                self._held.move_to_end((number, variant))
                return self._held[number, variant]
        picture = self.decode(number) if variant == 0 else self._scramble(number, variant)
        pyramid = Pyramid(_halve_repeatedly(picture, self.size), picture.mean((0, 1)))
        with self._lock:
            self._held[number, variant] = pyramid
            while len(self._held) > 1 and sum(held.bytes for held in self._held.values()) > HELD:
                self._held.popitem(last=False)
        return pyramid

    def decode(self, number: int) -> np.ndarray:
        """The copy of a photograph, (h, w, 3) uint8; raises Refusal if it is damaged."""
        entry = self.entries[number]
        content = self._read(int(entry["start"]), int(entry["start"] + entry["length"]))
        name = entry["name"].decode("utf-8", "replace")
        return parse_jpeg(content, (int(entry["width"]), int(entry["height"])), f"{self.place}: photograph {name}")

    def _scramble(self, number: int, variant: int) -> np.ndarray:
        seed = hashlib.sha256(self.entries["sha256"][number] + bytes([variant])).digest()
        return scramble(self._pyramid(number, 0).levels[0], np.random.default_rng(list(seed)))


def open_album(spec: DatasetSpec, split: str) -> Album | None:
    """The album of a split, made of the folder that a spec names; None if it names none.

    Raises:
        Refusal: the folder is not at hand, or a photograph in it cannot be used.
    """
    if spec.background is None:
        return None
    return album_of(copy_photographs(spec), split, spec.size, Path(spec.background.images))


def album_of(copies: Copies, split: str, size: int, place: Path) -> Album:
    """The album of a split out of copies of the photographs of all splits."""
    entries = copies.entries[copies.entries["split"] == split.encode()]
    return Album(entries, lambda start, stop: copies.content[start:stop].tobytes(), size, place)


def copy_photographs(spec: DatasetSpec) -> Copies:
    """Copies of the photographs of a spec, no larger than its rows need; made once for a spec.

    Raises:
        Refusal: the folder is not at hand or has changed, or a photograph cannot be read or is too small.
    """
    terms = spec.background
    assert terms is not None, "only a spec with photographs has copies of them"
    return _copy(
        _find_photographs(spec, terms), terms.only, terms.digest, terms.quality, spec.size, _shorter_side(spec)
    )


def _find_photographs(spec: DatasetSpec, terms: PhotographTerms) -> Path:
    """The folder of the photographs of a spec; that of an installed package needs no .toml file at hand."""
    if terms.folder is not None:
        return terms.folder
    if not terms.images.startswith(PACKAGE):
        raise Refusal(
            f"{spec.name}: its photographs ({terms.images}) are not at hand; give the .toml file that names them"
        )
    try:
        return find_folder(terms.images, Path())
    except Refusal as refusal:
        raise Refusal(f"{spec.name}: {refusal}") from None


def photograph_remarks(spec: DatasetSpec) -> list[str]:
    """What of the folder of photographs of a spec is not used, in sentences; none where all is, or there is none."""
    terms = spec.background
    if terms is None or terms.folder is None:
        return []
    return [f"{terms.folder}: {remark}" for remark in list_photographs(terms.folder, terms.only).remarks()]


@lru_cache(maxsize=2)
def _copy(folder: Path, only: tuple[str, ...], digest: str, quality: int, size: int, shorter: int) -> Copies:
    shares = assign_splits(list_photographs(folder, only).photographs, SPLITS)
    if digest_shares(shares) != digest:
        raise Refusal(
            f"{folder}: holds other photographs than the spec names by their digest; give the command again if they "
            "have just been changed, or install the version of the package that has them"
        )
    photographs = [(photograph, split) for split in SPLITS for photograph in shares[split]]

    def work(photograph: Photograph) -> tuple[bytes, tuple[int, int]]:
        picture = scale_down(read_photograph(photograph, size), shorter)
        return as_jpeg(picture, quality), picture.size

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = list(pool.map(work, [photograph for photograph, _ in photographs]))
    entries, start = np.zeros(len(made), ENTRY), 0
    for i, ((photograph, split), (content, (width, height))) in enumerate(zip(photographs, made, strict=True)):
        name = photograph.name.encode()[-NAME:]
        entries[i] = (name, photograph.digest.encode(), split.encode(), start, len(content), width, height)
        start += len(content)
    if start > LARGEST_COPIES:
        raise Refusal(
            f"{folder}: copies of its photographs would take {start / 1e9:.1f} GB, expected at most "
            f"{LARGEST_COPIES / 1e9:.1f}; give fewer of them, or a lower background.quality"
        )
    return Copies(entries, np.frombuffer(b"".join(content for content, _ in made), np.uint8))


def _shorter_side(spec: DatasetSpec) -> int:
    """The pixels that the smallest crop of a row needs its photograph to have on the shorter side."""
    values = spec.nuisance.get("background.scale", 1.0)
    if spec.shortcut and spec.shortcut.factor == "background.scale":
        values = spec.shortcut.values
    smallest = values.low if isinstance(values, Range) else min(values) if isinstance(values, tuple) else values
    return math.ceil(spec.size / max(float(smallest), 0.25))


def check_entries(entries: np.ndarray, available: int, digest: str) -> None:
    """Raise ValueError unless the entries of a file are whole, lie in its copies and are those of a digest."""
    if entries.dtype != ENTRY:
        raise ValueError(f"its photographs are {entries.dtype}, expected {ENTRY}")
    starts, lengths = entries["start"], entries["length"]
    if (starts < 0).any() or (lengths < 1).any() or (lengths > available).any() or (starts > available - lengths).any():
        raise ValueError("a photograph lies outside the copies")
    if (entries["width"] < 2).any() or (entries["height"] < 2).any():
        raise ValueError("a photograph has no pixels")
    splits = {split: entries["sha256"][entries["split"] == split.encode()] for split in SPLITS}
    if not all(len(members) for members in splits.values()) or sum(map(len, splits.values())) != len(entries):
        raise ValueError("a split has no photographs, or a photograph no split")
    if digest_digests({split: [name.decode() for name in members] for split, members in splits.items()}) != digest:
        raise ValueError("its photographs are not those of its spec")


def _halve_repeatedly(picture: np.ndarray, size: int) -> list[np.ndarray]:
    """A picture and its halves, while the shorter side has at least so many pixels."""
    levels = [np.ascontiguousarray(picture)]
    while min(levels[-1].shape[:2]) // 2 >= size:
        height, width = (side // 2 for side in levels[-1].shape[:2])
        even = levels[-1][: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).astype(np.uint16)
        levels.append(((even.sum((1, 3)) + 2) // 4).astype(np.uint8))
    return levels


def scramble(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A picture (h, w, 3) uint8 with the phases of all waves shifted at random, alike in the three colours.

    The amplitudes are those of its periodic component, so that its borders leave no cross in them. Source: L. Moisan,
    2011, Periodic plus smooth image decomposition; S. C. Dakin et al., 2002, What causes non-monotonic tuning of fMRI
    response to noisy images?
    """
    height, width = picture.shape[:2]
    shift = np.angle(np.fft.fft2(random.standard_normal((height, width))))
    shift[0, 0] = 0
    waves = np.fft.fft2(_periodic(picture.astype(np.float64)), axes=(0, 1)) * np.exp(1j * shift)[..., None]
    return np.clip(np.fft.ifft2(waves, axes=(0, 1)).real + 0.5, 0, 255).astype(np.uint8)


def _periodic(picture: np.ndarray) -> np.ndarray:
    """The periodic component of a picture (h, w, 3): without the smooth one that its jumps at the borders make."""
    height, width = picture.shape[:2]
    jumps = np.zeros_like(picture)
    rows, columns = picture[-1] - picture[0], picture[:, -1] - picture[:, 0]
    jumps[0] += rows
    jumps[-1] -= rows
    jumps[:, 0] += columns
    jumps[:, -1] -= columns
    turns = np.cos(2 * np.pi * np.arange(height) / height)[:, None], np.cos(2 * np.pi * np.arange(width) / width)
    divisor = 2 * turns[0] + 2 * turns[1] - 4
    divisor[0, 0] = 1
    smooth = np.fft.fft2(jumps, axes=(0, 1)) / divisor[..., None]
    smooth[0, 0] = 0
    return picture - np.fft.ifft2(smooth, axes=(0, 1)).real
