"""The section of the page about what has changed since an earlier audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..results.change_words import count_changes, list_changes, lone_cells, model_of
from ..results.changes import EQUAL, UNTOLD
from .numbers import DASH, between, number
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

COLUMNS = ("method", "metric", "model", "data set", "outcome", "then", "now", "difference", "95 % interval", "p (Holm)")


@add_section
def show_changes(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """Each cell that is better or worse, and all cells by the leading metrics; None if nothing was compared."""
    against = summary.get("against")
    if not against:
        return None
    leading = list(dict.fromkeys(metric for study in studies for metric in study.all_leading))
    content = {
        "against": against,
        "sentence": count_changes(against),
        "columns": [*COLUMNS, "rows"],
        "changed": [_row(change) for change in list_changes(against)],
        "leading": leading,
        "others": [_row(change) for change in list_changes(against, (UNTOLD, EQUAL), leading)],
        "sentences": [f"{text[0].upper()}{text[1:]}." for text in lone_cells(against)] + list(against["notes"]),
    }
    return PageSection("changes", "What has changed", content, "changes")


def _row(change: Mapping[str, Any]) -> list[str]:
    rows = str(change["n"]) if change["by"] == "rows" else DASH
    numbers = [number(change[key]) for key in ("before", "now", "difference")]
    return [
        *(str(text) for text in (change["method"], change["metric"], model_of(change), change["dataset"])),
        change["outcome"],
        *numbers,
        between(change["low"], change["high"]),
        number(change["p_holm"]),
        rows,
    ]
