"""The section of the page about removing and retraining: what networks learn without the pixels of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .numbers import between, percent
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView


@add_section
def show_roar(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """The accuracies of networks trained anew, a table for each model; None if the plan did not ask."""
    by_study = [(study, _tables(entries)) for study in studies if (entries := study.document.get("roar"))]
    if not by_study:
        return None
    content = {"by_study": by_study, "many": len(studies) > 1}
    return PageSection("roar", "What is learnt without these pixels?", content, "roar")


def _tables(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Model, columns and rows of each table, the methods that take away most first."""
    tables = []
    for model in dict.fromkeys(entry["model"] for entry in entries):
        of_model = sorted((e for e in entries if e["model"] == model), key=lambda entry: entry["mean"])
        shares = [point["share"] for point in of_model[0]["points"]]
        columns = ["method", "mean", *(f"{percent(share, 0)} removed" for share in shares)]
        tables.append((model, columns, list(map(_row, of_model))))
    return tables


def _row(entry: Mapping[str, Any]) -> list[str]:
    """One method as a row of the table: accuracies, each with its interval."""
    cells = [f"{percent(point['accuracy'])} ({_ends(point)})" for point in entry["points"]]
    return [entry["method"], percent(entry["mean"]), *cells]


def _ends(point: Mapping[str, Any]) -> str:
    """The interval of an accuracy, in percent."""
    return between(100 * point["low"], 100 * point["high"], 0)
