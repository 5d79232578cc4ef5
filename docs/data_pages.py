"""The page of the shipped data sets with their pictures, and the tables of factors and colours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from markup import code, plain, table

SHOWN = 12  # pictures of each data set
COLUMNS = 6
QUALITY = 85  # of the JPEGs: the eight sheets take 0.4 MB


def presets() -> str:
    """Every preset with its picture and its spec."""
    from an8flower import spec as specs

    opening = """# Data sets

The specs that ship with an8flower. `an8flower generate NAME` renders one. Below each picture stands the same picture
with all but the evidence faded: outlined in crimson what is seen and tells the class, in blue where a part would be
whose absence tells it.

Everything that is not named under `classes` or `shortcut` varies in the same way in every class."""
    return "\n\n".join([opening, *map(_preset, map(specs.load, specs.presets()))])


def _preset(spec: Any) -> str:
    from an8flower.spec import PRESETS

    picture = f"![Flowers of {spec.name}, and below each the evidence for its class](presets/{spec.name}.jpg)"
    source = (PRESETS / f"{spec.name}.toml").read_text(encoding="utf-8").strip()
    evidence = f"Evidence: {plain('; '.join(evidence_of(spec)))}."
    about = f"{plain(spec.title)}. {plain(spec.purpose)}"
    return "\n\n".join([f"## {spec.name}", about, picture, evidence, f"```toml\n{source}\n```"])


def evidence_of(spec: Any) -> list[str]:
    """Which parts tell which classes, classes that are told alike together."""
    from an8flower.evidence import sufficient_sets

    classes: dict[str, list[str]] = {}
    for label, name in enumerate(spec.class_names):
        sets = " or ".join(sorted(" and ".join(sorted(parts)) for parts in sufficient_sets(spec, label)))
        classes.setdefault(sets, []).append(name)
    return list(classes) if len(classes) == 1 else [f"{sets} ({', '.join(names)})" for sets, names in classes.items()]


def factors() -> str:
    """The catalogue of factors, as a table for the page on specs."""
    from an8flower.factors import FACTORS

    rows = [
        [code(name), plain(factor.words), factor.kind, _values(factor), code(_as_toml(factor.default))]
        for name, factor in FACTORS.items()
    ]
    return table(["factor", "what it is", "kind", "values", "where a spec is silent"], rows)


def _values(factor: Any) -> str:
    if factor.kind == "colour":
        return "a colour"
    return ", ".join(map(code, factor.choices)) or f"{factor.low:g} to {factor.high:g}"


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{{ from = {value[0]}, to = {value[1]} }}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def colours() -> str:
    """The named colours as a table."""
    from an8flower.factors import COLOURS

    swatch = '<span class="swatch" style="background: {0}"></span> `{0}`'
    return table(["name", "value"], [[code(name), swatch.format(value)] for name, value in COLOURS.items()])


def pictures() -> Iterator[tuple[str, bytes]]:
    """The contact sheet of every preset as JPEG, rendered on the spot: (path, bytes)."""
    from an8flower import spec as specs
    from an8flower.generate import make_rows
    from an8flower.sheet import contact_sheet
    from an8flower.writing import Block

    for name in specs.presets():
        rows = make_rows(specs.load(name), Block("test", 0, SHOWN))
        stream = io.BytesIO()
        contact_sheet(rows.images, rows.masks, COLUMNS).save(stream, "JPEG", quality=QUALITY, optimize=True)
        yield f"presets/{name}.jpg", stream.getvalue()
