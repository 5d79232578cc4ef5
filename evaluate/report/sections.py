"""The sections of the page in their order: which content, which template, which data for the script."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .boards import BoardView, boards_of
from .certificates import accuracy_rows, certificate_rows
from .curves import draw_cost, draw_curve, draw_slices
from .figures import Drawing
from .gallery import GalleryTable, gallery_tables
from .interpreted import filter_tables
from .leaderboard import COLUMNS, board_data, heat_map, leaderboards, leading_board, sort_best_first
from .numbers import between, number
from .randomised import sanity_tables
from .reading import AuditFolder
from .study import StudyView
from .trouble import list_gaps

INTRODUCTIONS = {
    "iou": "A map becomes a mask by a threshold. Nobody knows beforehand which threshold is right, so all are shown.",
    "steps": "If a map names the pixels that matter, showing or hiding these first moves the prediction fastest.",
    "cost": "Good explanations may be slow; this plot shows whether they have to be.",
    "slices": "A mean over all images can hide where a method breaks down, so here the images are split into groups.",
}
CHOOSE = {"slices": "Slice"}


@dataclass(frozen=True)
class PageSection:
    """One section of the page: its title, its template, and everything that the template and the script need."""

    key: str
    title: str
    content: Mapping[str, Any]
    template: str
    drawings: Sequence[Drawing] = field(default_factory=tuple)
    boards: Mapping[str, Any] = field(default_factory=dict)
    galleries: Sequence[GalleryTable] = field(default_factory=tuple)
    introduction: str = ""
    choose: str = ""  # the label of the menu, if only one plot is shown at a time
    leads: bool = False  # whether it stands before all others


Builder = Callable[[Sequence[StudyView], Mapping[str, Any], AuditFolder], PageSection | None]
ADDED: list[Builder] = []
"""The sections that modules of this folder add: each is made from the studies, the summary and the audit's folder."""


def add_section(build: Builder) -> Builder:
    """Decorator that adds a section to the page, after the built-in results; a builder that returns None adds none."""
    ADDED.append(build)
    return build


