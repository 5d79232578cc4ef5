"""The section of the page on sanity checks: verdicts, the similarity of maps down the cascade, and the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..results.checks import verdict_words
from ..results.sanity_outcomes import PRIMARY, is_early, outcome_shown
from ..results.wording import model_words, open_reasons, scale_words
from .curves import legend
from .figures import CellValue, Drawing, NumberTable
from .numbers import DASH, number
from .pictures import encode_colour, encode_heat
from .plots import PlotLine, lines_plot
from .reading import AuditFolder, Missing
from .study import MethodView, StudyView

NAMED = 10  # steps that have room for their names
NEEDED = {"image": 3, "steps": 1, "maps": 3, "similarity": 1}


class VerdictCell(NamedTuple):
    """The outcome of a test of a method: pass, fail, undecided, no verdict or a dash, with the similarity behind it."""

    outcome: str
    similarity: str  # on the scale, with its interval
    raw: str = ""  # as it is, between that of other pictures and 1


class WalkFrame(NamedTuple):
    """One map of the cascade, in which layers are randomised one after the other."""

    step: str
    picture: str
    similarity: str  # to the map of the trained network


class Walk(NamedTuple):
    """The maps of one image while the network is randomised from its last layer down."""

    method: str
    image: str
    frames: Sequence[WalkFrame]


class SanityTable(NamedTuple):
    """The table of the sanity checks of all methods on one model."""

    model: str
    about: str
    tests: Sequence[str]
    verdicts: Sequence[tuple[str, bool, Sequence[VerdictCell]]]  # method, whether a control, by test
    curve: Drawing | None
    walks: Sequence[Walk]
    missing: Sequence[str]
    reasons: Sequence[str]  # why tests have no verdict


def sanity_tables(study: StudyView, source: AuditFolder) -> list[SanityTable]:
    """The tables of the sanity checks, one for each model of a data set."""
    documents = study.document.get("sanity") or ()
    return [_of_model(study, i, document, source) for i, document in enumerate(documents)]


def _of_model(study: StudyView, place: int, document: Mapping[str, Any], source: AuditFolder) -> SanityTable:
    results, words = document["results"], verdict_words()
    tests = [test for test in words if any(test in result["verdicts"] for result in results)]
    named = [(_method(study, result), result) for result in results]
    verdicts = [
        (_text(result), bool(method and method.control), [_verdict(result["verdicts"].get(test)) for test in tests])
        for method, result in named
    ]
    walks = [_walk(_text(result), result["pictures"], source) for result in results if result.get("pictures")]
    model = document["model"]
    draws = (document.get("plan") or {}).get("draws")
    times = f" {draws} times, and each row is explained with one of these draws" if draws else ""
    about = (
        f"{document['dataset']['rows']} rows; {document['coverage']['share']:.0%} of the network is drawn anew{times}"
    )
    return SanityTable(
        model_words(model),
        about.replace("%", " %"),
        [words[test] for test in tests],
        verdicts,
        _curve(f"sanity{place}-{study.key}", named),
        [walk for walk in walks if isinstance(walk, Walk)],
        [walk.reason for walk in walks if isinstance(walk, Missing)],
        [*open_reasons(results), *filter(None, [_labels(document)])],
    )


def _labels(document: Mapping[str, Any]) -> str:
    reason = (document.get("labels") or {}).get("reason")
    return f"permuted labels: {reason}" if reason else ""


def _text(result: Mapping[str, Any]) -> str:
    return str(result.get("text") or result["method"])


def _method(study: StudyView, result: Mapping[str, Any]) -> MethodView | None:
    named = study.by_text.get(_text(result))
    return named or next((m for m in study.methods if m.result["method"] == result["method"]), None)


def _verdict(result: Mapping[str, Any] | None) -> VerdictCell:
    if result is None:
        return VerdictCell(DASH, "")
    outcome = outcome_shown(result)[0]
    return VerdictCell(outcome, "", "") if is_early(result) else VerdictCell(outcome, *scale_words(result))


def _curve(key: str, named: Sequence[tuple[MethodView | None, Mapping[str, Any]]]) -> Drawing | None:
    """The plot of how alike the maps are while layers are randomised; None if no method has such a curve."""
    shown = [(method, points) for method, result in named if method and (points := result["curves"].get("cascading"))]
    if not shown:
        return None
    longest = max((points for _, points in shown), key=len)
    layers = ["trained", *(str(point["layer"]) for point in longest)]
    lines = [_line(method, points) for method, points in shown]
    rows: list[list[CellValue]] = [
        [method.text, step, layer, *(point[end] for end in ("mean", "low", "high", "undefined"))]
        for method, points in shown
        for step, (layer, point) in enumerate(((str(p["layer"]), p[PRIMARY]) for p in points), 1)
    ]
    by_layer = NumberTable(
        ["randomised down to", *(method.text for method, _ in shown)],
        [[layer, *(_at(points, i) for _, points in shown)] for i, layer in enumerate(layers)],
    )
    caption = (
        "Each line is a method: how alike its map is to that of the trained network (1 = the same) while layers are "
        "drawn anew one after the other, from the last to the first. The line of a method that follows the model "
        "falls; one that stays up shows the image, not the model."
    )
    ticks = layers if len(layers) <= NAMED else ()
    svg = lines_plot(key, lines, "layers drawn anew, from the last", "Spearman |map|", ticks=ticks, within=(0.0, 1.0))
    columns = ["method", "step", "randomised down to", "mean", "low", "high", "undefined"]
    numbers = NumberTable(columns, rows)
    return Drawing(key, "Similarity down the cascade", caption, svg, numbers, legend(shown), by_layer)


def _line(method: MethodView, points: Sequence[Mapping[str, Any]]) -> PlotLine:
    y, low, high = ([1.0, *(_nan_if_none(point[PRIMARY][end]) for point in points)] for end in ("mean", "low", "high"))
    return PlotLine(method.place, method.look, range(len(points) + 1), y, low, high)


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else value


def _at(points: Sequence[Mapping[str, Any]], step: int) -> float | None:
    if step == 0:
        return 1.0
    return points[step - 1][PRIMARY]["mean"] if step <= len(points) else None


def _walk(method: str, file: object, source: AuditFolder) -> Walk | Missing:
    arrays = source.arrays(file, NEEDED)
    if isinstance(arrays, Missing):
        return Missing(f"{method}: {arrays.reason}")
    image, steps, maps = arrays["image"], arrays["steps"], arrays["maps"]
    if image.dtype != np.uint8 or len(steps) != len(maps) or image.shape[-1] != 3:
        return Missing(f"{method}: the arrays of {file} do not fit each other")
    frames = [
        WalkFrame(str(step), encode_heat(values), DASH if np.isnan(alike) else number(float(alike), 2))
        for step, values, alike in zip(steps, maps, arrays["similarity"], strict=False)
    ]
    return Walk(method, encode_colour(image), frames)
