"""TOML that somebody wrote, on its way to a validated value: reading it, and saying in a sentence what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import Refusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

parse = tomllib.loads


def read(path: Path, remedy: str) -> dict[str, Any]:
    """What a file says; raises Refusal where it cannot be read, with the remedy, or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: not TOML ({error})") from None


def tuples(value: Any) -> Any:
    """Lists of a parsed file as the tuples that frozen models hold."""
    if isinstance(value, Mapping):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def sentence(invalid: ValidationError, root: str) -> str:
    """The first error as `place: what is wrong`, and how many more there are; `root` names the whole."""
    errors = invalid.errors()
    first = errors[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        came = repr(first["input"])
        message = f"{_place(first['loc'], root)}: {message[:1].lower()}{message[1:]} (came: {came[:60]})"
    return message + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def _place(loc: Sequence[str | int], root: str) -> str:
    """A path as one would write it in TOML: `nuisance."petals.count"[2]`."""
    words = [f"[{key}]" if isinstance(key, int) else f'."{key}"' if "." in key else f".{key}" for key in loc]
    return "".join(words).lstrip(".") or root
