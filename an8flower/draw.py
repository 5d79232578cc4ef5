"""Random rows, reproducibly: the label and the value of every factor of any row, in any order, in any process.

Each number comes from a counter-based generator (Philox) whose key is (seed, split, factor) and whose counter is the
row, so that a new factor never shifts the others, and rows a to b are the same in every process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from .factors import FACTORS, Factor, Value, table_dtype
from .names import check_known
from .spec import DatasetSpec
from .terms import Range, Shortcut


def uniform(spec: DatasetSpec, split: str, name: str, start: int, stop: int) -> np.ndarray:
    """Uniform random numbers in [0, 1), one for each row from start to stop, (stop - start,) float64."""
    return uniform_of(spec.seed, split, name, start, stop)


def uniform_of(seed: int, split: str, name: str, start: int, stop: int) -> np.ndarray:
    """What `uniform` draws for a spec of that seed."""
    key = hashlib.sha256(f"{seed}/{split}/{name}".encode()).digest()[:16]
    generator = np.random.Philox(key=int.from_bytes(key, "little"), counter=start)
    # A step of the counter yields four words, and a row owns one step.
    first_of_four = generator.random_raw(4 * (stop - start))[::4]
    return (first_of_four >> np.uint64(11)) * 2.0**-53


def labels(spec: DatasetSpec, split: str, start: int, stop: int) -> np.ndarray:
    """Class indices (stop - start,) int64: every run of `class_count` rows, from row 0, has each class once."""
    classes = spec.class_count
    first, last = start // classes, -(-stop // classes)
    keys = uniform(spec, split, "label", first * classes, last * classes).reshape(-1, classes)
    shuffled = np.argsort(keys, axis=1, kind="stable").reshape(-1)
    return shuffled[start - first * classes : stop - first * classes]


def factors(spec: DatasetSpec, split: str, start: int, stop: int) -> np.ndarray:
    """The factors table of rows start to stop: one compound row each, see `factors.table_dtype`."""
    return factors_of(spec, split, labels(spec, split, start, stop), start, FACTORS)


def factors_of(spec: DatasetSpec, split: str, label: np.ndarray, start: int, names: Iterable[str]) -> np.ndarray:
    """The factors table of the rows from `start` on whose labels (n,) are known; only the named columns are filled."""
    table = np.empty(len(label), table_dtype())
    for name in names:
        if name in spec.classes:
            fill(table, name, np.array(spec.classes[name])[label])
        elif spec.shortcut and name == spec.shortcut.factor:
            fill(table, name, _shortcut_values(spec, spec.shortcut, split, label, start))
        elif spec.suppressor and name in spec.suppressor.factors:
            ends = spec.suppressor.low, spec.suppressor.high - spec.suppressor.low
            table[name] = ends[0] + ends[1] * uniform(spec, split, "suppressor", start, start + len(label))
        else:
            _draw_nuisance(spec, split, name, table, start)
    return table


def override(table: np.ndarray, changes: Mapping[str, Value]) -> np.ndarray:
    """A copy of a factors table in which some factors have another value in every row."""
    changed = table.copy()
    for name, value in changes.items():
        check_known("factor", name, FACTORS)
        changed[name] = value
    return changed


def fill(table: np.ndarray, name: str, values: np.ndarray) -> None:
    """Set a column of a factors table to values (n,); a factor with several items has the same value in each."""
    table[name] = values if table[name].ndim == 1 else values[:, None]


def _draw_nuisance(spec: DatasetSpec, split: str, name: str, table: np.ndarray, start: int) -> None:
    values, factor, stop = spec.nuisance[name], FACTORS[name], start + len(table)
    if not isinstance(values, tuple | Range):
        table[name] = values
    elif factor.items == 1:
        table[name] = _pick(values, factor, uniform(spec, split, name, start, stop))
    else:
        for i in range(factor.items):
            table[name][:, i] = _pick(values, factor, uniform(spec, split, f"{name}[{i}]", start, stop))


def _pick(values: tuple[Value, ...] | Range, factor: Factor, chance: np.ndarray) -> np.ndarray:
    """Values for numbers in [0, 1): from a list with equal chances, or from a range."""
    if isinstance(values, tuple):
        return np.array(values)[(chance * len(values)).astype(np.int64)]
    if factor.kind == "count":
        return values.low + np.floor(chance * (values.high - values.low + 1))
    return values.low + chance * (values.high - values.low)


def _shortcut_values(spec: DatasetSpec, shortcut: Shortcut, split: str, label: np.ndarray, start: int) -> np.ndarray:
    """The values of the shortcut: the row's class's value in the share of rows that agree, else another class's."""
    stop = start + len(label)
    agrees = uniform(spec, split, "shortcut.agrees", start, stop) < getattr(shortcut, split)
    step = 1 + (uniform(spec, split, "shortcut.other", start, stop) * (spec.class_count - 1)).astype(np.int64)
    return np.array(shortcut.values)[np.where(agrees, label, (label + step) % spec.class_count)]
