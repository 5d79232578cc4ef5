"""Pictures and masks of somebody else as a store: the layout of the original an8Flower release.

`IMAGES/<class>/*` lies beside `MASKS/<class>/*`; a mask belongs to the picture with the same stem. Nothing is guessed:
what does not match is reported, and refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import Refusal
from .splits import SPLITS, split_sizes
from .store import StoredRows
from .writing import Block, WritingPlan, write

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
WHITE = {"bool": 1, "uint8": 255, "uint16": 65535, "int32": 65535}  # Pillow keeps 16 bits in 32 for some formats
NAMED = 3  # how many offenders a message names


@dataclass(frozen=True)
class Pair:
    """The files of a picture and of its mask."""

    image: Path
    mask: Path
    label: int

    @property
    def group(self) -> str:
        """What stays in one split: all views of a base image (`class2_img30_p1_r2` -> `img30`), else the picture."""
        base = re.search(r"(?:^|_)(img\d+)(?:_|$)", self.image.stem)
        return base.group(1) if base else self.image.stem


@dataclass(frozen=True)
class Pairs:
    """All pairs of two folders, matched."""

    class_names: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @cached_property
    def splits(self) -> Mapping[str, list[Pair]]:
        """70/10/20 of the groups of each class, in an order fixed by their names' hash."""
        splits: dict[str, list[Pair]] = {split: [] for split in SPLITS}
        for label in range(len(self.class_names)):
            members = [pair for pair in self.pairs if pair.label == label]
            split_of = _split_of_groups({pair.group for pair in members})
            for pair in members:
                splits[split_of[pair.group]].append(pair)
        return {split: sorted(pairs, key=_order_key) for split, pairs in splits.items() if pairs}


