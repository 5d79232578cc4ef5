"""The second truth of data with a suppressor: not only what goes along with the class, but all that is used for it."""

from __future__ import annotations

import numpy as np

from an8flower.errors import Refusal
from an8flower.evidence import used_parts
from an8flower.factors import PARTS
from an8flower.store import FlowerStore, StoredRows


def mark_use(store: FlowerStore, rows: StoredRows) -> np.ndarray:
    """The masks (n, S, S) uint8 of rows, with 1 on all visible pixels of parts that the best classifier uses as well.

    Pixels that the stored mask marks keep their value; void pixels are those of the stored truth.
    """
    spec, parts = store.spec, rows.parts
    assert spec is not None, "asked for only where a spec has a suppressor"
    assert parts is not None, "a file with a spec has parts"
    used = np.array([[part in used_parts(spec, label) for part in PARTS] for label in range(spec.class_count)])
    marked = np.take_along_axis(used[rows.labels], parts.reshape(len(parts), -1).astype(np.intp), 1)
    return np.where((rows.masks == 0) & marked.reshape(parts.shape), np.uint8(1), rows.masks)


def check_use(store: FlowerStore) -> None:
    """Raise Refusal unless a data set has a truth by use beside that by association."""
    if store.spec is None or store.spec.suppressor is None:
        raise Refusal(
            f"{store.path}: has no suppressor, so what goes along with the class is what is used for it; "
            "leave --truth out"
        )
