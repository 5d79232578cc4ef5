"""The page of an audit: one HTML file that needs nothing else, and lets nothing else run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup, escape

from an8flower.atomic import moved_into
from an8flower.errors import Refusal

from .figures import Drawing
from .leaderboard import everything
from .pictures import palette
from .reading import Source
from .sections import Section, sections
from .study import Study
from .verdict import verdict

# What HTML and XML cannot hold: controls but tab and newline, halves of surrogate pairs. And what turns the order of
# the letters around it, so that a sentence would no longer say what it says.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# What a summary may lack.
OPTIONAL: dict[str, Any] = {"name": "audit", "title": "", "command": "", "seconds": None}
OPTIONAL |= {"plan": {}, "versions": {}, "machine": {}, "failed": [], "printed": []}
UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, UndefinedError, ValueError)


def write_page(folder: Path) -> Path:
    """Write `report.html` from the summary of an audit and the files that it names.

    Args:
        folder: of an audit; `summary.json` must be there, pictures and filters may be missing: the page says so.

    Returns:
        Where the page lies. The same summary and files give the same bytes.

    Raises:
        Refusal: the summary is missing or damaged.
    """
    source = Source(folder)
    try:
        text = render(source)
    except UNREADABLE as error:
        raise Refusal(
            f"{folder / 'summary.json'}: not a summary that this version can read ({type(error).__name__}: {error}); "
            f"run `an8flower audit PLAN.toml -o {folder}` again: what is done already is not done twice"
        ) from error
    place = folder / "report.html"
    with moved_into(place) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    return place


def render(source: Source) -> str:
    """The page as text."""
    summary = OPTIONAL | legible(source.summary)
    studies = [Study(i, document) for i, document in enumerate(summary["studies"])]
    found = sections(studies, summary, source)
    style, script = _part("page.css"), _part("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            studies=studies,
            verdict=verdict(studies, summary),
            sections=found,
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
            data=Markup(for_script({**_data(studies, found, summary), "summary": packed(source.text)})),
        )
    )


def policy(style: str, script: str) -> str:
    """The content security policy: our own script and style by their hashes, pictures from the page itself."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def for_script(data: object) -> str:
    """JSON that cannot end the element it stands in.

    >>> for_script("</script>&")
    '"\\\\u003c/script\\\\u003e\\\\u0026"'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def legible(value: Any) -> Any:
    """The same document; characters that no page can hold are replaced by the sign for such."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {legible(key): legible(each) for key, each in value.items()}
    return [legible(each) for each in value] if isinstance(value, list) else value


def packed(text: bytes) -> str:
    """Gzipped, in base64: a tenth of the size of a summary."""
    return base64.b64encode(gzip.compress(text, mtime=0)).decode("ascii")


def _data(studies: Sequence[Study], found: Sequence[Section], summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the script works on."""
    drawings = [drawing for section in found for drawing in section.drawings]
    return {
        "name": str(summary["name"]),
        "boards": {key: board for section in found for key, board in section.boards.items()},
        "shelves": {shelf.key: shelf.data() for section in found for shelf in section.shelves},
        "tables": {"all-numbers": everything(studies).data(), **_tables(drawings)},
        "palette": palette(),
    }


def _tables(drawings: Sequence[Drawing]) -> dict[str, Any]:
    return {drawing.key: drawing.table.data() for drawing in drawings}


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _part(name: str) -> str:
    """A file beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breaking"] = breaking
    return environment


def breaking(name: object) -> Markup:
    """A name that may be broken where its words join.

    >>> breaking("a_b<c")
    Markup('a_<wbr>b&lt;c')
    """
    return Markup(re.sub(r"(?<=[_,:=])(?=\w)", "<wbr>", str(escape(name))))