def import_folders(
    images: Path,
    masks: Path,
    path: Path,
    *,
    size: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Pairs:
    """Write a store from two parallel folders; `size` scales every picture to that square.

    Raises Refusal where pictures and masks do not match one to one, where they differ in size, where pictures are not
    square or not all of one size and no `size` is given, and where a mask cannot be read as foreground and background.
    """
    matched = match(images, masks)
    side = size or _common_side(matched.pairs)
    attributes = {"name": path.stem, "class_names": list(matched.class_names), "part_names": [], "size": side}
    splits = {split: len(pairs) for split, pairs in matched.splits.items()}

    def make(block: Block) -> StoredRows:
        return read_rows(matched.splits[block.split][block.start : block.stop], side)

    write(WritingPlan(path, attributes, splits, _key(matched, side), make), workers or os.cpu_count() or 1, progress)
    return matched


def match(images: Path, masks: Path) -> Pairs:
    """Pair pictures and masks by class and stem; raises Refusal with what does not match."""
    classes = _folders(images)
    _refuse_unmatched(set(classes), set(_folders(masks)), f"classes of {images}", f"classes of {masks}")
    pairs: list[Pair] = []
    for label, name in enumerate(classes):
        pictures, theirs = _by_stem(images / name), _by_stem(masks / name)
        _refuse_unmatched(set(pictures), set(theirs), f"pictures in {images / name}", f"masks in {masks / name}")
        pairs += [Pair(pictures[stem], theirs[stem], label) for stem in sorted(pictures)]
    if not pairs:
        raise Refusal(f"{images}: no pictures in its folders; expected IMAGES/<class>/*.jpg")
    return Pairs(tuple(classes), tuple(pairs))


def read_rows(pairs: Iterable[Pair], side: int) -> StoredRows:
    """Pictures (n, S, S, 3) and masks (n, S, S), scaled to a square where they are not of that size."""
    pairs = list(pairs)
    read = [_read(pair, side) for pair in pairs]
    labels = np.array([pair.label for pair in pairs], np.int64)
    return StoredRows(np.stack([image for image, _ in read]), labels, np.stack([mask for _, mask in read]), None, None)


def foreground(mask: Image.Image, place: object) -> np.ndarray:
    """A mask of any mode as (H, W) bool: where a channel reaches half of what its mode can hold.

    Raises Refusal where something is marked but nothing reaches half (a palette's or a label's numbers, say): that is
    not a picture of foreground and background.
    """
    channels = _channels(mask)
    most = WHITE.get(channels.dtype.name)
    if most is None:
        raise Refusal(f"{place}: mode {mask.mode} came, whose white is unknown; save the mask in black and white")
    marked = np.any(channels > most / 2, axis=2)
    if channels.any() and not marked.any():
        came = f"values up to {channels.max()} of {most} came, so nothing reaches half"
        raise Refusal(f"{place}: {came} and the foreground is unclear; save the mask in black and white")
    return marked


def _channels(mask: Image.Image) -> np.ndarray:
    """(H, W, channels) without alpha; a palette is looked up, transparent pixels are background."""
    if mask.mode in ("P", "PA"):
        mask = mask.convert("RGBA")
    values = np.asarray(mask)
    values = values[:, :, None] if values.ndim == 2 else values
    if mask.mode in ("LA", "La", "RGBA", "RGBa"):
        values = values[:, :, :-1] * (values[:, :, -1:] >= 128)
    return values


def _read(pair: Pair, side: int) -> tuple[np.ndarray, np.ndarray]:
    with _open(pair.image) as image, _open(pair.mask) as mask:
        if image.size != mask.size:
            raise Refusal(f"{pair.mask}: {mask.size} came, its picture {pair.image} is {image.size}; scale one of them")
        marked = Image.fromarray(foreground(mask, pair.mask))
        picture = image.convert("RGB")
        if image.size != (side, side):
            smaller = side < min(image.size)
            picture = picture.resize((side, side), Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC)
            marked = marked.convert("L").resize((side, side), Image.Resampling.BOX).point(lambda v: 255 * (v >= 128))
        return np.asarray(picture), (np.asarray(marked) > 0).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refusal(f"{path}: cannot be read as a picture ({error}); remove it or save it again") from None
    return image


def _common_side(pairs: Iterable[Pair]) -> int:
    sizes: dict[tuple[int, int], Path] = {}
    for pair in pairs:
        sizes.setdefault(_open(pair.image).size, pair.image)
    (first, example), *others = sizes.items()
    if others or first[0] != first[1]:
        listed = ", ".join(f"{w}x{h} ({path.name})" for (w, h), path in list(sizes.items())[:NAMED])
        raise Refusal(f"{example.parent.parent}: one square size expected, {listed} came; scale them with --size PX")
    return first[0]


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise Refusal(f"{root}: no such folder; expected one with a folder per class")
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir())


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in files:
            raise Refusal(f"{folder}: {files[path.stem].name} and {path.name} have the same stem; remove one")
        files[path.stem] = path
    return files


def _refuse_unmatched(first: set[str], second: set[str], first_words: str, second_words: str) -> None:
    if lonely := sorted(first ^ second):
        named = ", ".join(lonely[:NAMED]) + (", ..." if len(lonely) > NAMED else "")
        raise Refusal(
            f"{first_words} and {second_words} do not match: {len(first - second)} only in the first, "
            f"{len(second - first)} only in the second ({named}); add or remove them"
        )


def _split_of_groups(groups: set[str]) -> dict[str, str]:
    """The split of each group, in an order fixed by the names' hash."""
    splits = [split for split, size in split_sizes(len(groups)).items() for _ in range(size)]
    return dict(zip(sorted(groups, key=_hash), splits, strict=True))


def _order_key(pair: Pair) -> str:
    """Order of rows within a split: mixes the classes, the same on every machine."""
    return _hash(f"{pair.label}/{pair.image.name}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(matched: Pairs, side: int) -> str:
    """What tells this import from another: which files, as they are now."""
    files = [path for pair in matched.pairs for path in (pair.image, pair.mask)]
    marks = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{side} {matched.class_names} {marks}"
