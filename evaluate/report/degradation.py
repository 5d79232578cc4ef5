"""The plot of how metrics see a right map get worse: scores of the truth mixed with noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .figures import CellValue, Drawing, LegendEntry, NumberTable
from .plots import PlotLine, choose_looks, lines_plot

CAPTION = (
    "Each line is a metric's mean on the scale where pure noise has 0 and the truth without noise 1, whatever the "
    "metric's direction. A metric that may be believed falls without rising again. Metrics that cannot tell the truth "
    "from noise have no such scale and are left out."
)
SHARE = "share of noise"


def draw_degradation(key: str, tests: Mapping[str, Any], proxies: frozenset[str]) -> Drawing | None:
    """The plot of the proxies of one architecture; None if none of them tells the truth from noise.

    Args:
        key: the name of the plot, unique on the page.
    """
    curves = {name: test["curve"] for name, test in tests["metrics"].items() if name in proxies and test["lost_at"]}
    if not curves:
        return None
    looks = choose_looks([False] * len(curves))
    levels = [step["noise"] for step in next(iter(curves.values()))]
    scaled = {name: scale(curve) for name, curve in curves.items()}
    lines = [
        PlotLine(place, look, levels, line)
        for place, (look, line) in enumerate(zip(looks, scaled.values(), strict=True))
    ]
    rows: list[list[CellValue]] = [
        [name, *(step[column] for column in ("noise", "mean", "low", "high"))]
        for name, curve in curves.items()
        for step in curve
    ]
    shown: list[list[CellValue]] = [
        [level, *(line[place] for line in scaled.values())] for place, level in enumerate(levels)
    ]
    return Drawing(
        key,
        f"The truth mixed with noise, {tests['architecture']}",
        CAPTION,
        lines_plot(key, lines, SHARE, "0 is noise, 1 the truth"),
        NumberTable(["metric", SHARE, "mean", "low", "high"], rows),
        [LegendEntry(place, name, look) for place, (name, look) in enumerate(zip(curves, looks, strict=True))],
        NumberTable([SHARE, *curves], shown),
    )


def scale(curve: list[Mapping[str, Any]]) -> list[float]:
    """The means of a curve on the scale where its last step has 0 and its first 1; NaN where one is undefined.

    >>> scale([{"mean": 3.0}, {"mean": 2.0}, {"mean": None}, {"mean": 1.0}])
    [1.0, 0.5, nan, 0.0]
    """
    means = [float("nan") if step["mean"] is None else float(step["mean"]) for step in curve]
    span = means[0] - means[-1]
    return [(mean - means[-1]) / span if span else float("nan") for mean in means]
