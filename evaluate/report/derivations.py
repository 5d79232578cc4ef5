"""The section of the page about the truth of the model: whether two derivations of what it uses agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .numbers import DASH, between, number
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

COLUMNS = ("model", "mean", "95 % interval", "lowest row", "rows", "passes forwards a row", "without a value")
GOOD = 0.8  # the mean rank correlation from which the two are said to agree


@add_section
def show_derivations(
    studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder
) -> PageSection | None:
    """How far the two derivations agree for each model; None if no metric asked for effect maps."""
    documents = [(study, study.document.get("derivations") or []) for study in studies]
    by_study = [(study, list(map(_row, compared)), _sentence(compared)) for study, compared in documents if compared]
    if not by_study:
        return None
    content = {"by_study": by_study, "columns": COLUMNS, "many": len(studies) > 1}
    return PageSection("derivations", "Is the truth of the model sure?", content, "derivations")


def _row(document: Mapping[str, Any]) -> list[str]:
    """One model as a row of the table."""
    undefined = [f"{count}: {reason}" for reason, count in document["undefined"].items()]
    return [
        document["model"],
        number(document["mean"]),
        between(document["low"], document["high"]),
        number(document["lowest"]),
        f"{document['n']} of {document['rows']}",
        number(document["forwards"], 0),
        "; ".join(undefined) or DASH,
    ]


def _sentence(documents: Sequence[Mapping[str, Any]]) -> str:
    """How many models have derivations that agree, by the mean, and by the lower limit of its interval."""
    known = [document for document in documents if document["mean"] is not None]
    agreeing = sum(document["mean"] >= GOOD for document in known)
    sure = sum(document["low"] is not None and document["low"] >= GOOD for document in known)
    return (
        f"The mean correlation is {GOOD} or more for {agreeing} of {len(documents)} models, "
        f"and its lower limit for {sure}."
    )
