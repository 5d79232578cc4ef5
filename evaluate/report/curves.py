"""Plots of a data set: curves over a threshold or over steps, quality against cost, slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import CellValue, Drawing, LegendEntry, NumberTable
from .numbers import calibrated_interval
from .plots import PlotDot, PlotLine, dots_plot, lines_plot
from .study import MethodView, StudyView

READ_AT = 11  # places of a curve that are shown as numbers on the page; the download has all
HOW_TO_READ = {
    "iou": "Each line is a method: how well the pixels above a threshold of its map cover the evidence, for every "
    "threshold. A high and broad hump is good: the threshold then hardly matters.",
    "insertion": "Pixels appear in the order of the map, most important first: a good map brings the class back early, "
    "so its line rises steeply.",
    "deletion": "Pixels are removed in the order of the map, most important first: a good map loses the class early, "
    "so its line falls steeply.",
}


def draw_curve(study: StudyView, name: str) -> Drawing | None:
    """The plot of one curve of all methods; None if the audit has no such curve."""
    curves = study.document.get("curves") or {}
    # The key may have options, as in insertion:steps=14.
    curve = next((curves[key] for key in curves if key.partition(":")[0] == name), None)
    if not curve or not curve.get("methods"):
        return None
    shown = [(study.by_text[text], values) for text, values in curve["methods"].items() if text in study.by_text]
    key = f"{name}-{study.key}"
    svg = lines_plot(key, [_line(method, curve["x"], values) for method, values in shown], *_axis_titles(curve))
    step = max(1, (len(curve["x"]) - 1) // (READ_AT - 1))
    places = range(0, len(curve["x"]), step)
    few = NumberTable(
        [curve["x_title"], *(method.text for method, _ in shown)],
        [[curve["x"][i], *(values["mean"][i] for _, values in shown)] for i in places],
    )
    return Drawing(key, curve["title"], HOW_TO_READ.get(name, ""), svg, _curve_table(curve, shown), legend(shown), few)


def legend(shown: Sequence[tuple[MethodView, Any]]) -> list[LegendEntry]:
    """The legend of a plot: the name and the look of each method in it."""
    return [LegendEntry(method.place, method.text, method.look) for method, _ in shown]


def _axis_titles(curve: Mapping[str, Any]) -> tuple[str, str]:
    return str(curve["x_title"]), str(curve["y_title"])


def _line(method: MethodView, x: Sequence[float], values: Mapping[str, Any]) -> PlotLine:
    ends = [_to_floats(values[end]) if values.get(end) else None for end in ("low", "high")]
    return PlotLine(method.place, method.look, x, _to_floats(values["mean"]), *ends)


def _to_floats(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _curve_table(curve: Mapping[str, Any], shown: Sequence[tuple[MethodView, Any]]) -> NumberTable:
    rows: list[list[CellValue]] = [
        [method.text, x, *(values[end][i] if values.get(end) else None for end in ("mean", "low", "high"))]
        for method, values in shown
        for i, x in enumerate(curve["x"])
    ]
    return NumberTable(["method", curve["x_title"], "mean", "low", "high"], rows)


def draw_cost(study: StudyView) -> Drawing | None:
    """The plot of quality against milliseconds per image; None if no method has both."""
    metric = study.leading
    dots = [dot for method in study.methods if metric and (dot := _dot(method, metric))]
    if not dots:
        return None
    key = f"cost-{study.key}"
    shown = [(study.methods[dot.place], dot) for dot in dots]
    rows: list[list[CellValue]] = [[method.text, dot.x, dot.y, dot.low, dot.high] for method, dot in shown]
    caption = (
        f"Each mark is a method: further up it explains better by {metric} (0 is a random map, 1 is the truth; the "
        "line is the 95 % interval), further left it is faster. The best bargains lie at the top left."
    )
    svg = dots_plot(key, dots, "milliseconds per image", f"{metric}, calibrated")
    table = NumberTable(["method", "ms per image", "calibrated", "low", "high"], rows)
    return Drawing(key, "Quality against cost", caption, svg, table, legend(shown), markers=True)


def _dot(method: MethodView, metric: str) -> PlotDot | None:
    place = calibrated_interval(method.result["metrics"].get(metric, {}))
    seconds = (method.result.get("cost") or {}).get("seconds")
    if place is None or not seconds:
        return None
    return PlotDot(method.place, method.look, 1000 * seconds, *place)


def draw_slices(study: StudyView) -> list[Drawing]:
    """A plot for each way to slice the rows: by the leading metric if it was sliced, else by the first that was."""
    slices: Mapping[str, Any] = study.document.get("slices") or {}
    if not slices or not study.methods:
        return []
    metric = study.leading if study.leading in slices else None
    metric = metric or next(iter(slices))
    kinds = list(dict.fromkeys(part["slice"] for part in slices[metric]))
    return [_draw_slice(study, metric, kind, [p for p in slices[metric] if p["slice"] == kind]) for kind in kinds]


def _draw_slice(study: StudyView, metric: str, kind: str, parts: Sequence[Mapping[str, Any]]) -> Drawing:
    methods = [method for method in study.methods if any(method.text in part["methods"] for part in parts)]
    calibrated = any(part["methods"].get(m.text, {}).get("calibrated") is not None for part in parts for m in methods)
    shown = "calibrated" if calibrated else "mean"
    values = {m.place: [part["methods"].get(m.text, {}).get(shown) for part in parts] for m in methods}
    lines = [PlotLine(m.place, m.look, range(len(parts)), _to_floats(values[m.place])) for m in methods]
    key = f"slice-{re.sub('[^a-z]', '', kind.lower())}-{study.key}"
    ticks = [str(part["value"]) for part in parts]
    svg = lines_plot(key, lines, kind, f"{metric}, {shown}", ticks=ticks)
    columns = ["method", kind, "rows", "mean", "low", "high", "calibrated"]
    rows: list[list[CellValue]] = [
        [m.text, part["value"], part["rows"], *(part["methods"].get(m.text, {}).get(name) for name in columns[3:])]
        for m in methods
        for part in parts
    ]
    caption = (
        f"Each line is a method: its {metric} over the images of each {kind}. A line that falls or jumps names the "
        "images for which the method should not be trusted."
    )
    few = NumberTable(
        [kind, "rows", *(m.text for m in methods)],
        [[p["value"], p["rows"], *(values[m.place][i] for m in methods)] for i, p in enumerate(parts)],
    )
    return Drawing(key, f"By {kind}", caption, svg, NumberTable(columns, rows), legend([(m, 0) for m in methods]), few)
