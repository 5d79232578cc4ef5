"""The picture of a search for the values of a method's parameters: each trial, and the best up to it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plots import SIZE

DOT, LINE, MUTED = "#7a8aa0", "#1f5fa8", "#777777"


def draw_search(document: Mapping[str, Any]) -> bytes:
    """The PNG of a search: calibrated scores with their 95 % intervals by trial, and the best score up to each trial.

    Args:
        document: as `an8flower tune --json` prints it.
    """
    trials = document["trials"]
    scored = [trial for trial in trials if trial["calibrated"] is not None]
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=SIZE, dpi=160, layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(trials[0]["calibrated"] or 0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), label="untuned")
        for trial in scored:
            ends = [trial[end] if trial[end] is not None else trial["calibrated"] for end in ("low", "high")]
            axes.plot([trial["number"]] * 2, ends, color=DOT, linewidth=1, alpha=0.6)
        axes.plot([t["number"] for t in scored], [t["calibrated"] for t in scored], "o", color=DOT, ms=4, label="trial")
        best = [(trial["number"], trial["best"]) for trial in trials if trial["best"] is not None]
        axes.step(*zip(*best, strict=True), where="post", color=LINE, linewidth=1.6, label="best so far")
        axes.set_xlabel("trial")
        axes.set_ylabel(f"{document['metric']}, calibrated")
        axes.set_title(f"{document['text']}, {document['search']['rows']} rows of {document['search']['split']}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
