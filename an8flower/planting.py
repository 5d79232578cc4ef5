"""Planting a shortcut: a mark on each photograph, which goes along with the photograph's class as often as is asked.

What is drawn of a row (whether its mark agrees, which other mark it has, size and place) depends on the seed, the split
and the row alone. The photograph below each mark is kept, so that marks can be exchanged or taken away later on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .checks import LARGEST, SMALLEST
from .draw import uniform_of
from .errors import Refusal, WrongUsage
from .gate.pictures import declared_size
from .importing import Fit, Pair, Pairs, common_side, match, refuse_existing, refuse_oblong, scale_picture
from .marks import PAINTED, Marks, lay, paint_marks, read_mark
from .names import unknown
from .picture import read_picture
from .planted import NONE, Planting, exchange_marks, patch_corner, planting_of
from .splits import SPLITS, split_sizes
from .store import COVERED, FlowerStore, StoredRows
from .writing import Block, WritingPlan, write, write_unless_there

AGREEMENT, AGREEMENT_IN_TEST = 0.98, 0.0
SCALE = (0.15, 0.25)  # from and to: the longer side of a mark as a share of the picture's
SMALLEST_MARK = 4  # pixels of the longer side
HALF_COVERED = (COVERED + 1) // 2


@dataclass(frozen=True)
class Wish:
    """What is to be planted; what is not given is chosen when the photographs are known."""

    mark: str = "tag"  # a kind of painted mark, or a file with opacity
    speaks_for: str | None = None  # the class of a user's mark; None: the first one
    agreement: float = AGREEMENT  # the share of the training rows that agree
    val: float | None = None  # None: as in training
    test: float = AGREEMENT_IN_TEST
    scale: tuple[float, float] = SCALE
    seed: int = 0


class PlantedPictures(NamedTuple):
    """What was planted, and on which photographs."""

    photographs: Pairs
    planting: Planting


def plant(
    pictures: Path,
    path: Path,
    wish: Wish,
    *,
    size: int | None = None,
    fit: Fit | None = None,
    workers: int | None = None,
    force: bool = True,
    progress: Callable[[int], None] = lambda rows: None,
) -> PlantedPictures:
    """Write a data set of photographs, `PICTURES/<class>/*`, each with a mark, or without one where that says as much.

    Args:
        pictures: a folder for each class, or folders of such for train, val and test.
        size: scales every picture to that square; None: all have one size.
        fit: how a picture that is no square becomes one, as in `import_folders`.

    Raises:
        Refusal: a file is there already and `force` is not given, or photographs or mark cannot be used: see `check`.
        WrongUsage: no such mark or class, or numbers outside of what is possible.
    """
    refuse_existing(path, force)
    photographs = match(pictures, pictures)
    check_photographs(photographs, pictures, fit)
    planting = plan_marks(wish, photographs.class_names)
    side = size or common_side(photographs.pairs, fit)
    refuse_size(side, planting, pictures)
    splits = {split: len(pairs) for split, pairs in photographs.splits.items()}
    attributes = {"name": path.stem, "class_names": list(photographs.class_names), "part_names": [], "size": side}

    def make(block: Block) -> StoredRows:
        return read_block(photographs.splits[block.split][block.start : block.stop], planting, block, side, fit)

    document = planting.to_json()
    plan = WritingPlan(path, {**attributes, "planting": document}, splits, _key(photographs, side, fit, document), make)
    write_unless_there(
        path, lambda: refuse_existing(path, force), lambda: write(plan, workers or os.cpu_count() or 1, progress)
    )
    return PlantedPictures(photographs, planting)


def _key(photographs: Pairs, side: int, fit: Fit | None, document: str) -> str:
    """What tells these planted photographs from others: which files, as they are now, and which marks."""
    stats = [(str(pair.image), pair.image.stat()) for pair in photographs.pairs]
    marks = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
    return f"planted {side} {fit} {photographs.class_names} {marks} {document}"


# --- what is refused before anything is computed ----------------------------------------------------------------------


def check_photographs(photographs: Pairs, root: Path, fit: Fit | None) -> None:
    """Raise Refusal if classes or splits have too few photographs, or one is too small, no picture or no square."""
    names, splits = photographs.class_names, photographs.splits
    if len(names) < 2:
        raise Refusal(f"{root}: one class came, {names[0]}; a mark tells classes apart, so add a folder of another")
    counts = Counter(pair.label for pair in photographs.pairs)
    if single := [name for label, name in enumerate(names) if counts[label] < 2]:
        raise Refusal(f"{root}: {single[0]} has one picture; give it at least {_fewest()}, which three splits need")
    for split in SPLITS:
        labels = {pair.label for pair in splits.get(split, ())}
        if lacking := [name for label, name in enumerate(names) if label not in labels]:
            has_splits = any(pair.split for pair in photographs.pairs)
            remedy = f"put some into its folder {split}" if has_splits else f"give it at least {_fewest()}"
            raise Refusal(f"{root}: {lacking[0]} has too few pictures to have one in {split}; {remedy}")
    for pair in photographs.pairs:
        width, height = declared_size(pair.image)
        if min(width, height) < SMALLEST:
            raise Refusal(f"{pair.image}: {width} x {height} px came, expected at least {SMALLEST}; leave it out")
        refuse_oblong((width, height), pair.image, fit)


def _fewest() -> int:
    """How many pictures a class needs to have one in each split."""
    return next(count for count in range(1, 100) if all(split_sizes(count).values()))


def plan_marks(wish: Wish, class_names: Sequence[str]) -> Planting:
    """The marks that are wished for, for these classes; raises WrongUsage or Refusal for what is impossible."""
    marks, speaks_for = _choose_marks(wish, class_names)
    val = wish.agreement if wish.val is None else wish.val
    low, high = wish.scale
    if high > 1:
        raise WrongUsage(f"--scale {low:g} {high:g}: the mark would be larger than the picture; give shares up to 1")
    if not 0 < low <= high:
        raise WrongUsage(f"--scale {low:g} {high:g}: expected two shares of the picture's side, the smaller one first")
    agreement = {"train": wish.agreement, "val": val, "test": wish.test}
    planting = Planting(
        mark=wish.mark if wish.mark in PAINTED else Path(wish.mark).name,
        speaks_for=speaks_for,
        agreement=agreement,
        scale=wish.scale,
        seed=wish.seed,
        marks=marks,
    )
    refuse_shares(agreement, planting)
    return planting


def refuse_shares(agreement: Mapping[str, float], planting: Planting) -> None:
    """Raise WrongUsage for shares that are none, and for training rows that agree less often than by chance."""
    chance = planting.chance
    _refuse_share("--agreement", agreement["train"], chance, f"{chance:.3g} is chance: the mark tells nothing")
    for split in ("val", "test"):
        _refuse_share(f"--{split}", agreement[split], 0.0, "0 never agrees")


def _choose_marks(wish: Wish, class_names: Sequence[str]) -> tuple[Marks, tuple[int, ...]]:
    """The marks, and the class of each."""
    if wish.mark in PAINTED:
        if wish.speaks_for is not None:
            raise WrongUsage(
                f"--for {wish.speaks_for}: a {wish.mark} has a colour for each class; give a PNG as --mark"
            )
        return paint_marks(wish.mark, len(class_names)), tuple(range(len(class_names)))
    path = Path(wish.mark)
    if not path.suffix:
        raise WrongUsage(unknown("mark", wish.mark, PAINTED) + " (or give a PNG with opacity)")
    name = class_names[0] if wish.speaks_for is None else wish.speaks_for
    if name not in class_names:
        raise WrongUsage(f"--for: {unknown('class', name, class_names)}")
    return read_mark(path), (list(class_names).index(name),)


def _refuse_share(option: str, share: float, least: float, why: str) -> None:
    if not least - 1e-9 <= share <= 1:
        raise WrongUsage(f"{option} {share:g}: expected {least:.3g} to 1, where {why}")


def refuse_size(side: int, planting: Planting, root: Path) -> None:
    """Raise a Refusal for pictures that are too small or too large, and WrongUsage for marks that are too small."""
    if not SMALLEST <= side <= LARGEST:
        raise Refusal(f"{root}: pictures of {side} px came, expected {SMALLEST} to {LARGEST}; scale them with --size")
    low = planting.scale[0]
    if round(low * side) < SMALLEST_MARK or min(planting.marks.shape(round(low * side))) < 2:
        raise WrongUsage(
            f"--scale {low:g}: a mark of {low * side:.1f} px on {side} px cannot be made out; give a larger share"
        )


# --- rows -------------------------------------------------------------------------------------------------------------


def read_block(pairs: Sequence[Pair], planting: Planting, block: Block, side: int, fit: Fit | None) -> StoredRows:
    """Read the photographs of some rows, and plant a mark on each."""
    images = np.stack([np.asarray(scale_picture(read_picture(pair.image), side, fit)) for pair in pairs])
    return plant_rows(images, np.array([pair.label for pair in pairs], np.int64), planting, block)


def plant_rows(images: np.ndarray, labels: np.ndarray, planting: Planting, block: Block) -> StoredRows:
    """Plant a mark on each of the photographs (n, S, S, 3) uint8 with labels (n,), rows of a block."""
    size = images.shape[1]
    placed = draw_places(planting, labels, block, size)
    patch = round(planting.scale[1] * size)
    images = images.copy()
    below = np.empty((len(images), patch, patch, 3), np.uint8)
    coverage = np.zeros(images.shape[:3], np.uint8)
    for row, (number, top, left, side) in enumerate(placed.tolist()):
        y, x = patch_corner(size, patch, top, left)
        below[row] = images[row, y : y + patch, x : x + patch]
        if number != NONE:
            mark = planting.marks.scale(number, side)
            height, width = mark.coverage.shape
            lay(images[row], mark, top, left)
            coverage[row, top : top + height, left : left + width] = mark.coverage
    masks = (coverage >= HALF_COVERED).astype(np.uint8)
    return StoredRows(images, labels, masks, None, None, coverage, below, placed)


def draw_places(planting: Planting, labels: np.ndarray, block: Block, size: int) -> np.ndarray:
    """Draw the mark, top, left and longer side of each row, (n, 4) int64; places are drawn for rows without marks."""

    def chance(name: str) -> np.ndarray:
        return uniform_of(planting.seed, block.split, f"mark.{name}", block.start, block.stop)

    numbers = _draw_marks(planting, labels, block.split, chance("agrees"), chance("other"))
    low, high = (round(share * size) for share in planting.scale)
    sides = low + (chance("side") * (high - low + 1)).astype(np.int64)
    shapes = np.array([planting.marks.shape(side) for side in sides.tolist()]).reshape(-1, 2)
    room = size - shapes + 1
    top, left = ((chance(name) * room[:, axis]).astype(np.int64) for axis, name in enumerate(("top", "left")))
    return np.stack([numbers, top, left, sides], axis=1)


def _draw_marks(
    planting: Planting, labels: np.ndarray, split: str, agrees: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Which mark each row has, (n,) int64: its class's in the share of rows that agree, else another class's."""
    agreeing = agrees < planting.agreement[split]
    if planting.is_presence:
        return np.where((labels == planting.speaks_for[0]) == agreeing, 0, NONE)
    classes = len(planting.marks)
    step = 1 + (other * (classes - 1)).astype(np.int64)
    return np.where(agreeing, labels, (labels + step) % classes)


