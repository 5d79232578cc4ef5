"""TOML that somebody wrote, on its way to a validated value: reading it, and saying in a sentence what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .gate.documents import parse_toml, read_toml
from .gate.regular import FileKind

parse = parse_toml
LARGEST = 2**22  # bytes of a file that somebody writes by hand
LONGEST = 60  # characters of a value in a message


def read(path: Path, remedy: str) -> dict[str, Any]:
    """Parse a TOML file; raises Refusal if it cannot be read or is not TOML, with the remedy."""
    return read_toml(path, FileKind("a TOML file", LARGEST, remedy))


def tuples(value: Any) -> Any:
    """Turn the lists of a parsed file into the tuples that frozen models hold."""
    if isinstance(value, Mapping):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


WORDS = {  # pydantic's kinds of errors, in the words of this project
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than_equal": "expected at most {le:g}",
    "literal_error": "expected {expected}",
}
WITHOUT_VALUE = {"missing", "extra_forbidden", "unknown_key"}


def sentence(invalid: ValidationError, root: str) -> str:
    """Put the first error as `place: what is wrong`, and how many more there are; `root` names the whole."""
    errors = invalid.errors()
    first = errors[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"{_place(first['loc'], root)}: {_words(first)}"
    return message + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def _words(error: ErrorDetails) -> str:
    """What is wrong with one value, and what came in its place."""
    template, context = WORDS.get(error["type"]), error.get("ctx", {})
    words = template.format(**context) if template else error["msg"][:1].lower() + error["msg"][1:]
    return words if error["type"] in WITHOUT_VALUE else f"{words}, came {as_toml(error['input'])}"


def as_toml(value: Any) -> str:
    """A value as one would write it in TOML, cut short if it is long.

    >>> as_toml("red"), as_toml(True), as_toml({"from": 0, "to": (1, 2)})
    ('"red"', 'true', '{ from = 0, to = [1, 2] }')
    """
    text = _as_toml(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _as_toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_as_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _place(loc: Sequence[str | int], root: str) -> str:
    """A path as one would write it in TOML: `nuisance."petals.count"[2]`."""
    words = [f"[{key}]" if isinstance(key, int) else f'."{key}"' if "." in key else f".{key}" for key in loc]
    return "".join(words).lstrip(".") or root
