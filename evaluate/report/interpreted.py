"""VEBI on the page: what the filters that matter for a class look for, and whether they do matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .figures import Cell, Drawing, Entry, Table
from .pictures import colour
from .plots import Line, lines_plot, looks
from .reading import Arrays, Missing, Source
from .study import Study

MOST = 6  # filters shown for a class: those with the largest weights
NEEDED = {"classes": 1, "layers": 1, "channels": 1, "weights": 1, "averages": 4, "sizes": 2}
NEEDED |= {"counts": 1, "relevant": 1, "random": 2}


class Average(NamedTuple):
    """What a filter looks for."""

    name: str
    weight: float
    picture: str


class Filters(NamedTuple):
    """The filters of one model."""

    model: str
    classes: Sequence[tuple[str, Sequence[Average]]]
    ablation: Drawing | None


def filters(study: Study, source: Source) -> tuple[list[Filters], list[str]]:
    """The filters of all models, and why some cannot be shown."""
    entries = study.document.get("filters") or ()
    found = [(entry, source.arrays(entry["file"], NEEDED)) for entry in entries]
    shown = [
        Filters(str(entry["model"]), _classes(study, own), _ablation(f"ablation{i}-{study.key}", own))
        for i, (entry, own) in enumerate(found)
        if not isinstance(own, Missing)
    ]
    return shown, [f"{entry['model']}: {own.reason}" for entry, own in found if isinstance(own, Missing)]


def _classes(study: Study, found: Arrays) -> list[tuple[str, list[Average]]]:
    classes = found["classes"].astype(int)
    return [(study.class_name(label), _strongest(found, classes == label)) for label in sorted(set(classes.tolist()))]


def _strongest(found: Arrays, where: np.ndarray) -> list[Average]:
    places = np.flatnonzero(where)
    places = places[np.argsort(-np.abs(found["weights"][places]), kind="stable")][:MOST]
    return [_average(found, int(place)) for place in places]


def _average(found: Arrays, place: int) -> Average:
    height, width = (max(1, int(side)) for side in found["sizes"][place])
    name = f"{found['layers'][place]} channel {int(found['channels'][place])}"
    pixels = np.ascontiguousarray(found["averages"][place, :height, :width])
    return Average(name, float(found["weights"][place]), colour(pixels))


def _ablation(key: str, found: Arrays) -> Drawing | None:
    """Accuracy without the relevant filters beside that without random ones."""
    counts, relevant, random = (found[name].astype(float) for name in ("counts", "relevant", "random"))
    if not len(counts) or random.shape[1:] != counts.shape or relevant.shape != counts.shape:
        return None
    mine, chance = looks([False, True])
    low, mean, high = (np.quantile(random, 0.025, 0), random.mean(0), np.quantile(random, 0.975, 0))
    x = counts.tolist()
    lines = [Line(0, mine, x, relevant.tolist()), Line(1, chance, x, mean.tolist(), low.tolist(), high.tolist())]
    columns = ["filters switched off", "relevant", "random, mean", "random, low", "random, high"]
    rows: list[list[Cell]] = np.stack([counts, relevant, mean, low, high], 1).tolist()
    says = (
        "Accuracy, as a mean over the classes, when filters are switched off: those that VEBI calls relevant, and as "
        "many random ones (with the spread of the draws). Relevant filters matter where their line falls faster."
    )
    svg = lines_plot(key, lines, "filters switched off", "mean class accuracy")
    entries = [Entry(0, "relevant filters", mine), Entry(1, "random filters", chance)]
    return Drawing(key, "Without the relevant filters", says, svg, Table(columns, rows), entries)
