"""DatasetSpec: what a data set is, in one validated value. TOML in, JSON in and out, one digest."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import Refusal, WrongUsage
from .factors import COLOURS, FACTORS, Factor, Span, Value, part_of
from .names import unknown
from .toml import parse, read, sentence, tuples

SPLITS = ("train", "val", "test")
SMALLEST, LARGEST = 16, 1024  # pixels
PIXEL_BYTES = 5  # of one pixel in a file before compression: three channels, part, mask
PRESETS = files("an8flower") / "presets"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Range(_Model):
    """Values drawn evenly between two ends, both included; written `{ from = 0, to = 360 }`."""

    low: float = Field(alias="from")
    high: float = Field(alias="to")


class Rows(_Model):
    """How many rows each split has."""

    train: Annotated[int, Field(ge=0)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return self.train + self.val + self.test


class Shortcut(_Model):
    """A factor that goes along with the class in a given share of the rows of each split.

    `values` has one entry per class. A row that agrees has its class's value, any other row that of another class.
    """

    factor: str
    values: tuple[Value, ...]
    train: Annotated[float, Field(ge=0, le=1)]
    val: Annotated[float, Field(ge=0, le=1)]
    test: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="before")
    @classmethod
    def _val_as_train(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Where nothing is said of validation, it is drawn as training is."""
        return {"val": given.get("train"), **given} if isinstance(given, dict) else given


class DatasetSpec(_Model):
    """A data set: its classes, what else varies, its size. Complete: factors that were left out are filled in."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    title: str = ""
    purpose: str = ""
    size: int = 112  # pixels, square
    seed: Annotated[int, Field(ge=0)] = 0
    rows: Rows
    classes: dict[str, tuple[Value, ...]]
    class_names: tuple[str, ...] = ()
    nuisance: dict[str, Value | tuple[Value, ...] | Range] = {}
    shortcut: Shortcut | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Expand a product of classes, and let every factor that is not mentioned vary as the catalogue says."""
        if not isinstance(given, dict) or not isinstance(given.get("classes"), dict):
            return given
        classes = _expand(given["classes"])
        nuisance = {} if (said := given.get("nuisance")) is None else said
        if not isinstance(nuisance, dict):
            return given
        silent = {name: _as_given(f.default) for name, f in FACTORS.items() if name not in {*classes, *nuisance}}
        return {**given, "classes": classes, "nuisance": {**nuisance, **silent}}

    @model_validator(mode="after")
    def _check(self) -> DatasetSpec:
        _check_size(self)
        _check_classes(self)
        _check_nuisance(self)
        if self.shortcut:
            _check_shortcut(self, self.shortcut)
        if not self.class_names:
            object.__setattr__(self, "class_names", _derived_names(self.classes))
        _check_names(self)
        return self

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return len(next(iter(self.classes.values())))

    def to_json(self) -> str:
        """The canonical text: equal specs give equal texts."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True)

    @property
    def digest(self) -> str:
        """sha256 of the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def with_changes(self, *, rows: int | None = None, size: int | None = None, seed: int | None = None) -> DatasetSpec:
        """The same data set with other numbers; `rows` is the total, shared out 70/10/20."""
        changes = {"rows": _shared_out(rows), "size": size, "seed": seed}
        given = json.loads(self.to_json()) | {key: value for key, value in changes.items() if value is not None}
        return from_mapping(given, "the command line")


def from_mapping(given: Mapping[str, Any], source: str) -> DatasetSpec:
    """Validate a mapping; raises Refusal with the place and the remedy. `source` names it in the message."""
    try:
        return DatasetSpec.model_validate(tuples(given))
    except ValidationError as error:
        raise Refusal(f"{source}: {sentence(error, 'spec')}") from None


def from_json(text: str, source: str) -> DatasetSpec:
    """Read what `to_json` wrote."""
    try:
        return from_mapping(json.loads(text), source)
    except json.JSONDecodeError as error:
        raise Refusal(f"{source}: not JSON ({error}); the spec has been damaged") from None


def from_toml(path: Path) -> DatasetSpec:
    """Read a spec that somebody wrote."""
    return from_mapping(read(path, "give a preset's name or a .toml file"), str(path))


