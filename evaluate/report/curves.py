"""Plots of a data set: curves over a threshold or over steps, quality against cost, slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import Cell, Drawing, Entry, Table
from .numbers import scaled
from .plots import Dot, Line, dots_plot, lines_plot
from .study import Method, Study

READ_AT = 11  # places of a curve that are shown as numbers on the page; the download has all
SAYS = {
    "iou": "Each line is a method: how well the pixels above a threshold of its map cover the evidence, for every "
    "threshold. A high and broad hump is good: the threshold then hardly matters.",
    "insertion": "Pixels appear in the order of the map, most important first: a good map brings the class back early, "
    "so its line rises steeply.",
    "deletion": "Pixels are removed in the order of the map, most important first: a good map loses the class early, "
    "so its line falls steeply.",
}


def curve(study: Study, name: str) -> Drawing | None:
    """A curve of all methods; None where the audit has none."""
    curves = study.document.get("curves") or {}
    found = next((curves[key] for key in curves if key.partition(":")[0] == name), None)  # insertion:steps=14 as well
    if not found or not found.get("methods"):
        return None
    shown = [(study.by_text[text], values) for text, values in found["methods"].items() if text in study.by_text]
    key = f"{name}-{study.key}"
    svg = lines_plot(key, [_line(method, found["x"], values) for method, values in shown], *_axis_titles(found))
    step = max(1, (len(found["x"]) - 1) // (READ_AT - 1))
    places = range(0, len(found["x"]), step)
    few = Table(
        [found["x_title"], *(method.text for method, _ in shown)],
        [[found["x"][i], *(values["mean"][i] for _, values in shown)] for i in places],
    )
    return Drawing(key, found["title"], SAYS.get(name, ""), svg, _curve_table(found, shown), legend(shown), few)


def legend(shown: Sequence[tuple[Method, Any]]) -> list[Entry]:
    """Who is who in a plot of these methods."""
    return [Entry(method.place, method.text, method.look) for method, _ in shown]


def _axis_titles(found: Mapping[str, Any]) -> tuple[str, str]:
    return str(found["x_title"]), str(found["y_title"])


def _line(method: Method, x: Sequence[float], values: Mapping[str, Any]) -> Line:
    ends = [_known(values[end]) if values.get(end) else None for end in ("low", "high")]
    return Line(method.place, method.look, x, _known(values["mean"]), *ends)


def _known(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _curve_table(found: Mapping[str, Any], shown: Sequence[tuple[Method, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [method.text, x, *(values[end][i] if values.get(end) else None for end in ("mean", "low", "high"))]
        for method, values in shown
        for i, x in enumerate(found["x"])
    ]
    return Table(["method", found["x_title"], "mean", "low", "high"], rows)


def cost(study: Study) -> Drawing | None:
    """Quality against milliseconds per image; None where nothing has both."""
    metric = study.leading
    dots = [dot for method in study.methods if metric and (dot := _dot(method, metric))]
    if not dots:
        return None
    key = f"cost-{study.key}"
    shown = [(study.methods[dot.place], dot) for dot in dots]
    rows: list[list[Cell]] = [[method.text, dot.x, dot.y, dot.low, dot.high] for method, dot in shown]
    says = (
        f"Each mark is a method: further up it explains better by {metric} (0 is chance, 1 the truth; the line is the "
        "95 % interval), further left it is faster. The best bargains lie at the top left."
    )
    svg = dots_plot(key, dots, "milliseconds per image", f"{metric}, calibrated")
    table = Table(["method", "ms per image", "calibrated", "low", "high"], rows)
    return Drawing(key, "Quality against cost", says, svg, table, legend(shown), markers=True)


def _dot(method: Method, metric: str) -> Dot | None:
    place = scaled(method.result["metrics"].get(metric, {}))
    seconds = (method.result.get("cost") or {}).get("seconds")
    if place is None or not seconds:
        return None
    return Dot(method.place, method.look, 1000 * seconds, *place)


def slices(study: Study) -> list[Drawing]:
    """A plot for each way to slice the rows, by the leading metric where it was sliced, else by the first."""
    found: Mapping[str, Any] = study.document.get("slices") or {}
    if not found or not study.methods:
        return []
    metric = study.leading if study.leading in found else None
    metric = metric or next(iter(found))
    kinds = list(dict.fromkeys(each["slice"] for each in found[metric]))
    return [_sliced(study, metric, kind, [e for e in found[metric] if e["slice"] == kind]) for kind in kinds]


def _sliced(study: Study, metric: str, kind: str, parts: Sequence[Mapping[str, Any]]) -> Drawing:
    methods = [method for method in study.methods if any(method.text in part["methods"] for part in parts)]
    calibrated = any(part["methods"].get(m.text, {}).get("calibrated") is not None for part in parts for m in methods)
    what = "calibrated" if calibrated else "mean"
    lines = [
        Line(m.place, m.look, range(len(parts)), _known([part["methods"].get(m.text, {}).get(what) for part in parts]))
        for m in methods
    ]
    key = f"slice-{re.sub('[^a-z]', '', kind.lower())}-{study.key}"
    ticks = [str(part["value"]) for part in parts]
    svg = lines_plot(key, lines, kind, f"{metric}, {what}", ticks=ticks)
    columns = ["method", kind, "rows", "mean", "low", "high", "calibrated"]
    rows: list[list[Cell]] = [
        [m.text, part["value"], part["rows"], *(part["methods"].get(m.text, {}).get(name) for name in columns[3:])]
        for m in methods
        for part in parts
    ]
    says = (
        f"Each line is a method: its {metric} over the rows of a slice by {kind}. A line that falls or jumps names the "
        "images for which the method should not be trusted."
    )
    few = Table(
        [kind, "rows", *(m.text for m in methods)],
        [[p["value"], p["rows"], *(p["methods"].get(m.text, {}).get(what) for m in methods)] for p in parts],
    )
    return Drawing(key, f"By {kind}", says, svg, Table(columns, rows), legend([(m, 0) for m in methods]), few)
