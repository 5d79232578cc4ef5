"""The section of the page about canvases: how much of a map lies where the network can look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .numbers import DASH, between, join_names, number
from .pictures import encode_colour
from .reading import AuditFolder, Missing
from .sections import PageSection, add_section
from .study import StudyView, is_control

SETTINGS = ("gridpg", "difull", "dipart")
WORDS = {"pass": "pass", "FAILED": "fail", "undecided": "undecided", "not applicable": "not applicable"}
NEEDED = {"tiles": 5, "settings": 1, "bins": 1}


class CanvasCell(NamedTuple):
    """The verdict on a method in one setting, with its score."""

    outcome: str  # pass, fail, undecided, not applicable; empty where a score has no verdict
    score: str
    interval: str
    note: str = ""  # how many canvases have no score


class MapStrip(NamedTuple):
    """The aggregated maps of a method in one setting, the best first."""

    method: str
    setting: str
    frames: Sequence[tuple[str, str]]  # which per cent of the maps, and their mean as a picture


class CanvasTable(NamedTuple):
    """The table of all methods on the canvases of one model."""

    model: str
    sentence: str
    rows: Sequence[tuple[str, bool, Sequence[CanvasCell]]]  # method, whether a control, by setting
    strips: Sequence[MapStrip]
    missing: Sequence[str]  # why maps are not shown
    skipped: Sequence[tuple[str, str]]  # a reason, and the methods that do not apply for it


@add_section
def show_canvases(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """The scores and verdicts on canvases, a table for each model; None if the plan did not ask."""
    by_study = [
        (study, document, canvas_tables(document, source))
        for study in studies
        if (document := study.document.get("canvases"))
    ]
    if not by_study:
        return None
    content = {"by_study": by_study, "settings": SETTINGS, "number": number}
    return PageSection("canvases", "Does the map stay where the network can look?", content, "canvases")


def canvas_tables(document: Mapping[str, Any], source: AuditFolder) -> list[CanvasTable]:
    """The tables of one data set, one for each model."""
    models = dict.fromkeys(entry["model"] for entry in (*document["results"], *document["skipped"]))
    return [_of_model(model, document, source) for model in models]


def _of_model(model: str, document: Mapping[str, Any], source: AuditFolder) -> CanvasTable:
    results = [entry for entry in document["results"] if entry["model"] == model]
    pictures = [read_strips(entry, source) for entry in results]
    return CanvasTable(
        model,
        conclude(results),
        [(entry["method"], is_control(entry), list(_cells(entry))) for entry in results],
        [strip for strips in pictures if not isinstance(strips, Missing) for strip in strips],
        [strips.reason for strips in pictures if isinstance(strips, Missing)],
        list_skipped(results, [entry for entry in document["skipped"] if entry["model"] == model]),
    )


def list_skipped(results: Sequence[Mapping[str, Any]], skipped: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each reason why methods do not apply to a model, with the methods: in all settings, or in those in brackets."""
    pairs = [(entry["reason"], entry["method"]) for entry in skipped]
    pairs += [
        (verdict["reason"], f"{entry['method']} ({verdict['setting']})")
        for entry in results
        for verdict in entry["verdicts"]
        if verdict["status"] == "not applicable"
    ]
    return [(reason, ", ".join(name for other, name in pairs if other == reason)) for reason in dict(pairs)]


def conclude(results: Sequence[Mapping[str, Any]]) -> str:
    """Which methods put attribution where the architecture forbids it, and whether the controls do, as they must."""
    if not results:
        return ""
    failing = {entry["method"]: settings for entry in results if (settings := _settings_with(entry, "FAILED"))}
    controls = [entry["method"] for entry in results if is_control(entry)]
    wrong = [f"{method} ({', '.join(failing[method])})" for method in failing if method not in controls]
    says = (
        f"Nearer to chance than to what the architecture allows: {join_names(wrong)}. There, attribution lies where "
        "the network cannot have looked."
        if wrong
        else "No method is shown to put its attribution where the network cannot have looked."
    )
    unheeded = [method for method in controls if method not in failing]
    if unheeded:
        return f"{says} {join_names(unheeded)}, which looks at no model, does not fail: more canvases are needed."
    return f"{says} The controls fail, as they must." if controls else says


def _settings_with(entry: Mapping[str, Any], status: str) -> list[str]:
    """The settings in which a method has some status."""
    return [verdict["setting"] for verdict in entry["verdicts"] if verdict["status"] == status]


def _cells(entry: Mapping[str, Any]) -> list[CanvasCell]:
    """The cells of one method's row, in the order of the settings."""
    verdicts = {verdict["setting"]: verdict for verdict in entry["verdicts"]}
    return [_cell(verdicts[setting]) if setting in verdicts else CanvasCell("", DASH, "") for setting in SETTINGS]


def _cell(verdict: Mapping[str, Any]) -> CanvasCell:
    outcome, score, undefined = WORDS.get(verdict["status"], ""), verdict["score"], verdict["undefined"]
    if score is None:
        return CanvasCell(outcome, "", "")
    note = f"{undefined} of {verdict['canvases']} without positive attribution" if undefined else ""
    return CanvasCell(outcome, number(score["mean"], 2), between(score["low"], score["high"], 2), note)


def read_strips(entry: Mapping[str, Any], source: AuditFolder) -> list[MapStrip] | Missing:
    """The aggregated maps of a method, a strip for each setting, or the reason why there are none."""
    arrays = source.arrays(entry["pictures"], NEEDED)
    if isinstance(arrays, Missing):
        return Missing(f"{entry['method']}: {arrays.reason}")
    tiles, settings, bins = arrays["tiles"], arrays["settings"].tolist(), arrays["bins"].tolist()
    if tiles.dtype != np.uint8 or tiles.shape[:2] != (len(settings), len(bins)) or tiles.shape[-1] != 3:
        return Missing(f"{entry['method']}: the arrays of {entry['pictures']} do not fit each other")
    return [
        MapStrip(entry["method"], str(setting), list(zip(map(str, bins), map(encode_colour, strip), strict=True)))
        for setting, strip in zip(settings, tiles, strict=True)
    ]
