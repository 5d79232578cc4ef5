"""What a spec has to keep: every value is one that the catalogue knows, and every class can be told by what is seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .factors import COLOURS, FACTORS, Factor, Value, part_of
from .looks import class_look
from .names import unknown
from .terms import Range, Shortcut, Suppressor, as_nuisance
from .toml import as_toml

if TYPE_CHECKING:
    from .spec import DatasetSpec

SMALLEST, LARGEST = 16, 1024  # pixels
HUES = {"evidence": "petals.hue", "background": "background.hue"}
ON_PHOTOGRAPHS = ("scramble", "photo")  # kinds of background
PIXEL_BYTES = 5  # of one pixel in a file before compression: three channels, part, mask
INVISIBLE = {"Cc", "Zl", "Zp"}  # Unicode's control characters and breaks of lines


def check_terms(spec: DatasetSpec) -> None:
    """Raise ValueError, with place and remedy, for the first value that the catalogue does not know."""
    _check_size(spec)
    _check_classes(spec)
    _check_nuisance(spec)
    if spec.shortcut:
        _check_shortcut(spec, spec.shortcut)
    if spec.suppressor:
        _check_suppressor(spec, spec.suppressor)
    _check_photographs(spec)


def check_design(spec: DatasetSpec) -> None:
    """Raise ValueError, with place and remedy, if some class could not be told, or a shortcut not be seen.

    A spec that somebody writes is held to this; one that was read from a finished file is taken as it is.
    """
    _check_class_count(spec)
    _check_different(spec)
    _check_visible(spec)
    _check_class_names(spec)
    if spec.shortcut:
        _check_shortcut_design(spec, spec.shortcut)


# --- terms ------------------------------------------------------------------------------------------------------------


def _check_size(spec: DatasetSpec) -> None:
    if not SMALLEST <= spec.size <= LARGEST:
        gigabytes = abs(spec.size) ** 2 * PIXEL_BYTES * spec.rows.total / 1e9
        takes = f"; {spec.rows.total} rows of it would take {gigabytes:,.1f} GB" if spec.size > LARGEST else ""
        raise ValueError(f"size: expected {SMALLEST} to {LARGEST} pixels, came {spec.size}{takes}")
    if not spec.rows.total:
        raise ValueError("rows: all splits are empty; give at least one row")


def _check_classes(spec: DatasetSpec) -> None:
    if not spec.classes or not all(spec.classes.values()):
        raise ValueError(
            'classes: empty; give at least one factor with a value per class, as "petals.colour" = ["red", "blue"]'
        )
    for name, values in spec.classes.items():
        place = f'classes."{name}"'
        _check_factor(place, name)
        if part_of(name) is None:
            raise ValueError(f"{place}: belongs to no part, so it has no pixels to be told by; use a factor of a part")
        for i, value in enumerate(values):
            _check_value(f"{place}[{i}]", FACTORS[name], value)
    lengths = {name: len(values) for name, values in spec.classes.items()}
    if len(set(lengths.values())) > 1:
        came = ", ".join(f"{length} for {name}" for name, length in lengths.items())
        raise ValueError(f"classes: lists of equal length expected, one entry per class; came {came}")


def _check_nuisance(spec: DatasetSpec) -> None:
    for name, value in spec.nuisance.items():
        place = f'nuisance."{name}"'
        _check_factor(place, name)
        if name in spec.classes:
            raise ValueError(f"{place}: defines the classes already; remove it from one of the two")
        for where, single in _single_values(place, value):
            _check_value(where, FACTORS[name], single)


def _check_suppressor(spec: DatasetSpec, suppressor: Suppressor) -> None:
    for key in ("evidence", "background"):
        name, place = getattr(suppressor, key), f"suppressor.{key}"
        _check_factor(place, name)
        if name in spec.classes or FACTORS[name].kind != "number" or FACTORS[name].items > 1:
            raise ValueError(f'{place}: "{name}" came, expected one number that tells no class, as {HUES[key]}')
        if spec.nuisance[name] != as_nuisance(FACTORS[name].default) or (
            spec.shortcut and spec.shortcut.factor == name
        ):
            raise ValueError(f'{place}: "{name}" is set elsewhere as well; remove it there')
        for end in (suppressor.low, suppressor.high):
            _check_value("suppressor.from and to", FACTORS[name], end)
    if suppressor.low >= suppressor.high:
        raise ValueError(f"suppressor: expected from < to, came {suppressor.low} and {suppressor.high}")
    parts = {part_of(name) for name in spec.classes}
    if part_of(suppressor.evidence) not in parts:
        raise ValueError(f'suppressor.evidence: "{suppressor.evidence}" belongs to no part that tells the classes')
    if part_of(suppressor.background) in parts:
        raise ValueError(f'suppressor.background: "{suppressor.background}" belongs to a part that tells the classes')


def _check_photographs(spec: DatasetSpec) -> None:
    """Raise ValueError if rows lie on photographs and none are named, or the other way round."""
    kinds = spec.nuisance.get("background.kind", "")
    if spec.shortcut and spec.shortcut.factor == "background.kind":
        kinds = spec.shortcut.values
    wanted = [kind for kind in (kinds if isinstance(kinds, tuple) else (kinds,)) if kind in ON_PHOTOGRAPHS]
    if wanted and spec.background is None:
        raise ValueError(
            f'nuisance."background.kind": "{wanted[0]}" wants photographs; add a table [background] with a line such '
            'as images = "my-photographs"'
        )
    if spec.background and not wanted:
        raise ValueError(
            'background.images: no row lies on a photograph; set "background.kind" = "photo" or "scramble" in '
            "[nuisance]"
        )


def _single_values(place: str, value: Value | tuple[Value, ...] | Range) -> list[tuple[str, Value]]:
    """Each value that is named, with its place."""
    if isinstance(value, Range):
        if value.low > value.high:
            raise ValueError(f"{place}: the range runs backwards, from {value.low} to {value.high}; swap them")
        return [(f"{place}.from", value.low), (f"{place}.to", value.high)]
    if isinstance(value, tuple):
        if not value:
            raise ValueError(f"{place}: an empty list; give at least one value")
        return [(f"{place}[{i}]", single) for i, single in enumerate(value)]
    return [(place, value)]


def _check_shortcut(spec: DatasetSpec, shortcut: Shortcut) -> None:
    _check_factor("shortcut.factor", shortcut.factor)
    if shortcut.factor in spec.classes:
        raise ValueError(f'shortcut.factor: "{shortcut.factor}" defines the classes; a shortcut is any other factor')
    if len(shortcut.values) != spec.class_count:
        raise ValueError(
            f"shortcut.values: expected one value per class, {spec.class_count}; came {len(shortcut.values)}"
        )
    for i, value in enumerate(shortcut.values):
        _check_value(f"shortcut.values[{i}]", FACTORS[shortcut.factor], value)


def _check_factor(place: str, name: str) -> None:
    if name in FACTORS:
        return
    owner = name.partition(".")[0]
    owners = sorted({known.partition(".")[0] for known in FACTORS})
    if owner not in owners:
        raise ValueError(f"{place}: {unknown('part', owner, owners)}")
    siblings = [known for known in FACTORS if known.startswith(f"{owner}.")]
    raise ValueError(f"{place}: {unknown('factor', name, siblings)}")


def _check_value(place: str, factor: Factor, value: Any) -> None:
    if factor.kind == "colour":
        _check_colour(place, value)
    elif factor.kind == "choice":
        if value not in factor.choices:
            raise ValueError(f"{place}: {unknown('value', str(value), factor.choices)}")
    else:
        _check_number(place, factor, value)


def _check_colour(place: str, value: Any) -> None:
    text = str(value)
    if text in COLOURS or re.fullmatch(r"#[0-9a-f]{6}", text):
        return
    if text.lower() in COLOURS or re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f'{place}: colour "{text}" came; write it in small letters, "{text.lower()}"')
    if text.startswith("#"):
        raise ValueError(f'{place}: colour "{text}" came; write # and six digits from 0 to f, as "#bf84a8"')
    raise ValueError(f"{place}: {unknown('colour', text, COLOURS)}")


def _check_number(place: str, factor: Factor, value: Any) -> None:
    kind = "whole number" if factor.kind == "count" else "number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{place}: expected a {kind}, came {as_toml(value)}")
    if not factor.low <= value <= factor.high:
        raise ValueError(f"{place}: expected {factor.low:g} to {factor.high:g}, came {value}")
    if factor.kind == "count" and value != int(value):
        raise ValueError(f"{place}: expected a {kind}, came {value}")


def check_name_count(spec: DatasetSpec) -> None:
    """Raise ValueError unless there are as many names as classes."""
    if len(spec.class_names) != spec.class_count:
        raise ValueError(f"class_names: expected {spec.class_count}, came {len(spec.class_names)}")


# --- design -----------------------------------------------------------------------------------------------------------


def _check_class_count(spec: DatasetSpec) -> None:
    if spec.class_count == 1:
        raise ValueError("classes: one class alone leaves nothing to tell; give at least two entries")
    for split in ("train", "test"):  # validation only chooses when training stops: few rows will do
        if 0 < (rows := getattr(spec.rows, split)) < spec.class_count:
            raise ValueError(
                f"rows.{split}: {rows} for {spec.class_count} classes, so some class would have none; "
                f"give at least {spec.class_count}, or 0"
            )


def _check_visible(spec: DatasetSpec) -> None:
    """A class factor whose part can be missing by chance would leave rows without any sign of their class."""
    for name in spec.classes:
        part = str(part_of(name))
        if f"{part}.count" in spec.classes:
            continue
        counts = _counts(spec, part)
        if max(counts) == 0:
            raise ValueError(
                f'classes."{name}": tells the classes, but no row has the part "{part}"; '
                f'set "{part}.count" = 1 in [nuisance]'
            )
        if min(counts) == 0:
            raise ValueError(
                f'nuisance."{part}.count": can be 0, but "{part}" tells the classes; '
                f"a class would have no sufficient set of parts; give at least 1"
            )


def _counts(spec: DatasetSpec, part: str) -> tuple[Any, ...]:
    """The counts that a part is said to have, or the ends of their range; what is not counted is there once."""
    name = f"{part}.count"
    counts = spec.classes.get(name, spec.nuisance.get(name, 1))
    if isinstance(counts, Range):
        return counts.low, counts.high
    if spec.shortcut and name == spec.shortcut.factor:
        return spec.shortcut.values
    return counts if isinstance(counts, tuple) else (counts,)


def _check_different(spec: DatasetSpec) -> None:
    first_with: dict[frozenset[Any], int] = {}
    for label in range(spec.class_count):
        first = first_with.setdefault(frozenset(class_look(spec, label).items()), label)
        if first != label:
            raise ValueError(
                f"classes: entries {first} and {label} look the same ({_common_look(spec, first, label)}), "
                f"so neither has a sufficient set of parts; change or remove one"
            )


def _common_look(spec: DatasetSpec, first: int, second: int) -> str:
    """The values of two classes that look the same: `petals.colour = red and #e0202c`."""
    look = class_look(spec, first)
    absent = [f"{part}.count" for part, factors in look.items() if dict(factors).get("count") == 0]
    names = [name for name in spec.classes if name in absent or f"{part_of(name)}.count" not in absent]
    pairs = [(name, dict.fromkeys(str(spec.classes[name][label]) for label in (first, second))) for name in names]
    return ", ".join(f"{name} = {' and '.join(values)}" for name, values in pairs)


def _check_class_names(spec: DatasetSpec) -> None:
    if len(set(spec.class_names)) < spec.class_count:
        raise ValueError("class_names: two classes have the same name; give each its own")
    for i, name in enumerate(spec.class_names):
        if not name.strip():
            raise ValueError(f"class_names[{i}]: empty; give the class a name")
        if _holds_control_characters(name):
            raise ValueError(f"class_names[{i}]: {name!r} holds a control character; use a name on one line")


def _holds_control_characters(text: Iterable[str]) -> bool:
    return any(unicodedata.category(character) in INVISIBLE for character in text)


def _check_shortcut_design(spec: DatasetSpec, shortcut: Shortcut) -> None:
    factor, part = FACTORS[shortcut.factor], part_of(shortcut.factor)
    if part and shortcut.factor != f"{part}.count" and max(_counts(spec, part)) == 0:
        raise ValueError(
            f'shortcut.factor: "{shortcut.factor}" cannot be seen, since no row has the part "{part}"; '
            f'set "{part}.count" = 1 in [nuisance]'
        )
    if spec.nuisance[shortcut.factor] != as_nuisance(factor.default):
        raise ValueError(f'nuisance."{shortcut.factor}": is set by the shortcut; remove it from one of the two')
    if len({factor.normalise(value) for value in shortcut.values}) == 1:
        raise ValueError("shortcut.values: all look alike, so they tell no class; give at least two different ones")
