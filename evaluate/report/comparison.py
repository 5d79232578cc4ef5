"""The page of several runs side by side: one HTML file without a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from an8flower.atomic import moved_into

from ..results.change_words import model_of
from ..results.comparison_words import (
    LEFT_OUT_COLUMNS,
    RUN_COLUMNS,
    cell_columns,
    cell_rows,
    count_sentences,
    describe_study,
    left_out_rows,
    letter_of,
    remarks,
    run_rows,
)
from .leaderboard import IntervalBar
from .numbers import number
from .page import page_template, read_part, replace_unprintable, security_policy


class RunBar(NamedTuple):
    """The mean of a run in a plot of bars, with its interval."""

    run: str
    text: str
    bar: IntervalBar | None  # None where the run has no value


class BarGroup(NamedTuple):
    """The bars of one method on one model, a bar for each run."""

    method: str
    model: str
    bars: Sequence[RunBar]


class MetricTable(NamedTuple):
    """All numbers of one metric."""

    metric: str
    better: str
    rows: Sequence[Sequence[str]]


class StudyTables(NamedTuple):
    """A data set on the page."""

    title: str
    sentence: str
    leading: str
    scale: tuple[str, str]  # what the left and the right end of all bars stand for
    groups: Sequence[BarGroup]
    columns: Sequence[str]
    tables: Sequence[MetricTable]  # the leading metric first


def write_comparison(document: Mapping[str, Any], place: Path) -> None:
    """Write the page of a comparison as `compare --json` prints it; the file appears when it is whole."""
    text = render_comparison(document)
    with moved_into(place) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")


def render_comparison(document: Mapping[str, Any]) -> str:
    """The HTML of the page."""
    shown, style = replace_unprintable(document), read_part("page.css") + read_part("comparison.css")
    return page_template("comparison.html.j2").render(
        letters=[letter_of(i) for i in range(len(shown["runs"]))],
        runs=run_rows(shown),
        run_columns=RUN_COLUMNS,
        counts=count_sentences(shown),
        remarks=remarks(shown),
        left_out=left_out_rows(shown),
        left_out_columns=LEFT_OUT_COLUMNS,
        studies=[_tables(study) for study in shown["studies"]],
        style=Markup(style),
        policy=security_policy(style, ""),
    )


def _tables(study: Mapping[str, Any]) -> StudyTables:
    leading = study["leading"]
    metrics = [leading, *(name for name in study["metrics"] if name != leading)]
    cells = [cell for cell in study["cells"] if cell["metric"] == leading]
    low, high = _span(cells)
    return StudyTables(
        study["dataset"]["name"],
        describe_study(study),
        leading,
        (f"{low:.2f}", f"{high:.2f}"),
        [_bars(study, cell, low, high) for cell in cells],
        cell_columns(study),
        [MetricTable(name, _better(study, name), cell_rows(study, name)) for name in metrics],
    )


def _better(study: Mapping[str, Any], metric: str) -> str:
    return "higher is better" if study["higher_is_better"][metric] else "lower is better"


def _ends_of(cells: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    """Every mean, and every end of an interval."""
    for cell in cells:
        for mean in cell["means"]:
            yield from (mean[key] for key in ("mean", "low", "high") if mean is not None and mean[key] is not None)


def _span(cells: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of the scale that all bars share."""
    ends = [0.0, *_ends_of(cells)]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low, low + 1)


def _bars(study: Mapping[str, Any], cell: Mapping[str, Any], low: float, high: float) -> BarGroup:
    bars = [
        RunBar(letter_of(run), number(None if mean is None else mean["mean"]), _bar(mean, low, high))
        for run, mean in zip(study["runs"], cell["means"], strict=True)
    ]
    return BarGroup(cell["method"], model_of(cell), bars)


def _bar(mean: Mapping[str, Any] | None, low: float, high: float) -> IntervalBar | None:
    """The bar of a mean and its interval, in percent of the scale; a bare dot where there is no interval."""
    if mean is None or mean["mean"] is None:
        return None
    ends = [mean["mean"] if mean[key] is None else mean[key] for key in ("low", "high", "mean")]
    start, stop, middle = (round(100 * (end - low) / (high - low), 2) for end in ends)
    return IntervalBar(start, round(stop - start, 2), middle)