def presets() -> list[str]:
    """Names of the specs that ship with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in PRESETS.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> DatasetSpec:
    """A preset by its name, or the spec in a .toml file."""
    if name in presets():
        return from_mapping(parse((PRESETS / f"{name}.toml").read_text(encoding="utf-8")), name)
    if name.endswith(".toml"):
        return from_toml(Path(name))
    raise WrongUsage(unknown("preset", name, presets()) + " (or give a .toml file)")


def _shared_out(rows: int | None) -> dict[str, int] | None:
    if rows is None:
        return None
    train, val = round(rows * 0.7), round(rows * 0.1)
    return {"train": train, "val": val, "test": rows - train - val}


def _as_given(default: Value | Span) -> Any:
    return {"from": float(default.low), "to": float(default.high)} if isinstance(default, Span) else default


def _expand(classes: dict[str, Any]) -> dict[str, Any]:
    """`product = { factor = [..], .. }` as lists of equal length, the last factor running fastest."""
    product = classes.get("product")
    if not isinstance(product, Mapping) or not all(isinstance(values, tuple) for values in product.values()):
        return classes
    if len(classes) > 1:
        raise ValueError("classes: give either a product or lists of equal length, not both")
    combinations = tuple(itertools.product(*product.values()))
    return {name: tuple(values[i] for values in combinations) for i, name in enumerate(product)}


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
            'classes: empty; give at least one factor with a value per class, as "petals.colour" = ["red"]'
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
        raise ValueError(f"classes: lists of equal length expected, one entry per class; came {lengths}")
    _check_visible(spec)
    _check_different(spec)


def _check_visible(spec: DatasetSpec) -> None:
    """A class factor whose part can be missing by chance would leave rows without any sign of their class."""
    for part in {part_of(name) for name in spec.classes}:
        count = spec.nuisance.get(f"{part}.count", 1)
        least = min(count) if isinstance(count, tuple) else count.low if isinstance(count, Range) else count
        if least == 0:
            raise ValueError(
                f'nuisance."{part}.count": can be 0, but {part} tell the classes; '
                f"a class would have no sufficient set of parts; give at least 1"
            )


def _check_different(spec: DatasetSpec) -> None:
    looks = [spec_look(spec, label) for label in range(spec.class_count)]
    for first, second in itertools.combinations(range(len(looks)), 2):
        if looks[first] == looks[second]:
            raise ValueError(
                f"classes: entries {first} and {second} look the same ({looks[first]}), "
                f"so neither has a sufficient set of parts; change or remove one"
            )


def spec_look(spec: DatasetSpec, label: int) -> dict[str, tuple[tuple[str, Value], ...]]:
    """How each part that tells classes looks in one of them; a part with count 0 looks absent whatever else is said."""
    look: dict[str, tuple[tuple[str, Value], ...]] = {}
    for name, values in spec.classes.items():
        part = str(part_of(name))
        absent = spec.classes.get(f"{part}.count", (1,) * spec.class_count)[label] == 0
        look[part] = (("count", 0),) if absent else (*look.get(part, ()), (name, values[label]))
    return look


def _check_nuisance(spec: DatasetSpec) -> None:
    for name, value in spec.nuisance.items():
        place = f'nuisance."{name}"'
        _check_factor(place, name)
        if name in spec.classes:
            raise ValueError(f"{place}: defines the classes already; remove it from one of the two")
        for where, single in _singles(place, value):
            _check_value(where, FACTORS[name], single)


def _singles(place: str, value: Value | tuple[Value, ...] | Range) -> list[tuple[str, Value]]:
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
    part = name.partition(".")[0]
    owners = sorted({known.partition(".")[0] for known in FACTORS})
    if part not in owners:
        raise ValueError(f"{place}: {unknown('part', part, owners)}")
    own = [known for known in FACTORS if known.startswith(f"{part}.")]
    raise ValueError(f"{place}: {unknown('factor', name, own)}")


def _check_value(place: str, factor: Factor, value: Any) -> None:
    if factor.kind == "colour":
        _check_colour(place, value)
    elif factor.kind == "choice":
        if value not in factor.choices:
            raise ValueError(f"{place}: {unknown('value', str(value), factor.choices)}")
    else:
        _check_number(place, factor, value)


def _check_colour(place: str, value: Any) -> None:
    if value not in COLOURS and not re.fullmatch(r"#[0-9a-f]{6}", str(value)):
        raise ValueError(f"{place}: {unknown('colour', str(value), COLOURS)}")


def _check_number(place: str, factor: Factor, value: Any) -> None:
    whole = factor.kind == "count"
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value != int(value)):
        raise ValueError(f"{place}: expected a {'whole ' if whole else ''}number, came {value!r}")
    if not factor.low <= value <= factor.high:
        raise ValueError(f"{place}: expected {factor.low:g} to {factor.high:g}, came {value}")


def _check_names(spec: DatasetSpec) -> None:
    if len(spec.class_names) != spec.class_count:
        raise ValueError(f"class_names: expected {spec.class_count}, came {len(spec.class_names)}")
    if len(set(spec.class_names)) < spec.class_count:
        raise ValueError("class_names: two classes have the same name; give each its own")


def _derived_names(classes: Mapping[str, tuple[Value, ...]]) -> tuple[str, ...]:
    """`red` where one factor tells the classes, `red petals, no pot` where several do."""
    if len(classes) == 1:
        return tuple(str(value) for value in next(iter(classes.values())))
    return tuple(", ".join(map(_words, classes, values)) for values in zip(*classes.values(), strict=True))


def _words(name: str, value: Value) -> str:
    part = part_of(name)
    return f"no {part}" if value == 0 else f"{value} {part}"
