"""The commonest slips in writing a spec, found before it is validated, each with the sentence that helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .names import unknown
from .splits import SPLITS
from .toml import as_toml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
REQUIRED = {
    "name": 'add a line such as name = "my-flowers"',
    "rows": "add a table [rows] with train, val and test",
    "classes": 'add a table [classes] with a line such as "petals.colour" = ["red", "blue"]',
}
RANGE_KEYS = ("from", "to")


def check_slips(document: Any) -> None:
    """Raise ValueError with a sentence for the first slip in what a file says."""
    if not isinstance(document, Mapping):
        return
    for key, remedy in REQUIRED.items():
        if key not in document:
            raise ValueError(f"{key}: missing; {remedy}")
    _check_name(document["name"])
    _check_rows(document["rows"])
    _check_classes("classes", document["classes"])
    _check_nuisance(document.get("nuisance", {}))


def _check_name(name: Any) -> None:
    if isinstance(name, str) and not NAME.fullmatch(name):
        raise ValueError(
            f'name: "{name}" came; it also names files, so use letters a to z, digits, ".", "_" and "-" alone, '
            "and begin with a letter or a digit"
        )


def _check_rows(rows: Any) -> None:
    missing = [split for split in SPLITS if split not in rows] if isinstance(rows, Mapping) else []
    if missing:
        raise ValueError(f"rows.{missing[0]}: missing; add a line such as {missing[0]} = 600 to [rows]")


def _check_classes(place: str, classes: Any) -> None:
    if not isinstance(classes, Mapping):
        return
    for name, values in classes.items():
        if name == "product" and isinstance(values, Mapping):
            _check_classes(f"{place}.product", values)
            continue
        _refuse_unquoted(place, name, values)
        if not isinstance(values, tuple):
            raise ValueError(
                f'{place}."{name}": expected a list with an entry for each class, as ["red", "blue"]; '
                f"came {as_toml(values)}"
            )
        _check_entries(f'{place}."{name}"', values)


def _check_nuisance(nuisance: Any) -> None:
    if not isinstance(nuisance, Mapping):
        return
    for name, value in nuisance.items():
        _refuse_unquoted("nuisance", name, value)
        place = f'nuisance."{name}"'
        if isinstance(value, Mapping):
            _check_range(place, value)
        elif isinstance(value, tuple):
            _check_entries(place, value)
        elif not _is_value(value):
            raise ValueError(
                f"{place}: expected text, a number, a list of these or a range {{ from = 0, to = 90 }}; "
                f"came {as_toml(value)}"
            )


def _refuse_unquoted(place: str, name: str, value: Any) -> None:
    """TOML reads `petals.colour = ...` as a table `petals` with a key `colour`."""
    if isinstance(value, Mapping) and value and "." not in name and not set(value) & set(RANGE_KEYS):
        raise ValueError(f'{place}.{name}: put the name of the factor in quotes: "{name}.{next(iter(value))}" = ...')


def _check_entries(place: str, values: tuple[Any, ...]) -> None:
    for i, value in enumerate(values):
        if not _is_value(value):
            raise ValueError(f"{place}[{i}]: expected text or a number, came {as_toml(value)}")


def _check_range(place: str, value: Mapping[str, Any]) -> None:
    remedy = "a range is written { from = 0, to = 90 }"
    for key in value:
        if key not in RANGE_KEYS:
            raise ValueError(f"{place}: {unknown('key', key, RANGE_KEYS)} ({remedy})")
    for key in RANGE_KEYS:
        if key not in value:
            raise ValueError(f'{place}: a range without "{key}" came; {remedy}')
        if not _is_number(value[key]):
            raise ValueError(f"{place}.{key}: expected a number, came {as_toml(value[key])}; {remedy}")


def _is_value(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
