"""The requirements and the sanity checks of an audit as JUnit XML, which continuous integration shows as tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

from .checks import verdict_words
from .decisions import FAILS, HOLDS, OUTCOMES, UNDECIDED, name_of
from .sanity_outcomes import outcome_shown

NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 cannot hold


class JUnitCase(NamedTuple):
    """One test case of the file: what was tested, where, what came out, and why."""

    group: str
    name: str
    outcome: str  # holds, fails or undecided
    reason: str


def to_junit(summary: Mapping[str, Any]) -> str:
    """A summary as JUnit XML: a test case for each requirement and each sanity check; undecided ones are skipped."""
    cases = [*_requirements(summary), *_sanity_checks(summary)]
    counts = {
        "tests": len(cases),
        "failures": sum(case.outcome == FAILS for case in cases),
        "skipped": sum(case.outcome == UNDECIDED for case in cases),
        "errors": 0,
    }
    attributes = {"name": _clean(f"an8flower {summary['name']}"), **{key: str(n) for key, n in counts.items()}}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    for case in cases:
        _add(suite, case)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _requirements(summary: Mapping[str, Any]) -> Iterator[JUnitCase]:
    for entry in summary.get("requirements") or ():
        yield JUnitCase("requirements", entry["text"], entry["outcome"], entry["reason"])


def _sanity_checks(summary: Mapping[str, Any]) -> Iterator[JUnitCase]:
    """A case for each test of each method on each model."""
    headings = verdict_words()
    for study in summary["studies"]:
        for document in study.get("sanity") or ():
            group = f"sanity.{study['dataset']['name']}.{name_of(document['model'])}"
            for result in document["results"]:
                for key, verdict in result["verdicts"].items():
                    word, reason = outcome_shown(verdict)
                    name = f"{result.get('text') or result['method']}: {headings.get(key, key)}"
                    yield JUnitCase(group, name, OUTCOMES.get(word, UNDECIDED), reason or word)


def _add(suite: ElementTree.Element, case: JUnitCase) -> None:
    element = ElementTree.SubElement(suite, "testcase", {"classname": _clean(case.group), "name": _clean(case.name)})
    if case.outcome != HOLDS:
        kind = "failure" if case.outcome == FAILS else "skipped"
        ElementTree.SubElement(element, kind, {"message": _clean(case.reason)})


def _clean(text: str) -> str:
    return NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
