"""Text, JSON and TOML: read whole, since they are small, and no deeper than anything that this program writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import Refusal
from .regular import FileKind, check_regular, shorten

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEEPEST = 32  # tables within tables
DIGITS = 40  # of a number


def read_text(path: Path, kind: FileKind) -> str:
    """The text of a small file in UTF-8, without the byte order mark that Notepad begins it with."""
    check_regular(path, kind)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}); {kind.remedy}") from None
    except UnicodeDecodeError as error:
        raise Refusal(f"{path}: not UTF-8 ({error}); {kind.remedy}") from None


def read_json(path: Path, kind: FileKind) -> Any:
    """The document of a JSON file."""
    return _parse(parse_json, read_text(path, kind), path, f"not JSON, expected {kind.noun}", kind.remedy)


def read_toml(path: Path, kind: FileKind) -> dict[str, Any]:
    """The document of a TOML file that somebody wrote."""
    return _parse(parse_toml, read_text(path, kind), path, "not TOML", kind.remedy)


def parse_json(text: str) -> Any:
    """JSON as it is defined: finite numbers, bounded depth; raises ValueError for all else."""
    return _parse_flat(
        partial(json.loads, parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant), text
    )


def parse_toml(text: str) -> dict[str, Any]:
    """TOML of bounded depth; raises ValueError for all else."""
    return _parse_flat(tomllib.loads, text)


def _parse_flat(parse: Callable[[str], Any], text: str) -> Any:
    try:
        document = parse(text)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    check_depth(document)
    return document


def check_depth(document: Any) -> None:
    """Raise ValueError if tables and lists lie deeper in one another than this program ever writes them."""
    level = [document]
    for _ in range(DEEPEST):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} deep")


def _parse(parse: Callable[[str], Any], text: str, path: Path, what: str, remedy: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise Refusal(f"{path}: {what} ({shorten(error)}); {remedy}") from None


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number:  # neither infinity nor NaN is 0 away from itself
        raise ValueError(f"{shorten(digits)} is no finite number")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
