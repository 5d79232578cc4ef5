"""Markdown made of templates: every text is escaped, so that a title or a reason is never markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

MARKUP = re.compile(r"[\\`*\[\]|~]|^[#>]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is none
ENTITIES = {"&": "&amp;", "<": "&lt;"}
LINKS = re.compile(r"(?i)(?<=https)(?=:)|(?<=http)(?=:)|(?<=www)(?=\.)|(?=@)")


class Written(str):
    """A text that is Markdown already, and is not escaped again."""


def escape_markdown(value: Any) -> str:
    """A text on one line in which nothing is markup of Markdown, HTML, or becomes a link by itself.

    >>> escape_markdown("a|b <img> _x_ iou_best")
    'a\\\\|b &lt;img> \\\\_x\\\\_ iou_best'
    """
    if isinstance(value, Written):
        return value
    line = " ".join(str(value).split())
    line = re.sub("[&<]", lambda match: ENTITIES[match[0]], line)
    line = MARKUP.sub(lambda match: f"\\{match[0]}", line)
    line = re.sub(r"^([-+]|\d+[.)])(?=\s|$)", lambda match: f"{match[0][:-1]}\\{match[0][-1]}", line)
    return LINKS.sub("\N{WORD JOINER}", line)


def code(value: Any) -> Written:
    """A text as it was typed, in one span of code; without characters that would end the span or a table's cell.

    >>> code("a`b|c")
    "`a'b\\\\|c`"
    """
    text = " ".join(str(value).replace("`", "'").split())
    return Written(f"`{text}`".replace("|", "\\|")) if text else Written("-")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Written:
    """A table of texts, or of what is written already."""
    lines = [columns, ["---"] * len(columns), *([escape_markdown(cell) for cell in row] for row in rows)]
    return Written("\n".join(f"| {' | '.join(line)} |" for line in lines))


def join_code(names: Iterable[str]) -> Written:
    """Names as code, with commas between them; a dash for none."""
    return Written(", ".join(map(code, names)) or "-")


@cache
def markdown_templates() -> Environment:
    """The templates of this folder as Markdown: all that they show is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=False,  # of HTML: `finalize` escapes for Markdown, and HTML with it
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"table": table, "code": code, "join_code": join_code}
    return environment