def _load_modules() -> None:
    """Import every module of this folder, so that those that add a section do so."""
    package = importlib.import_module(str(__package__))
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def build_sections(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> list[PageSection]:
    """All sections of the page that have content, in their order."""
    _load_modules()
    candidates = [
        _certificates(studies),
        _leaderboard(studies),
        _heat_map(studies),
        *_curves(studies),
        _sanity(studies, source),
        _plots("cost", "Quality against cost", studies, {study.index: [draw_cost(study)] for study in studies}),
        _plots("slices", "Slices", studies, {study.index: draw_slices(study) for study in studies}),
        _gallery(studies, source),
        _filters(studies, source),
        *(build(studies, summary, source) for build in ADDED),
        _printed_numbers(summary),
        _trouble(studies, summary),
        _cards(studies),
        _reproduce(summary),
    ]
    return sorted((section for section in candidates if section is not None), key=lambda section: not section.leads)


def _certificates(studies: Sequence[StudyView]) -> PageSection:
    rows = [(study, certificate_rows(study), accuracy_rows(study)) for study in studies]
    return PageSection("certificates", "Is there a truth to score against?", {"by_study": rows}, "certificates")


def _leaderboard(studies: Sequence[StudyView]) -> PageSection | None:
    boards = [(study, [(b, leaderboards(b)) for b in boards_of(study)]) for study in studies if study.methods]
    if not boards:
        return None
    shown = [
        (study, [(b, metrics, sort_best_first(leading_board(study, metrics)), _anew(b)) for b, metrics in by_board])
        for study, by_board in boards
    ]
    data = {board.key: board_data(metrics) for _, by_board in boards for board, metrics in by_board}
    return PageSection(
        "leaderboard", "Leaderboard", {"by_study": shown, "columns": COLUMNS}, "leaderboard", boards=data
    )


def _anew(board: BoardView) -> dict[str, Any]:
    """What can be said of models trained anew by the leading metric: a sentence, and a table of pairs."""
    anew = board.trained_anew(board.study.leading or "")
    rows = [
        [
            pair["a"],
            pair["b"],
            number(pair["difference"]),
            between(pair["low"], pair["high"]),
            number(pair["p_holm"]),
            "yes" if pair["apart"] else "no",
        ]
        for pair in anew.get("pairs", [])
    ]
    columns = ["better", "than", f"difference in {board.study.leading}", "95 % interval", "p (Holm)", "told apart"]
    return {"sentence": anew.get("sentence", ""), "columns": columns, "rows": rows}


def _heat_map(studies: Sequence[StudyView]) -> PageSection | None:
    maps = [(study, [(board, heat_map(board)) for board in boards_of(study)]) for study in studies if study.methods]
    return PageSection("heat", "Methods by metrics", {"by_study": maps}, "heat") if maps else None


def _curves(studies: Sequence[StudyView]) -> list[PageSection | None]:
    iou = {study.index: [draw_curve(study, "iou")] for study in studies}
    steps = {study.index: [draw_curve(study, "insertion"), draw_curve(study, "deletion")] for study in studies}
    return [
        _plots("iou", "Overlap against threshold", studies, iou),
        _plots("steps", "Insertion and deletion", studies, steps),
    ]


def _plots(
    key: str, title: str, studies: Sequence[StudyView], plots: Mapping[int, Sequence[Drawing | None]]
) -> PageSection | None:
    """A section of plots; None if no data set has one."""
    by_study = [(study, [drawing for drawing in plots[study.index] if drawing]) for study in studies]
    by_study = [(study, drawings) for study, drawings in by_study if drawings]
    if not by_study:
        return None
    return PageSection(
        key,
        title,
        {"by_study": by_study},
        "plots",
        [drawing for _, drawings in by_study for drawing in drawings],
        introduction=INTRODUCTIONS[key],
        choose=CHOOSE.get(key, ""),
    )


def _sanity(studies: Sequence[StudyView], source: AuditFolder) -> PageSection | None:
    by_study = [(study, tables) for study in studies if (tables := sanity_tables(study, source))]
    if not by_study:
        return None
    drawings = [table.curve for _, tables in by_study for table in tables if table.curve]
    return PageSection("sanity", "Does the map follow the model?", {"by_study": by_study}, "sanity", drawings)


def _gallery(studies: Sequence[StudyView], source: AuditFolder) -> PageSection | None:
    tables = gallery_tables(studies, source)
    by_study = [(study, tables[study.index]) for study in studies if tables[study.index]]
    if not by_study:
        return None
    galleries = [gallery for _, galleries in by_study for gallery in galleries]
    return PageSection("gallery", "Gallery", {"by_study": by_study}, "gallery", galleries=galleries)


def _filters(studies: Sequence[StudyView], source: AuditFolder) -> PageSection | None:
    by_study = [(study, *filter_tables(study, source)) for study in studies if study.document.get("filters")]
    if not by_study:
        return None
    drawings = [table.ablation for _, tables, _ in by_study for table in tables if table.ablation]
    return PageSection("filters", "What the filters look for", {"by_study": by_study}, "filters", drawings)


def _printed_numbers(summary: Mapping[str, Any]) -> PageSection | None:
    optional: dict[str, Any] = {"source": "", "note": "", "correlation": {}, "trends": []}
    tables = [optional | table for table in summary["printed"] or ()]
    return (
        PageSection("printed", "Beside the printed numbers", {"tables": tables, "number": number}, "printed")
        if tables
        else None
    )


def _cards(studies: Sequence[StudyView]) -> PageSection | None:
    cards = {card["name"]: card for study in studies for card in study.scores.get("cards") or ()}
    return PageSection("cards", "Metric cards", {"cards": list(cards.values())}, "cards") if cards else None


def _trouble(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> PageSection:
    gaps = [(study, list_gaps(study)) for study in studies]
    optional = {"cell": "", "method": "", "model": "", "dataset": "", "reason": ""}
    failed = [optional | failure for failure in summary["failed"]]
    return PageSection("trouble", "Failures and gaps", {"gaps": gaps, "failed": failed}, "trouble")


def _reproduce(summary: Mapping[str, Any]) -> PageSection:
    plan = json.dumps(summary["plan"], indent=2, ensure_ascii=False)
    machine = [(key.replace("_", " "), value or "none") for key, value in summary["machine"].items()]
    return PageSection("reproduce", "How to reproduce this", {"plan": plan, "machine": machine}, "reproduce")
