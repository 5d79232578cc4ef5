"""The section of the page about tuned methods: what was chosen on validation rows, and what it gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..results.tuned import gain_words
from .figures import CellValue, Drawing, LegendEntry, NumberTable
from .numbers import DASH, between, number
from .plots import PlotLine, choose_looks, lines_plot
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

COLUMNS = (
    *("method", "gain on scored rows", "95 % interval", "so it is", "chosen", "metric"),
    *("on validation rows", "tuned", "validation rows", "trials"),
)
CAPTION = (
    "Each trial is a combination of values, scored on validation rows: 0 is a random map, 1 the truth. Trial 0 is the "
    "method as it is. The second line is the best score up to each trial: the first of the highest was chosen."
)
LINES = ("score of the trial", "best so far")


@add_section
def show_tuned(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """A table of the tuned methods of each data set, and the curve of each search; None if nothing was tuned."""
    by_study = []
    for study in studies:
        documents = study.document.get("tuned") or []
        searched = [document for document in documents if "chosen" in document]
        curves = [draw_trials(f"tuned-{study.key}-{n}", document) for n, document in enumerate(searched)]
        reasons = [f"{document['text']}: {document['reason']}" for document in documents if "reason" in document]
        if documents:
            by_study.append((study, list(map(_row, searched)), curves, reasons))
    if not by_study:
        return None
    drawings = [drawing for _, _, curves, _ in by_study for drawing in curves]
    return PageSection("tuned", "What does tuning gain?", {"by_study": by_study, "columns": COLUMNS}, "tuned", drawings)


def _row(document: Mapping[str, Any]) -> list[str]:
    """One tuned method as a row of the table."""
    search, gain, trials = document["search"], document.get("gain"), document["trials"]
    return [
        document["text"],
        number(gain["calibrated"]) if gain else DASH,
        between(gain["low"], gain["high"]) if gain else DASH,
        gain_words(gain) if gain else "unknown",
        "the same" if document["tuned"] == document["text"] else document["tuned"],
        document["metric"],
        number(trials[0]["calibrated"]),
        number(document["chosen"]["calibrated"]),
        str(search["rows"]),
        f"{len(trials)}, {'all combinations' if search['by'] == 'grid' else 'TPE'}",
    ]


def draw_trials(key: str, document: Mapping[str, Any]) -> Drawing:
    """The curve of one search: the score of each trial, and the best score up to it."""
    trials, looks = document["trials"], choose_looks([True, False])
    scores, best = ([_to_float(trial[name]) for trial in trials] for name in ("calibrated", "best"))
    steps = [place for place in range(len(trials)) for _ in range(2)][1:]  # a score holds until a better one comes
    lines = [
        PlotLine(0, looks[0], range(len(trials)), scores),
        PlotLine(1, looks[1], steps, [score for score in best for _ in range(2)][:-1]),
    ]
    rows: list[list[CellValue]] = [
        [trial["number"], trial["text"], *(trial[name] for name in ("calibrated", "low", "high", "best"))]
        for trial in trials
    ]
    return Drawing(
        key,
        f"The search for {document['text']}",
        CAPTION,
        lines_plot(key, lines, "trial", f"{document['metric']}, calibrated", within=()),
        NumberTable(["trial", "method", "calibrated", "low", "high", "best so far"], rows),
        [LegendEntry(place, name, look) for place, (name, look) in enumerate(zip(LINES, looks, strict=True))],
    )


def _to_float(value: float | None) -> float:
    return float("nan") if value is None else value
