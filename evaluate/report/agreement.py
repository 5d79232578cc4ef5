"""The section of the page about stability: whether maps of a method agree where models and evidence do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .numbers import DASH, between, number
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

KINDS = {"seeds": "Between models of several seeds", "nuisance": "Between scenes in other colours"}
COLUMNS = (
    *("method", "architecture", "outcome", "0 other rows, 1 the same map", "95 % interval"),
    *("rank correlation", "of other rows", "largest pixels in common", "of other rows", "rows", "note"),
)
EFFECTS = "(what the models use)"
OUTCOMES = ("unstable", "undecided", "unknown", "stable")  # in the order of the tables


@add_section
def show_agreement(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """The agreement of the maps of each method, a table for each kind; None if the plan did not ask."""
    by_study = [(study, _tables(entries)) for study in studies if (entries := study.document.get("agreement"))]
    if not by_study:
        return None
    content = {"by_study": by_study, "columns": COLUMNS, "many": len(studies) > 1}
    return PageSection("agreement", "Do maps agree where models do?", content, "agreement")


def _tables(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[list[str]], list[str]]]:
    """Title, sentence, rows and reasons of each kind of comparison."""
    tables = []
    for kind, title in KINDS.items():
        of_kind = [entry for entry in entries if entry["kind"] == kind]
        shown = sorted((e for e in of_kind if e.get("rank")), key=_place)
        reasons = list(dict.fromkeys(f"{e['architecture']}: {e['reason']}" for e in of_kind if not e.get("rank")))
        tables.append((title, _sentence(shown), list(map(_row, shown)), reasons))
    return tables


def _place(entry: Mapping[str, Any]) -> tuple[bool, int]:
    """The place of an entry in its table: the models themselves first, then what is unstable."""
    return entry["method"] is not None, OUTCOMES.index(entry["outcome"])


def _sentence(entries: Sequence[Mapping[str, Any]]) -> str:
    """Which methods are unstable, and on which architecture."""
    unstable = [entry for entry in entries if entry["outcome"] == "unstable" and entry["method"]]
    names = [f"{entry['method']} on {entry['architecture']}" for entry in unstable]
    if names:
        return f"Unstable: {', '.join(names)}. The maps differ, although models and evidence agree."
    return "No method is shown to be unstable." if entries else ""


def _row(entry: Mapping[str, Any]) -> list[str]:
    """One method on one architecture as a row of the table."""
    rank, overlap, scaled = entry["rank"], entry["overlap"], entry["scaled"]
    return [
        entry["method"] or EFFECTS,
        entry["architecture"],
        entry["outcome"],
        number(scaled["mean"], 2),
        between(scaled["low"], scaled["high"], 2),
        number(rank["mean"], 2),
        number(rank["others"], 2),
        number(overlap["mean"], 2),
        number(overlap["others"], 2),
        str(entry["rows"]),
        entry["reason"] or DASH,
    ]
