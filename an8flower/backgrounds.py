"""What lies behind the plant in stored rows, by name: the kind of ground, and the photograph that it is taken from."""

from __future__ import annotations

import numpy as np

from .scenery import BACKDROPS, FIRST, PHOTO, SCRAMBLE
from .store import PHOTOGRAPHS, FlowerSplit, StoredRows

KIND, NUMBER = "background.kind", "background.photograph"


def ground_kinds(rows: StoredRows) -> np.ndarray:
    """The kind of ground of each row, (n,) str; empty where no factors are filed."""
    if rows.factors is None or KIND not in (rows.factors.dtype.names or ()):
        return np.full(len(rows.labels), "", "U16")
    return np.char.decode(rows.factors[KIND], "ascii")


def photograph_names(split: FlowerSplit, rows: StoredRows) -> np.ndarray:
    """The name of the photograph behind each row of a split, (n,) str; empty where there is none, or it is not kept."""
    kinds = ground_kinds(rows)
    if rows.factors is None or PHOTOGRAPHS not in split.store.file or split.album is None:
        return np.full(len(kinds), "", "U16")
    names = np.array([name.decode("utf-8", "replace") for name in split.album.entries["name"].tolist()])
    shown = names[rows.factors[NUMBER].astype(np.int64) % len(names)]
    return np.where(np.isin(kinds, [BACKDROPS[SCRAMBLE], BACKDROPS[PHOTO]]), shown, "")


def describe_grounds(split: FlowerSplit, rows: StoredRows) -> np.ndarray:
    """What lies behind each row of a split, (n,) str: `leaves`, `coffee.png`; empty for plain and unknown ones."""
    kinds, names = ground_kinds(rows), photograph_names(split, rows)
    added = np.where(kinds == BACKDROPS[SCRAMBLE], ", scrambled", "")
    return np.where(np.isin(kinds, BACKDROPS[FIRST:]), np.where(names == "", kinds, np.char.add(names, added)), "")
