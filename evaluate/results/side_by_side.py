"""Several runs side by side: what is the same in them is paired row by row, and what is not is named with the reason.

A cell is a data set, a model (by its architecture and seed), a method and a metric. All runs are read on the rows that
all of them scored. Each later run is held against the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from an8flower.errors import Refusal

from .baseline import ScoredStudy
from .changes import OUTCOMES, CellKey, CellPair, Change, cell_values, cells_of, measure, settle
from .decisions import name_of
from .files import without_nan
from .finished import FinishedRun
from .metric_values import MetricKind
from .statistics.intervals import Interval, intervals
from .statistics.scores import ScoreArrays
from .summary import resampling_seed

COMPARISON_VERSION = 1
NO_KIND = "its card is of another form, or others' code would have to choose values over all rows"
KEYS = ("architecture", "seed", "method", "metric")  # of a cell
CARD = ("version", "parameters")  # what of a card says that numbers are of the same kind
KindOf = Callable[[Mapping[str, Any]], MetricKind | None]
"""From the card of a metric to what a comparison needs of it; None where its values cannot be made of long rows."""


class LeftOut(NamedTuple):
    """Something of a run that is not compared, and why."""

    run: int  # the place of the run
    what: str
    reason: str


class RunOfStudy(NamedTuple):
    """A data set as one of the runs scored it."""

    run: int
    study: ScoredStudy


@dataclass
class ComparedStudy:
    """A data set that several runs scored, with what is the same in them."""

    members: list[RunOfStudy]
    rows: np.ndarray  # that all of them scored
    kinds: dict[str, MetricKind] = field(default_factory=dict)
    has_metric: set[tuple[int, str]] = field(default_factory=set)  # the run and the metric
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def first(self) -> ScoredStudy:
        """The data set as the first of the runs scored it."""
        return self.members[0].study


def compare_side_by_side(runs: Sequence[FinishedRun], kind_of: KindOf, seed: int = 0) -> dict[str, Any]:
    """Put several runs side by side, ready for JSON.

    A mean comes with the BCa interval of `intervals` over the common rows; a difference is a run less the first one on
    the same rows, with its interval, a sign-flip test and Holm's correction over all cells of all runs.

    Args:
        seed: of the resampling.

    Raises:
        Refusal: fewer than two runs came, or a run has nothing that can be compared with the first.
    """
    if len(runs) < 2:
        raise Refusal(f"{len(runs)} run came; give two or more to compare")
    studies, left_out = _match_studies([list(run.studies_with_rows()) for run in runs])
    for study in studies:
        _choose_metrics(study, kind_of)
    left_out += [entry for study in studies for entry in study.left_out]
    studies = [study for study in studies if study.kinds]
    _refuse_strangers(runs, studies, left_out)
    documents, changes = [], []
    for study in studies:
        document, of_study = _compare_study(study, resampling_seed(seed))
        documents.append(document)
        changes.append(of_study)
    _enter_changes(documents, changes, studies)
    return {
        "schema_version": COMPARISON_VERSION,
        "runs": [_describe_run(run) for run in runs],
        "studies": documents,
        "counts": _count(documents, len(runs)),
        "left_out": [entry._asdict() for entry in left_out],
    }


def _describe_run(run: FinishedRun) -> dict[str, Any]:
    known: dict[str, Any] = {**run.plan, **run.summary}
    return {
        "folder": str(run.folder),
        "name": str(run.summary.get("name") or run.studies[0].name),
        "command": run.command,
        "versions": dict(known.get("versions") or {}),
    }


# What is the same.


def _match_studies(scored: Sequence[Sequence[ScoredStudy]]) -> tuple[list[ComparedStudy], list[LeftOut]]:
    """The data sets that several runs scored alike, and those of a run that are not among them."""
    groups: list[list[RunOfStudy]] = []
    for run, studies in enumerate(scored):
        for study in studies:
            group = next((it for it in groups if not _reason_against(study, it[0].study)), None)
            if group is None:
                groups.append([RunOfStudy(run, study)])
            else:
                group.append(RunOfStudy(run, study))
    matched, left_out = [], []
    for group in groups:
        rows = _common_rows([it.study for it in group])
        if len(group) > 1 and len(rows) > 1:
            matched.append(ComparedStudy(group, rows))
        else:
            reason = "fewer than two rows in common" if len(group) > 1 else _why_alone(group[0], groups)
            left_out += [LeftOut(it.run, it.study.name, reason) for it in group]
    return matched, left_out


def _reason_against(study: ScoredStudy, other: ScoredStudy) -> str:
    """Why rows of two data sets cannot be paired; an empty text if they can."""
    if other.digest != study.digest and other.name != study.name:
        return f"another data set ({study.name}, and not {other.name})"
    for what, before, now in (
        ("digest", other.digest[:12], study.digest[:12]),
        ("split", other.document["dataset"]["split"], study.document["dataset"]["split"]),
        ("target", other.scores["target"], study.scores["target"]),
        ("truth", other.scores.get("truth", "association"), study.scores.get("truth", "association")),
    ):
        if before != now:
            return f"another {what} ({now}, and not {before})"
    return ""


def _why_alone(lone: RunOfStudy, groups: Sequence[Sequence[RunOfStudy]]) -> str:
    """Why no other run has the data set of a run."""
    others = [group[0] for group in groups if group[0].run != lone.run]
    if not others:
        return "no other run scored anything else"
    alike = next((it for it in others if it.study.name == lone.study.name), others[0])
    return _reason_against(lone.study, alike.study)


def _common_rows(studies: Sequence[ScoredStudy]) -> np.ndarray:
    """The numbers (n,) of the rows that all runs scored."""
    rows = [np.unique(_table(study)["row"].to_numpy()) for study in studies]
    common = rows[0]
    for other in rows[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    return common


def _table(study: ScoredStudy) -> pa.Table:
    assert study.table is not None, "a finished run has its long rows"
    return study.table


def _choose_metrics(study: ComparedStudy, kind_of: KindOf) -> None:
    """Enter the metrics that two runs or more computed in the same way, and name the others."""
    cards = [{card["name"]: card for card in it.study.scores.get("cards") or ()} for it in study.members]
    for name in dict.fromkeys(name for of_run in cards for name in of_run):
        having = [place for place, of_run in enumerate(cards) if name in of_run]
        first = cards[having[0]][name]
        same = [place for place in having if all(cards[place][name].get(key) == first.get(key) for key in CARD)]
        others = [place for place in having if place not in same]
        study.left_out += [_another_way(study.members[place], cards[place][name], first) for place in others]
        if len(having) == 1:
            study.left_out.append(LeftOut(study.members[having[0]].run, name, "no other run has this metric"))
        elif len(same) > 1 and (kind := kind_of(first)) is not None:
            study.kinds[name] = kind
            study.has_metric |= {(study.members[place].run, name) for place in same}
        elif len(same) > 1:
            study.left_out.append(LeftOut(study.members[same[0]].run, name, NO_KIND))


def _another_way(member: RunOfStudy, card: Mapping[str, Any], first: Mapping[str, Any]) -> LeftOut:
    words = [f"{key} {card.get(key)}, and not {first.get(key)}" for key in CARD if card.get(key) != first.get(key)]
    return LeftOut(member.run, str(card["name"]), f"computed in another way: {'; '.join(words)}")


def _refuse_strangers(
    runs: Sequence[FinishedRun], studies: Sequence[ComparedStudy], left_out: Sequence[LeftOut]
) -> None:
    """Raise a Refusal for the first run of which nothing at all can be compared."""
    compared = {run for study in studies for run, _ in study.has_metric}
    for place in (*range(1, len(runs)), 0):
        if place not in compared:
            reasons = [f"{entry.what}: {entry.reason}" for entry in left_out if entry.run == place]
            raise Refusal(
                f"{runs[place].folder}: nothing in it can be compared with another run "
                f"({'; '.join(reasons[:2]) or 'no metric'}); leave it out, or score the same data, split and metrics"
            )


# The numbers.


class StudyCells(NamedTuple):
    """The cells of a data set in every run."""

    keys: list[CellKey]
    values: np.ndarray  # (cells, runs, rows) float64; NaN is undefined, or not in the run
    present: np.ndarray  # (cells, runs) bool


def _compare_study(study: ComparedStudy, seed: int) -> tuple[dict[str, Any], list[tuple[int, int, Change]]]:
    """The document of a data set, and its changes: the cell, the run, and what is not corrected yet."""
    cells = _collect(study)
    means = _means(cells, study, seed)
    pairs = list(_pairs(study, cells))
    measured = measure([pair for _, _, pair in pairs], seed)
    changes = [(cell, run, change) for (cell, run, _), change in zip(pairs, measured, strict=True)]
    return _study_document(study, cells, means), changes


def _collect(study: ComparedStudy) -> StudyCells:
    """Every cell that a run has by a metric that is compared, with its values on the common rows."""
    selects = {name: kind.select for name, kind in study.kinds.items()}
    arrays = [ScoreArrays(_on_rows(_table(it.study), study.rows), selects) for it in study.members]
    by_run = [
        {key: model for key, model in cells_of(it.study, of_run).items() if (it.run, key[3]) in study.has_metric}
        for it, of_run in zip(study.members, arrays, strict=True)
    ]
    keys = list(dict.fromkeys(key for cells in by_run for key in cells))
    values = np.full((len(keys), len(study.members), len(study.rows)), np.nan)
    present = np.zeros(values.shape[:2], bool)
    for place, (it, of_run, cells) in enumerate(zip(study.members, arrays, by_run, strict=True)):
        for number, key in enumerate(keys):
            if key in cells:
                values[number, place] = cell_values(of_run, it.study, cells[key], key, study.rows)
                present[number, place] = True
    return StudyCells(keys, values, present)


def _on_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    return table.filter(pc.is_in(table["row"], pa.array(rows)))


def _means(cells: StudyCells, study: ComparedStudy, seed: int) -> list[list[dict[str, Any] | None]]:
    """The mean of each cell in each run with its interval, ready for JSON; None where a run lacks the cell."""
    flat = cells.values.reshape(-1, cells.values.shape[2], 1)
    results = iter(intervals(flat, seed=seed) if len(flat) else ())
    return [
        [
            _mean_document(interval, study.kinds[key[3]]) if present else None
            for present, interval in zip(of_cell, results, strict=False)
        ]
        for key, of_cell in zip(cells.keys, cells.present, strict=True)
    ]


def _mean_document(interval: Interval, kind: MetricKind) -> dict[str, Any]:
    low, high = (float(np.clip(end, *kind.bounds)) for end in (interval.low, interval.high))
    return dict(without_nan({"mean": interval.mean, "low": low, "high": high, "n": interval.n}))


def _pairs(study: ComparedStudy, cells: StudyCells) -> Iterator[tuple[int, int, CellPair]]:
    """Each cell that the first run and a later one have: its number, the place of the later run, and both values."""
    for number, key in enumerate(cells.keys):
        for place in range(1, len(study.members)):
            if cells.present[number, 0] and cells.present[number, place]:
                change = Change(study.first.name, *key, by="rows")
                yield number, place, CellPair(change, cells.values[number, 0], cells.values[number, place])


def _study_document(
    study: ComparedStudy, cells: StudyCells, means: Sequence[Sequence[dict[str, Any] | None]]
) -> dict[str, Any]:
    dataset = study.first.document["dataset"]
    models = [{name_of(model): model for model in it.study.scores["models"]} for it in study.members]
    return {
        "dataset": {key: dataset[key] for key in ("name", "digest", "split")},
        "target": study.first.scores["target"],
        "runs": [it.run for it in study.members],
        "rows": len(study.rows),
        "rows_of_runs": [len(np.unique(_table(it.study)["row"].to_numpy())) for it in study.members],
        "metrics": list(study.kinds),
        "leading": _leading(study),
        "higher_is_better": {name: kind.higher_is_better for name, kind in study.kinds.items()},
        "same_models": _are_same([sorted(of_run) for of_run in models]),
        "other_parameters": _other_parameters(study),
        "cells": [
            {**dict(zip(KEYS, key, strict=True)), "means": of_cell, "changes": []}
            for key, of_cell in zip(cells.keys, means, strict=True)
        ],
    }


def _leading(study: ComparedStudy) -> str:
    """The metric by which the first run ranks, if it is compared, else the first that is."""
    named = study.first.scores.get("leading")
    wanted = [named] if isinstance(named, str) else list(named or ())
    return next((name for name in wanted if name in study.kinds), next(iter(study.kinds)))


def _are_same(several: Sequence[Any]) -> bool:
    return all(it == several[0] for it in several)


def _other_parameters(study: ComparedStudy) -> list[str]:
    """The methods that have other parameters, or other maps, in a later run than in the first one that has them."""
    names: dict[str, set[str]] = {}
    for it in study.members:
        for text, explainer in it.study.explainers.items():
            names.setdefault(text, set()).add(explainer)
    return [text for text, explainers in names.items() if len(explainers) > 1]


def _enter_changes(
    documents: Sequence[dict[str, Any]],
    changes: Sequence[Sequence[tuple[int, int, Change]]],
    studies: Sequence[ComparedStudy],
) -> None:
    """Correct all changes for each other, and enter each into its cell, by the place of the later run."""
    kinds: dict[str, dict[str, MetricKind]] = {}
    for study in studies:
        kinds.setdefault(study.first.name, {}).update(study.kinds)
    settled = iter(settle([change for of_study in changes for _, _, change in of_study], kinds))
    for document, of_study in zip(documents, changes, strict=True):
        for cell in document["cells"]:
            cell["changes"] = [None] * (len(document["runs"]) - 1)
        for number, place, _ in of_study:
            document["cells"][number]["changes"][place - 1] = _change_document(next(settled))


def _change_document(change: Change) -> dict[str, Any]:
    numbers = change.to_document()
    return {key: numbers[key] for key in ("outcome", "difference", "low", "high", "n", "p", "p_holm", "reason")}


def _count(documents: Sequence[Mapping[str, Any]], runs: int) -> list[dict[str, int]]:
    """How many cells of each later run are better, worse and so on than in the first."""
    counts: list[dict[str, int]] = [{str(outcome): 0 for outcome in OUTCOMES} for _ in range(runs - 1)]
    for document in documents:
        for cell in document["cells"]:
            for run, change in zip(document["runs"][1:], cell["changes"], strict=True):
                if change is not None:
                    counts[run - 1][change["outcome"]] += 1
    return counts
