"""Pictures and masks of somebody else as a store: the layout of the original an8Flower release.

`IMAGES/<class>/*` lies beside `MASKS/<class>/*`; a mask belongs to the picture with the same stem. Where pictures are
shared out already, `IMAGES/<split>/<class>/*`, their splits are kept. Nothing is guessed: what does not match is
refused, and what is left out is named. What is hidden (its name begins with a dot) is skipped.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from .checks import LARGEST
from .errors import Refusal
from .gate.pictures import SUFFIXES, open_picture
from .picture import frame_box, read_picture
from .splits import SPLITS, split_sizes
from .store import COVERED, READ_ROWS, FlowerStore, StoredRows
from .writing import Block, WritingPlan, write, write_unless_there

READ = "PNG, JPEG, WebP, TIFF, BMP and GIF"
WHITE = {"bool": 1, "uint8": 255, "uint16": 65535, "int32": 65535}  # Pillow keeps 16 bits in 32 for some formats
OTHER_COLOURS = {"CMYK", "YCbCr", "LAB", "HSV"}  # in which white is not all numbers at their largest
HALF_COVERED = 128  # the coverage of a void pixel
NAMED = 3  # how many offenders a message names
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Fit = Literal["crop", "squeeze"]  # how a picture that is no square becomes one


@dataclass(frozen=True)
class Pair:
    """The files of a picture and of its mask."""

    image: Path
    mask: Path
    label: int
    split: str | None = None  # the user's own; None: the pictures are shared out here

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
    left_out: tuple[Path, ...] = ()  # files that are no pictures by their names; folders of no class

    @cached_property
    def splits(self) -> Mapping[str, list[Pair]]:
        """The user's own splits, else 70/10/20 of the groups of each class, in an order fixed by their names' hash."""
        splits: dict[str, list[Pair]] = {split: [] for split in SPLITS}
        for pair in self.pairs:
            if pair.split is not None:
                splits[pair.split].append(pair)
        for label in range(len(self.class_names)):
            members = [pair for pair in self.pairs if pair.label == label and pair.split is None]
            split_of = _split_of_groups({pair.group for pair in members})
            for pair in members:
                splits[split_of[pair.group]].append(pair)
        return {split: sorted(pairs, key=_order_key) for split, pairs in splits.items() if pairs}

    def gaps(self) -> Iterator[str]:
        """What training and scoring will miss, in sentences: splits without rows, and classes without rows in one."""
        if empty := [split for split in SPLITS if split not in self.splits]:
            are_shared_out = any(pair.split for pair in self.pairs)
            remedy = "add their folders beside the others" if are_shared_out else "give the classes more pictures"
            yield f"no rows in {', '.join(empty)}: training and scoring want some; {remedy}"
        for split, pairs in self.splits.items():
            labels = {pair.label for pair in pairs}
            if lacking := [name for label, name in enumerate(self.class_names) if label not in labels]:
                more = f" and {len(lacking) - NAMED} classes more" if len(lacking) > NAMED else ""
                yield f"no rows of {', '.join(lacking[:NAMED])}{more} in {split}; give them more pictures"


def import_folders(
    images: Path,
    masks: Path,
    path: Path,
    *,
    size: int | None = None,
    void: int | None = None,
    fit: Fit | None = None,
    workers: int | None = None,
    force: bool = True,
    progress: Callable[[int], None] = lambda rows: None,
) -> Pairs:
    """Write a store from two parallel folders; `size` scales every picture to that square.

    Args:
        void: pixels of a mask with this value in every channel are neither evidence nor not; None: no value says so.
        fit: how a picture that is no square becomes one: `crop` keeps the square at its centre, as `explain --image`
            does, `squeeze` the whole, in another aspect. None: such a picture is refused.

    Raises Refusal where a file is there already and `force` is not given, where pictures and masks do not match one to
    one, where they differ in size, where pictures are not square and no `fit` is given, or not all of one size and no
    `size` is given, and where a mask cannot be read as foreground and background.
    """
    refuse_existing(path, force)
    matched = match(images, masks)
    side = size or common_side(matched.pairs, fit)
    if side > LARGEST:
        raise Refusal(f"{images}: pictures of {side} px came, expected at most {LARGEST}; scale them with --size")
    attributes = {"name": path.stem, "class_names": list(matched.class_names), "part_names": [], "size": side}
    splits = {split: len(pairs) for split, pairs in matched.splits.items()}

    def make(block: Block) -> StoredRows:
        return read_rows(matched.splits[block.split][block.start : block.stop], side, void, fit)

    plan = WritingPlan(path, attributes, splits, f"{_key(matched, side)} {void} {fit}", make)
    write_unless_there(
        path, lambda: refuse_existing(path, force), lambda: write(plan, workers or os.cpu_count() or 1, progress)
    )
    return matched


def refuse_existing(path: Path, force: bool) -> bool:
    """Never take what is there for the same: pictures may have changed. Raises Refusal if it may not be replaced."""
    if path.exists() and not force:
        raise Refusal(f"{path}: exists; replace it with --force, or write elsewhere with -o")
    return False


@dataclass(frozen=True)
class MaskCounts:
    """How much the masks of a data set mark."""

    rows: int
    share: float  # of the pixels, over all rows
    empty: int  # rows in which nothing is marked
    full: int  # rows in which everything is marked


def count_masks(path: Path) -> MaskCounts:
    """Count what the masks of a data set mark; all of it is read once."""
    store = FlowerStore(path)
    shares = [_mask_shares(store, split, start) for split in store.splits for start in _starts(store, split)]
    store.close()
    marked = np.concatenate(shares)
    return MaskCounts(len(marked), float(marked.mean()), int((marked == 0).sum()), int((marked == 1).sum()))


def _starts(store: FlowerStore, split: str) -> range:
    return range(0, len(store[split]), READ_ROWS)


def _mask_shares(store: FlowerStore, split: str, start: int) -> np.ndarray:
    """The share of the pixels that the mask of each row marks."""
    rows = store[split].rows(start, min(start + READ_ROWS, len(store[split])))
    return (rows.masks > 0).mean((1, 2))


def match(images: Path, masks: Path) -> Pairs:
    """Pair pictures and masks by class and stem; raises Refusal with what does not match."""
    splits = _own_splits(images)
    if not splits:
        return _match_classes(images, masks)
    theirs = _own_splits(masks)
    _refuse_unmatched(set(splits), set(theirs), f"splits of {images}", f"splits of {masks}")
    parts = {split: _match_classes(splits[split], theirs[split]) for split in splits}
    names = tuple(sorted({name for part in parts.values() for name in part.class_names}))
    pairs = [
        replace(pair, label=names.index(part.class_names[pair.label]), split=split)
        for split, part in parts.items()
        for pair in part.pairs
    ]
    beside = [path for root in (images, masks) for path in _visible(root) if path.name not in SPLIT_FOLDERS]
    within = [path for part in parts.values() for path in part.left_out]
    return Pairs(names, tuple(pairs), tuple(sorted(beside + within)))


def _own_splits(root: Path) -> dict[str, Path]:
    """The folders train, val and test of a root if its pictures are shared out already; empty if they are not.

    Raises Refusal if there is no such root, or two folders stand for one split.
    """
    if _folders(root):
        return {}
    splits: dict[str, Path] = {}
    for folder in sorted(_visible(root)):
        if folder.is_dir() and folder.name in SPLIT_FOLDERS and _folders(folder):
            split = SPLIT_FOLDERS[folder.name]
            if split in splits:
                raise Refusal(f"{root}: {splits[split].name} and {folder.name} are the same split; leave one of them")
            splits[split] = folder
    return splits


def _match_classes(images: Path, masks: Path) -> Pairs:
    """Pair pictures and masks in folders of classes."""
    classes, theirs = _folders(images), _folders(masks)
    _refuse_unmatched(set(classes), set(theirs), f"classes of {images}", f"classes of {masks}")
    pairs: list[Pair] = []
    for label, name in enumerate(classes):
        folders = (classes[name], theirs[name])
        pictures, marks = (_by_stem(folder) for folder in folders)
        _refuse_unmatched(set(pictures), set(marks), f"pictures in {folders[0]}", f"masks in {folders[1]}", folders)
        pairs += [Pair(pictures[stem], marks[stem], label) for stem in sorted(pictures)]
    if not pairs:
        raise Refusal(f"{images}: no pictures in its folders; expected IMAGES/<class>/*.jpg")
    return Pairs(tuple(classes), tuple(pairs), (*_left_out(images, classes), *_left_out(masks, theirs)))


def read_rows(pairs: Iterable[Pair], side: int, void: int | None = None, fit: Fit | None = None) -> StoredRows:
    """Pictures (n, S, S, 3) and masks (n, S, S), scaled to a square where they are not of that size.

    With a value for void there is coverage as well, of which a void pixel has half.
    """
    pairs = list(pairs)
    images, masks, voids = map(np.stack, zip(*[_read(pair, side, void, fit) for pair in pairs], strict=True))
    labels = np.array([pair.label for pair in pairs], np.int64)
    coverage = np.where(voids, HALF_COVERED, COVERED * masks).astype(np.uint8)
    return StoredRows(images, labels, masks, None, None, None if void is None else coverage)


def foreground(mask: Image.Image, place: object, unclear: np.ndarray | None = None) -> np.ndarray:
    """A mask of any mode as (H, W) bool: where a channel reaches half of what its mode can hold.

    Nothing is read from the pixels that are `unclear`, (H, W) bool, and they are not marked.

    Raises Refusal where something is marked but nothing reaches half (a palette's or a label's numbers, say): that is
    not a picture of foreground and background.
    """
    counts = np.ones(mask.size[::-1], bool) if unclear is None else ~unclear
    if mask.mode in ("P", "PA"):
        _refuse_labels(mask, place, counts)
    channels = _channels(mask) * counts[:, :, None]
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
    elif mask.mode in OTHER_COLOURS:
        mask = mask.convert("RGB")
    values = np.asarray(mask)
    values = values[:, :, None] if values.ndim == 2 else values
    if mask.mode in ("LA", "La", "RGBA", "RGBa"):
        values = values[:, :, :-1] * (values[:, :, -1:] >= 128)
    return values


def _refuse_labels(mask: Image.Image, place: object, counts: np.ndarray) -> None:
    """Raise a Refusal if a palette has several colours in the pixels that count, and they are not shades of grey."""
    pixels = np.asarray(mask.convert("RGBA"))[counts]
    colours = np.unique(pixels[pixels[:, 3] >= 128, :3], axis=0)
    if len(colours) > 2 and (colours != colours[:, :1]).any():
        raise Refusal(
            f"{place}: a palette of {len(colours)} colours came, and which of them is evidence is unclear; "
            "save the mask in black and white"
        )


def _read(pair: Pair, side: int, void: int | None, fit: Fit | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, its mask of 0 and 1, and its void pixels, which the mask leaves out."""
    picture, mask = read_picture(pair.image), open_picture(pair.mask)
    if picture.size != mask.size:
        raise Refusal(f"{pair.mask}: {mask.size} came, its picture {pair.image} is {picture.size}; scale one of them")
    refuse_oblong(picture.size, pair.image, fit)
    unclear = _has_value(mask, void)
    marked = Image.fromarray(foreground(mask, pair.mask, unclear))
    if picture.size != (side, side):
        box = frame_box(picture.size) if fit == "crop" else None
        picture = scale_picture(picture, side, fit)
        marked = marked.convert("L").resize((side, side), Image.Resampling.BOX, box).point(lambda v: 255 * (v >= 128))
        shares = Image.fromarray(unclear).convert("L").resize((side, side), Image.Resampling.BOX, box)
        unclear = np.asarray(shares) > 0  # whatever is void in part
    return np.asarray(picture), (np.asarray(marked) > 0).astype(np.uint8), unclear


