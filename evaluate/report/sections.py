"""What stands on the page, in its order."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .certificates import accuracies, certificates
from .curves import cost, curve, slices
from .figures import Drawing
from .gallery import Shelf, shelves
from .interpreted import filters
from .leaderboard import COLUMNS, best_first, board_data, boards, heat_map
from .numbers import number
from .randomised import sanity
from .reading import Source
from .study import Study
from .trouble import trouble

SAYS = {
    "iou": "A map becomes a mask by a threshold. Which one is right is not known beforehand, so all are shown.",
    "steps": "If a map names the pixels that matter, showing or hiding these first moves the prediction fastest.",
    "cost": "Good explanations may be slow; whether they have to be is seen here.",
    "slices": "A mean over all images can hide where a method breaks down: here the rows are sliced.",
}
CHOOSE = {"slices": "Slice"}


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    content: Mapping[str, Any]
    template: str
    drawings: Sequence[Drawing] = field(default_factory=tuple)
    boards: Mapping[str, Any] = field(default_factory=dict)
    shelves: Sequence[Shelf] = field(default_factory=tuple)
    says: str = ""
    choose: str = ""  # what is chosen where one plot is shown at a time


Builder = Callable[[Sequence[Study], Mapping[str, Any], Source], Section | None]
ADDED: list[Builder] = []
"""The sections that modules of this folder add: each is made from the studies, the summary and the audit's folder."""


def add_section(build: Builder) -> Builder:
    """Decorator that puts a section behind those of what was measured; it is left out where it gives None."""
    ADDED.append(build)
    return build


def _load_modules() -> None:
    """Import every module of this folder, so that those that add a section do so."""
    package = importlib.import_module(str(__package__))
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def sections(studies: Sequence[Study], summary: Mapping[str, Any], source: Source) -> list[Section]:
    """All parts that have content."""
    _load_modules()
    found = [
        _certificates(studies),
        _leaderboard(studies),
        _heat_map(studies),
        *_curves(studies),
        _sanity(studies, source),
        _plots("cost", "Quality against cost", studies, {study.index: [cost(study)] for study in studies}),
        _plots("slices", "Slices", studies, {study.index: slices(study) for study in studies}),
        _gallery(studies, source),
        _filters(studies, source),
        *(build(studies, summary, source) for build in ADDED),
        _printed(summary),
        _trouble(studies, summary),
        _cards(studies),
        _reproduce(summary),
    ]
    return [section for section in found if section is not None]


def _certificates(studies: Sequence[Study]) -> Section:
    found = [(study, certificates(study), accuracies(study)) for study in studies]
    return Section("certificates", "Is there a truth to score against?", {"found": found}, "certificates")


def _leaderboard(studies: Sequence[Study]) -> Section | None:
    found = [(study, boards(study)) for study in studies if study.methods]
    if not found:
        return None
    shown = [
        (study, own, best_first(next(board for board in own if board.metric == study.leading))) for study, own in found
    ]
    data = {study.key: board_data(own) for study, own in found}
    return Section("leaderboard", "Leaderboard", {"found": shown, "columns": COLUMNS}, "leaderboard", boards=data)


def _heat_map(studies: Sequence[Study]) -> Section | None:
    found = [(study, heat_map(study)) for study in studies if study.methods]
    return Section("heat", "Methods by metrics", {"found": found}, "heat") if found else None


def _curves(studies: Sequence[Study]) -> list[Section | None]:
    iou = {study.index: [curve(study, "iou")] for study in studies}
    steps = {study.index: [curve(study, "insertion"), curve(study, "deletion")] for study in studies}
    return [
        _plots("iou", "Overlap against threshold", studies, iou),
        _plots("steps", "Insertion and deletion", studies, steps),
    ]


def _plots(
    key: str, title: str, studies: Sequence[Study], drawn: Mapping[int, Sequence[Drawing | None]]
) -> Section | None:
    """A section of plots; None where there are none at all."""
    found = [(study, [drawing for drawing in drawn[study.index] if drawing]) for study in studies]
    found = [(study, own) for study, own in found if own]
    drawings = [drawing for _, own in found for drawing in own]
    if not found:
        return None
    return Section(key, title, {"found": found}, "plots", drawings, says=SAYS[key], choose=CHOOSE.get(key, ""))


def _sanity(studies: Sequence[Study], source: Source) -> Section | None:
    found = [(study, own) for study in studies if (own := sanity(study, source))]
    drawings = [each.curve for _, own in found for each in own if each.curve]
    return Section("sanity", "Does the map follow the model?", {"found": found}, "sanity", drawings) if found else None


def _gallery(studies: Sequence[Study], source: Source) -> Section | None:
    found = shelves(studies, source)
    shown = [(study, found[study.index]) for study in studies if found[study.index]]
    every = [shelf for _, own in shown for shelf in own]
    return Section("gallery", "Gallery", {"found": shown}, "gallery", shelves=every) if shown else None


def _filters(studies: Sequence[Study], source: Source) -> Section | None:
    found = [(study, *filters(study, source)) for study in studies if study.document.get("filters")]
    drawings = [each.ablation for _, own, _ in found for each in own if each.ablation]
    return Section("filters", "What the filters look for", {"found": found}, "filters", drawings) if found else None


def _printed(summary: Mapping[str, Any]) -> Section | None:
    tables = [{"source": "", "note": "", "correlation": {}, "trends": []} | each for each in summary["printed"] or ()]
    return (
        Section("printed", "Beside the printed numbers", {"tables": tables, "number": number}, "printed")
        if tables
        else None
    )


def _cards(studies: Sequence[Study]) -> Section | None:
    cards = {card["name"]: card for study in studies for card in study.scores.get("cards") or ()}
    return Section("cards", "Metric cards", {"cards": list(cards.values())}, "cards") if cards else None


def _trouble(studies: Sequence[Study], summary: Mapping[str, Any]) -> Section:
    gaps = [(study, trouble(study)) for study in studies]
    failed = [{"cell": "", "method": "", "model": "", "dataset": "", "reason": ""} | each for each in summary["failed"]]
    return Section("trouble", "Failures and gaps", {"gaps": gaps, "failed": failed}, "trouble")


def _reproduce(summary: Mapping[str, Any]) -> Section:
    plan = json.dumps(summary["plan"], indent=2, ensure_ascii=False)
    machine = [(key.replace("_", " "), value or "none") for key, value in summary["machine"].items()]
    return Section("reproduce", "How to reproduce this", {"plan": plan, "machine": machine}, "reproduce")
