"""Markdown for tables, prose, docstrings and the comments behind fields."""

from __future__ import annotations

import inspect
import io
import itertools
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel

SIGNS = re.compile(r"([\\*_\[\]>|`])")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; line breaks and bars within cells are kept from breaking it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(text: object) -> str:
    """A word or a value as Markdown code."""
    return f"`{text}`" if str(text) else ""


def plain(text: str) -> str:
    """Prose whose signs Markdown and HTML must not take for their own: M > t, *, _, n[1]; what is code stays code."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if i % 2 else SIGNS.sub(r"\\\1", piece).replace("<", "&lt;") for i, piece in enumerate(pieces))


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def prose(item: Any) -> str:
    """A docstring as Markdown; a dataclass that has none of its own says nothing."""
    text = inspect.cleandoc(item.__doc__ or "").split("\n\nRaises:")[0]
    if is_dataclass(item) and text.startswith(f"{getattr(item, '__name__', '')}("):
        return ""
    return plain(text)


def field_comments(kind: Any) -> dict[str, str]:
    """The comment behind each field of a dataclass or a model, those that it inherits included."""
    comments: dict[str, str] = {}
    for ancestor in reversed(getattr(kind, "__mro__", ())):
        if is_dataclass(ancestor) or issubclass(ancestor, BaseModel) or hasattr(ancestor, "_fields"):
            names = set(vars(ancestor).get("__annotations__", ()))
            comments |= dict(_comments(inspect.getsource(ancestor), names))
    return comments


def _comments(source: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """Names of a class's fields with what stands behind them."""
    tokens = tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline)
    for _, line in itertools.groupby(tokens, key=lambda token: token.start[0]):
        words = [token for token in line if token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.NL)]
        comment = next((token.string for token in words if token.type == tokenize.COMMENT), None)
        if comment and len(words) > 2 and words[0].string in names and words[1].string == ":":
            yield words[0].string, comment.lstrip("# ")