def refuse_oblong(size: tuple[int, int], place: Path, fit: Fit | None) -> None:
    """Raise a Refusal if a picture of that width and height is no square, and nothing says how it becomes one."""
    if size[0] != size[1] and fit is None:
        raise Refusal(
            f"{place}: {size[0]} x {size[1]} px is no square; say with --fit whether to crop it to the square at its "
            "centre, or to squeeze it"
        )


def scale_picture(picture: Image.Image, side: int, fit: Fit | None) -> Image.Image:
    """A picture as a square of `side` pixels: its centre for `crop`, else the whole."""
    if picture.size == (side, side):
        return picture
    smaller, box = side < min(picture.size), frame_box(picture.size) if fit == "crop" else None
    return picture.resize((side, side), Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC, box)


def _has_value(mask: Image.Image, value: int | None) -> np.ndarray:
    """Where a mask, or its palette's index, has a value in every channel but alpha: (H, W) bool; nowhere for None."""
    values = np.asarray(mask)
    values = values[:, :, None] if values.ndim == 2 else values
    if mask.mode in ("LA", "La", "RGBA", "RGBa"):
        values = values[:, :, :-1]
    return np.zeros(values.shape[:2], bool) if value is None else (values == value).all(2)


def common_side(pairs: Iterable[Pair], fit: Fit | None) -> int:
    """The side of the square that all pictures fill; raises Refusal if there is none."""
    sizes: dict[tuple[int, int], Path] = {}
    for pair in pairs:
        size = open_picture(pair.image).size
        sizes.setdefault((min(size), min(size)) if fit == "crop" else size, pair.image)
    (first, example), *others = sizes.items()
    if others or first[0] != first[1]:
        listed = ", ".join(f"{w}x{h} ({path.name})" for (w, h), path in list(sizes.items())[:NAMED])
        raise Refusal(f"{example.parent.parent}: one square size expected, {listed} came; scale them with --size PX")
    return first[0]


