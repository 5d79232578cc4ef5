"""The command that lists the parts, factors and colours that a spec may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import WrongUsage
from ..names import unknown
from .options import as_json
from .printing import echo_json

if TYPE_CHECKING:
    from ..factors import Factor

COLOURS = "colours"


@click.command()
@click.argument("name", required=False)
@as_json
def factors(name: str | None, as_json: bool) -> None:
    """List what a spec may say: every factor with its values, and how it varies if a spec does not mention it.

    NAME is a part (petals), a group of the scene (view, light, head, background), a single factor (petals.colour), or
    `colours`.

    \b
    Example:  an8flower factors petals
    """
    from ..factors import COLOURS as NAMED_COLOURS
    from .fitting import show

    entries = _select(name)
    colours = dict(NAMED_COLOURS) if name in (None, COLOURS) else {}
    if as_json:
        echo_json({"factors": entries, COLOURS: colours})
        return
    if entries:
        show(["factor", "what it is", "kind", "values", "default"], [_row(entry) for entry in entries])
    if colours:
        show(["colour", "value"], [[colour, value] for colour, value in colours.items()])
    elif any(entry["kind"] == "colour" for entry in entries):
        click.echo('A colour is a name that `an8flower factors colours` lists, or a value such as "#bf84a8".')


def _select(name: str | None) -> list[dict[str, Any]]:
    """The factors of a part or a group, one factor, or all of them."""
    from ..factors import FACTORS

    if name == COLOURS:
        return []
    owners = {factor.partition(".")[0] for factor in FACTORS}
    if name is not None and name not in FACTORS and name not in owners:
        raise WrongUsage(unknown("part or factor", name, [*FACTORS, *owners, COLOURS]))
    return [
        _entry(key, factor) for key, factor in FACTORS.items() if name is None or name in (key, key.partition(".")[0])
    ]


def _entry(name: str, factor: Factor) -> dict[str, Any]:
    """One factor as JSON; the values of a number, and a default that is drawn, are given by their bounds."""
    from ..factors import Ends, part_of

    default = {"from": factor.default.low, "to": factor.default.high} if isinstance(factor.default, Ends) else None
    values = {"colour": "a colour", "choice": list(factor.choices)}.get(factor.kind, [factor.low, factor.high])
    return {
        "name": name,
        "part": part_of(name),
        "what": factor.words,
        "kind": factor.kind,
        "values": values,
        "default": default or factor.default,
        "independent values": factor.items,
    }


def _row(entry: dict[str, Any]) -> list[str]:
    """One factor as a line of the table; the default is written as TOML."""
    from ..toml import as_toml

    items = entry["independent values"]
    kind = entry["kind"] if items == 1 else f"{entry['kind']}, each of {items}"
    return [entry["name"], entry["what"], kind, _values(entry), as_toml(entry["default"])]


def _values(entry: dict[str, Any]) -> str:
    """The allowed values of a factor in words."""
    values = entry["values"]
    if entry["kind"] in ("count", "number"):
        return " to ".join(f"{bound:.10g}" for bound in values)
    return values if isinstance(values, str) else ", ".join(values)