# --- planted photographs, planted again -------------------------------------------------------------------------------


def replant(
    source: Path,
    path: Path,
    agreement: Mapping[str, float],
    *,
    force: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    on_wait: Callable[[], None] | None = None,
) -> Planting:
    """Write the photographs of a planted file again, with marks that agree in other shares; places stay as they are.

    Args:
        agreement: the share of the rows of each split that agree.
        force: replace what is there already; otherwise it is left as it is, and has to have a name of its own.
        on_wait: called once before another process that writes the same is waited for.

    Raises Refusal if the source has no planted marks, or is damaged, and WrongUsage for shares that are none.
    """
    store = FlowerStore(source)
    planting = planting_of(store)
    if planting is None:
        raise Refusal(f"{source}: has no planted marks; make it with `an8flower plant`")
    refuse_shares(agreement, planting)
    changed = replace(planting, agreement=dict(agreement))
    splits = {split: len(store[split]) for split in store.splits}
    attributes = {"name": path.stem, "class_names": store.class_names, "part_names": [], "size": store.size}

    def make(block: Block) -> StoredRows:
        rows = store[block.split].rows(block.start, block.stop)
        bare = exchange_marks(rows, planting, np.full(len(rows.labels), NONE), source)
        return plant_rows(bare, rows.labels, changed, block)

    document = changed.to_json()
    key = f"replanted {store.fingerprint} {document}"
    plan = WritingPlan(path, {**attributes, "planting": document}, splits, key, make)
    count = workers or os.cpu_count() or 1
    write_unless_there(path, lambda: path.exists() and not force, lambda: write(plan, count, progress), on_wait)
    return changed
