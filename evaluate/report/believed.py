"""The section of the page on metrics: which of them may be believed, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results import metric_words as words
from .degradation import draw_degradation
from .figures import Drawing
from .numbers import DASH, MINUS
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


class BelievedMetrics(NamedTuple):
    """What is said of the metrics of one architecture: sentences, and tables of columns and rows."""

    architecture: str
    about: str
    sentences: Sequence[str]
    taus: Table | None  # of the means, a column for each truth
    details: Sequence[tuple[str, Table]]  # the truth, and all numbers beside it
    tests: Table | None
    test_about: str
    misled: str  # a sentence on metrics that take a map of other pixels for the truth; may be empty
    curves: Drawing | None


@add_section
def show_believed_metrics(
    studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder
) -> PageSection | None:
    """How far metrics order methods as the truths do, and what they make of known maps; None without either."""
    by_study = [(study, _list_metrics(study)) for study in studies]
    by_study = [(study, entries) for study, entries in by_study if entries]
    if not by_study:
        return None
    content = {"by_study": by_study, "adversaries": words.describe_adversaries()}
    drawings = [entry.curves for _, entries in by_study for entry in entries if entry.curves]
    return PageSection("believed", "Which metric may be believed?", content, "believed", drawings)


def _list_metrics(study: StudyView) -> list[BelievedMetrics]:
    """What is said of the metrics of each architecture of a study; nothing if none of its models has a certificate."""
    if not study.document.get("certificates"):
        return []
    agreements = {entry["architecture"]: entry for entry in study.document.get("metric_agreement") or ()}
    tests = {entry["architecture"]: entry for entry in study.document.get("metric_tests") or ()}
    names = enumerate(dict.fromkeys([*agreements, *tests]))
    return [
        _describe(f"believed-{study.key}-{place}", name, agreements.get(name), tests.get(name)) for place, name in names
    ]


def _describe(
    key: str, architecture: str, agreement: Mapping[str, Any] | None, test: Mapping[str, Any] | None
) -> BelievedMetrics:
    """What is said of the metrics of one architecture; the key names its plot."""
    entry = agreement or test or {}
    sentences = _sentences(agreement) if agreement else []
    has_pairs, has_tests = bool(agreement and agreement["pairs"]), bool(test and test["metrics"])
    return BelievedMetrics(
        architecture,
        words.about_words(entry),
        sentences,
        _taus(agreement) if agreement and has_pairs else None,
        _details(agreement) if agreement and has_pairs else [],
        _typeset(words.TEST_COLUMNS, words.known_map_rows(test)) if test and has_tests else None,
        words.about_words(test) if test and has_tests else "",
        words.misled_sentence(test) if test and has_tests else "",
        draw_degradation(key, test, frozenset(agreement["proxies"])) if agreement and test and has_tests else None,
    )


def _sentences(agreement: Mapping[str, Any]) -> list[str]:
    said = [*words.agreement_sentences(agreement), words.anew_sentence(agreement)]
    return [sentence for sentence in (*said, words.truth_sentence(agreement)) if sentence]


def _taus(agreement: Mapping[str, Any]) -> Table:
    truths = [truth["metric"] for truth in agreement["truths"]]
    return _typeset(["metric", *truths], words.wide_rows(agreement))


def _details(agreement: Mapping[str, Any]) -> list[tuple[str, Table]]:
    return [
        (truth["metric"], _typeset(words.AGREEMENT_COLUMNS, words.agreement_rows(agreement, truth["metric"])))
        for truth in agreement["truths"]
    ]


def _typeset(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose numbers have a typographic minus; the first cell of a row is a name and stays as it is."""
    return columns, [[first, *(_with_minus(cell) for cell in cells)] for first, *cells in rows]


def _with_minus(cell: str) -> str:
    """A cell of numbers with typographic minuses.

    >>> _with_minus("-0.50 (-0.60 to -0.20)") == f"{MINUS}0.50 ({MINUS}0.60 to {MINUS}0.20)"
    True
    """
    if cell == "-":
        return DASH
    words_of_cell = cell.replace("(-", f"({MINUS}").split(" ")
    return " ".join(MINUS + word[1:] if word[:1] == "-" and word[1:] else word for word in words_of_cell)
