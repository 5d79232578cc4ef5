"""The section of the page about marks: what the models go by, and which methods would have told so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..results.mark_words import OUTCOMES, SHARES
from .figures import CellValue, Drawing, LegendEntry, NumberTable
from .numbers import DASH, between, between_shares, number, percent
from .plots import Look, PlotLine, lines_plot
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import MethodView, StudyView

SIGNS = {"yes": "yes", "no": "no", "always": "no", "open": "unknown"}  # how an outcome looks, by the style sheet
USE = Look(None, "", "o")  # of the line that methods are held against; controls are grey and dashed
COLUMNS = ("detection rate", "false-alarm rate", "AUROC of use", "AUROC of pixels")


class MethodRow(NamedTuple):
    """What one method shows of the marks: a row of the table."""

    text: str
    sign: str
    outcome: str
    numbers: Sequence[tuple[str, str]]  # a number with its interval, for each column
    sentence: str


class MarkedModel(NamedTuple):
    """One model on marked rows: what it goes by, beside its innocent twin, and what the methods show of it."""

    name: str
    verdict: str
    innocent: str  # the verdict on the twin; empty if there is none
    shares: Sequence[Sequence[str]]
    methods: Sequence[MethodRow]


@add_section
def show_marks(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """What the models go by, and what the methods show; None if no data set has marks."""
    by_study = [(study, [_describe_model(entry) for entry in _marks(study)]) for study in studies if _marks(study)]
    if not by_study:
        return None
    drawing = _draw_doses([study for study, _ in by_study])
    content = {"by_study": by_study, "columns": COLUMNS, "doses": drawing}
    title = "Would this method have told you?"
    return PageSection("marks", title, content, "marks", [drawing] if drawing else [])


def _marks(study: StudyView) -> Sequence[Mapping[str, Any]]:
    return study.document.get("marks") or ()


def _describe_model(entry: Mapping[str, Any]) -> MarkedModel:
    innocent = entry.get("innocent")
    shares = [
        [words, *_share(entry[key]), *(_share(innocent[key]) if innocent else ())] for words, key in SHARES.items()
    ]
    methods = [_method_row(numbers) for numbers in entry["methods"]]
    order = list(OUTCOMES.values())
    methods.sort(key=lambda row: order.index(row.outcome))
    return MarkedModel(
        str(entry["model"]), str(entry["verdict"]), str(innocent["verdict"]) if innocent else "", shares, methods
    )


def _share(share: Mapping[str, Any]) -> tuple[str, str]:
    return percent(share["mean"]), between_shares(share)


def _method_row(numbers: Mapping[str, Any]) -> MethodRow:
    outcome = str(numbers["outcome"])
    rates = [_share(numbers[key]) for key in ("detection", "false_alarm")]
    areas = [
        (number(n["mean"], 2), DASH if n["low"] is None else between(n["low"], n["high"], 2))
        for n in (numbers["auroc"], numbers["map_auroc"])
    ]
    return MethodRow(str(numbers["method"]), SIGNS[outcome], OUTCOMES[outcome], [*rates, *areas], numbers["sentence"])


# --- dose and response ------------------------------------------------------------------------------------------------


def _draw_doses(studies: Sequence[StudyView]) -> Drawing | None:
    """How often maps show the mark, against the agreement in training; None unless there are several agreements."""
    doses = sorted({_dose(entry) for study in studies for entry in _marks(study)})
    if len(doses) < 2:
        return None
    entries = [(_dose(entry), entry) for study in studies for entry in _marks(study)]
    views = {method.text: method for study in studies for method in study.methods}
    series = {text: dict(_means(entries, text)) for text in views}
    used = {dose: _mean([e["uses"]["mean"] for d, e in entries if d == dose]) for dose in doses}
    lines = [PlotLine(len(views), USE, *_points(used))]
    lines += [PlotLine(place, view.look, *_points(series[text])) for place, (text, view) in enumerate(views.items())]
    shown = [line for line in lines if line.x]
    columns = ["agreement in training, %", "the model uses it", *views]
    rows: list[list[CellValue]] = [
        [100 * dose, used[dose], *(series[text].get(dose) for text in views)] for dose in doses
    ]
    caption = (
        "How often maps show the mark, against how often it agreed with the class in training; means over the models. "
        "The solid grey line is the share of the rows in which the models demonstrably use it. The line of a method "
        "should follow it: where it lies above, there are false alarms; where it lies below, the shortcut is missed."
    )
    svg = lines_plot("doses", shown, "agreement in training, %", "share of the rows", within=(0.0, 1.0))
    legend = [LegendEntry(len(views), "the model uses it", USE), *_entries(views)]
    return Drawing("doses", "Dose and response", caption, svg, NumberTable(columns, rows), legend)


def _entries(views: Mapping[str, MethodView]) -> list[LegendEntry]:
    return [LegendEntry(place, text, view.look) for place, (text, view) in enumerate(views.items())]


def _dose(entry: Mapping[str, Any]) -> float:
    return float(entry["agreement"]["train"])


def _means(entries: Sequence[tuple[float, Mapping[str, Any]]], text: str) -> Iterator[tuple[float, float | None]]:
    """The mean over the models of how often a method shows the mark, by the agreement."""
    for dose in dict.fromkeys(dose for dose, _ in entries):
        values = [
            method["shown"]["mean"]
            for at, entry in entries
            for method in entry["methods"]
            if at == dose and method["method"] == text
        ]
        yield dose, _mean(values)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _points(by_dose: Mapping[float, float | None]) -> tuple[list[float], list[float]]:
    points = sorted((100 * dose, value) for dose, value in by_dose.items() if value is not None)
    return [x for x, _ in points], [y for _, y in points]