def _folders(root: Path) -> dict[str, Path]:
    """The folders of classes: those that hold pictures, by their names."""
    if not root.is_dir():
        raise Refusal(f"{root}: no such folder; expected one with a folder per class")
    folders = sorted(path for path in _visible(root) if path.is_dir())
    return {folder.name: folder for folder in folders if any(map(_is_picture, _visible(folder)))}


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _is_picture(path: Path) -> bool:
    """Whether a name is that of a picture, and no folder's."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _left_out(root: Path, classes: Mapping[str, Path]) -> list[Path]:
    """What lies in a folder of classes and is not read."""
    beside = [path for path in _visible(root) if path.name not in classes]
    within = [path for folder in classes.values() for path in _visible(folder) if not _is_picture(path)]
    return sorted(beside + within)


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(filter(_is_picture, _visible(folder))):
        if path.stem in files:
            raise Refusal(f"{folder}: {files[path.stem].name} and {path.name} have the same stem; remove one")
        files[path.stem] = path
    return files


def _refuse_unmatched(
    first: set[str], second: set[str], first_words: str, second_words: str, folders: Iterable[Path] = ()
) -> None:
    lonely = sorted(first ^ second)
    if not lonely:
        return
    unread = [path.name for folder in folders for path in _visible(folder) if path.stem in lonely]
    unread = [name for name in unread if not _is_picture(Path(name))]
    named = ", ".join(lonely[:NAMED]) + (", ..." if len(lonely) > NAMED else "")
    remedy = f"{unread[0]} is none of {READ}, which are read" if unread else "add or remove them"
    raise Refusal(
        f"{first_words} and {second_words} do not match: {len(first - second)} only in the first, "
        f"{len(second - first)} only in the second ({named}); {remedy}"
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
