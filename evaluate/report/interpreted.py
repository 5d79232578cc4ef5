"""What the filters that matter for a class look for, and whether they do matter: the page's section on VEBI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .figures import CellValue, Drawing, LegendEntry, NumberTable
from .pictures import encode_colour
from .plots import PlotLine, choose_looks, lines_plot
from .reading import Arrays, AuditFolder, Missing
from .study import StudyView

MOST = 6  # filters shown for a class: those with the largest weights
NEEDED = {"classes": 1, "layers": 1, "channels": 1, "weights": 1, "averages": 4, "sizes": 2}
NEEDED |= {"counts": 1, "relevant": 1, "random": 2}


class AverageImage(NamedTuple):
    """The average image of one filter: the mean of what it sees where it responds most."""

    name: str
    weight: float
    picture: str


class FilterTable(NamedTuple):
    """The filters of one model, a row for each class, and the accuracy without them."""

    model: str
    classes: Sequence[tuple[str, Sequence[AverageImage]]]
    ablation: Drawing | None


def filter_tables(study: StudyView, source: AuditFolder) -> tuple[list[FilterTable], list[str]]:
    """The filters of all models, and why those of some models cannot be shown."""
    files = [
        (str(entry["model"]), source.arrays(entry["file"], NEEDED)) for entry in study.document.get("filters") or ()
    ]
    tables = [
        FilterTable(model, _classes(study, arrays), _ablation(f"ablation{i}-{study.key}", arrays))
        for i, (model, arrays) in enumerate(files)
        if not isinstance(arrays, Missing)
    ]
    return tables, [f"{model}: {arrays.reason}" for model, arrays in files if isinstance(arrays, Missing)]


def _classes(study: StudyView, arrays: Arrays) -> list[tuple[str, list[AverageImage]]]:
    classes = arrays["classes"].astype(int)
    labels = sorted(set(classes.tolist()))
    return [(study.class_name(label), _strongest_filters(arrays, classes == label)) for label in labels]


def _strongest_filters(arrays: Arrays, of_class: np.ndarray) -> list[AverageImage]:
    places = np.flatnonzero(of_class)
    places = places[np.argsort(-np.abs(arrays["weights"][places]), kind="stable")][:MOST]
    return [_average(arrays, int(place)) for place in places]


def _average(arrays: Arrays, place: int) -> AverageImage:
    height, width = (max(1, int(side)) for side in arrays["sizes"][place])
    name = f"{arrays['layers'][place]} channel {int(arrays['channels'][place])}"
    pixels = np.ascontiguousarray(arrays["averages"][place, :height, :width])
    return AverageImage(name, float(arrays["weights"][place]), encode_colour(pixels))


def _ablation(key: str, arrays: Arrays) -> Drawing | None:
    """The plot of the accuracy without the relevant filters, beside the accuracy without random filters."""
    counts, relevant, random = (arrays[name].astype(float) for name in ("counts", "relevant", "random"))
    if not len(counts) or random.shape[1:] != counts.shape or relevant.shape != counts.shape:
        return None
    relevant_look, random_look = choose_looks([False, True])
    low, mean, high = (np.quantile(random, 0.025, 0), random.mean(0), np.quantile(random, 0.975, 0))
    x = counts.tolist()
    lines = [
        PlotLine(0, relevant_look, x, relevant.tolist()),
        PlotLine(1, random_look, x, mean.tolist(), low.tolist(), high.tolist()),
    ]
    columns = ["filters switched off", "relevant", "random, mean", "random, low", "random, high"]
    rows: list[list[CellValue]] = np.stack([counts, relevant, mean, low, high], 1).tolist()
    caption = (
        "The accuracy, as a mean over the classes, when filters of the network are switched off: the filters that the "
        "method VEBI calls relevant, or as many random ones (with the spread of the draws). The relevant filters "
        "matter if their line falls faster."
    )
    svg = lines_plot(key, lines, "filters switched off", "mean class accuracy")
    entries = [LegendEntry(0, "relevant filters", relevant_look), LegendEntry(1, "random filters", random_look)]
    return Drawing(key, "Without the relevant filters", caption, svg, NumberTable(columns, rows), entries)
