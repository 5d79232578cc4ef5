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

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, UndefinedError
from markupsafe import Markup, escape

from an8flower.atomic import moved_into
from an8flower.errors import Refusal

from ..results.method_names import title_of
from .figures import Drawing
from .leaderboard import all_scores
from .pictures import palette
from .reading import AuditFolder
from .sections import PageSection, build_sections
from .study import StudyView
from .verdict import cautions, verdict
from .verdicts import linked_questions, verdict_views

# Characters that HTML and XML cannot hold: controls but tab and newline, halves of surrogate pairs. And characters
# that reverse the order of the letters around them, so that a sentence would no longer say what it says.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# Keys that a summary may lack.
OPTIONAL: dict[str, Any] = {"name": "audit", "title": "", "command": "", "seconds": None}
OPTIONAL |= {"plan": {}, "versions": {}, "machine": {}, "failed": [], "printed": []}
UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, UndefinedError, ValueError)


def write_page(folder: Path) -> Path:
    """Write `report.html` from the summary of an audit and the files that it names.

    Args:
        folder: the folder of an audit. It must hold `summary.json`; pictures and filters may be missing, which the
            page then says.

    Returns:
        The path of the page. The same summary and files give the same bytes.

    Raises:
        Refusal: if the summary is missing or damaged.
    """
    source = AuditFolder(folder)
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


def render(source: AuditFolder) -> str:
    """The HTML of the page."""
    summary = OPTIONAL | replace_unprintable(source.summary)
    studies = [StudyView(i, document) for i, document in enumerate(summary["studies"])]
    sections = build_sections(studies, summary, source)
    style, script = read_part("page.css"), read_part("page.js")
    return page_template("page.html.j2").render(
        summary=summary,
        studies=studies,
        verdict=verdict(studies, summary),
        cautions=cautions(studies, summary),
        answers=[(study, views) for study in studies if (views := verdict_views(study, summary["plan"]))],
        questions=linked_questions(sections),
        metrics=_metric_groups(studies),
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        policy=security_policy(style, script),
        data=Markup(to_script_json({**_data(studies, sections, summary), "summary": pack(source.text)})),
    )


def _metric_groups(studies: Sequence[StudyView]) -> dict[str, list[str]]:
    """The metrics of all data sets by their families, each once: what the page lets its readers choose from."""
    groups: dict[str, list[str]] = {}
    for study in studies:
        for metric in study.metrics:
            names = groups.setdefault(study.scores.get("families", {}).get(metric, "") or "metrics", [])
            if metric not in names:
                names.append(metric)
    return groups


def security_policy(style: str, script: str) -> str:
    """The content security policy of the page: only its own script and style, by hash, and pictures inside it."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def to_script_json(data: object) -> str:
    """JSON that cannot end the HTML element it stands in.

    >>> to_script_json("</script>&")
    '"\\\\u003c/script\\\\u003e\\\\u0026"'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def replace_unprintable(value: Any) -> Any:
    """The same document, with U+FFFD for each character that no page can hold."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {replace_unprintable(key): replace_unprintable(entry) for key, entry in value.items()}
    return [replace_unprintable(entry) for entry in value] if isinstance(value, list) else value


def pack(text: bytes) -> str:
    """A text gzipped and in base64: a tenth of the size of a summary."""
    return base64.b64encode(gzip.compress(text, mtime=0)).decode("ascii")


def _data(studies: Sequence[StudyView], sections: Sequence[PageSection], summary: Mapping[str, Any]) -> dict[str, Any]:
    """The data that the script of the page works on."""
    drawings = [drawing for section in sections for drawing in section.drawings]
    return {
        "name": str(summary["name"]),
        "boards": {key: board for section in sections for key, board in section.boards.items()},
        "galleries": {gallery.key: gallery.to_document() for section in sections for gallery in section.galleries},
        "tables": {"all-numbers": all_scores(studies).to_document(), **_tables(drawings)},
        "palette": palette(),
    }


def _tables(drawings: Sequence[Drawing]) -> dict[str, Any]:
    return {drawing.key: drawing.table.to_document() for drawing in drawings}


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def read_part(name: str) -> str:
    """The text of a file that lies beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def page_template(name: str) -> Template:
    """The template of that name, which lies beside this module."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breaking": allow_breaks, "title_of": title_of}
    return environment


def allow_breaks(name: object) -> Markup:
    """A name that the browser may break into lines where its words join.

    >>> allow_breaks("a_b<c")
    Markup('a_<wbr>b&lt;c')
    """
    return Markup(re.sub(r"(?<=[_,:=])(?=\w)", "<wbr>", str(escape(name))))
