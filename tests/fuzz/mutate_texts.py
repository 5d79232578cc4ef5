"""JSON, TOML and lines whose values are replaced by what nobody expects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
MARK = "@replaced@"
DEEP = 3000  # levels of nesting; the reader of JSON gives up at about a third of that
# What is written in place of a value, as text, since no Python value is written so.
ODD_JSON = (
    *("null", "true", "-1", "0", "1e308", "-0.0", "1e400", "NaN", "Infinity", '""', "[]", "{}", "[[[]]]", '"\\u0000"'),
    *('"word"', '"../../outside"', '"/etc/passwd"', f'"{"n" * 300}"', '"\\ud800"', '"<b>&"', "[null]", '{"": null}'),
    *("1" + "0" * 400, "1" + "0" * 5000, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "0.5", "1000000"),
)
ODD_TOML = (
    *("true", "-1", "0", "1e308", "inf", "nan", '""', "[]", "{}", "[[]]", '"word"', '"../../outside"', '"mod:x=y"'),
    *(f'"{"n" * 300}"', '"\\u0000"', '["a", 1]', "{ from = 1 }", '{ from = "a", to = [] }', "1979-05-27", "0.5"),
    *("1" + "0" * 400, "1" + "0" * 5000, "[" * 300 + "]" * 300, "[" * DEEP + "]" * DEEP, "1000000000000", "0x7fff"),
)


def change_json(path: Path, rng: Rng) -> str:
    """Replace, drop or repeat one to three values of a JSON document."""
    document = json.loads(path.read_text())
    changes = [_change_node(document, rng) for _ in range(rng.integers(1, 4))]
    text = json.dumps(document, indent=2)
    for odd, _ in changes:
        text = text.replace(f'"{MARK}{odd}"', ODD_JSON[odd])
    path.write_text(text)
    return "; ".join(words for _, words in changes)


def _change_node(document: Any, rng: Rng) -> tuple[int, str]:
    places = list(_places(document))
    if not places:
        return 0, "nothing left"
    (parent, key), odd = places[rng.integers(len(places))], int(rng.integers(len(ODD_JSON)))
    deed = rng.random()
    if deed < 0.15:
        del parent[key]
        return odd, f"no {key}"
    if deed < 0.25 and isinstance(parent, list):
        parent.append(parent[key])
        return odd, f"{key} twice"
    parent[key] = f"{MARK}{odd}"
    return odd, f"{key} = {ODD_JSON[odd][:20]}"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a document as its parent and its key there."""
    if isinstance(value, dict | list):
        for key, entry in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(entry)


def change_toml(path: Path, rng: Rng) -> str:
    """Replace a value, rename a key, or drop or repeat a line of a TOML document, once or twice."""
    lines = path.read_text().splitlines()
    changes = [_change_line(lines, rng) for _ in range(rng.integers(1, 3))]
    path.write_text("\n".join(lines) + "\n")
    return "; ".join(changes)


def _change_line(lines: list[str], rng: Rng) -> str:
    i, odd = int(rng.integers(len(lines))), ODD_TOML[rng.integers(len(ODD_TOML))]
    key, equals, _ = lines[i].partition(" = ")
    deed = rng.random()
    if equals and deed < 0.7:
        lines[i] = f"{key} = {odd}"
    elif deed < 0.8:
        lines.insert(i, lines[i])
    elif deed < 0.9:
        lines[i] = re.sub(r"\w", "x", lines[i], count=1)
    else:
        lines[i] = f'"{"k" * int(rng.choice([1, 300]))}" = {odd}'
    return lines[i][:60]


def change_lines(path: Path, rng: Rng) -> str:
    """Replace a line of a text by an odd one, and the end of lines by another."""
    lines = path.read_text().splitlines()
    odd = ("", " ", "\x00", "\u202e", "n" * 100_000, "\ufeff", ODD_JSON[-3], ODD_JSON[-4])
    lines[rng.integers(len(lines))] = odd[rng.integers(len(odd))]
    ending = ("\n", "\r\n", "\r", "\x85", "\n\n")[rng.integers(5)]
    path.write_bytes(ending.join(lines).encode("utf-16" if rng.random() < 0.2 else "utf-8"))
    return f"odd line, ending {ending!r}"
