"""A finished run as it lies in its folder, whether `audit`, `score` or `export` left it there: its plan, its numbers.

An audit has a manifest, and is held against it. The long rows of each data set are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from an8flower.errors import Refusal

from .baseline import ScoredStudy, open_baseline
from .baseline_form import refuse_other_form
from .exports.columns import RUN_MANIFEST
from .files import PLAN, is_run, read_json
from .folder import RunFolder, read_part
from .kept_maps import maps_path

SUMMARY = "summary.json"
REMEDY = "give the folder of a finished run"


class FinishedStudy(NamedTuple):
    """What a run found on one data set."""

    document: Mapping[str, Any]  # as in the studies of a summary
    parts: tuple[str, ...]  # the names of its cells
    explainers: Mapping[str, str]  # as long rows name them, by the texts of the methods

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.document["dataset"]["name"])

    @property
    def split(self) -> str:
        """The split whose rows were scored."""
        return str(self.document["dataset"]["split"])

    @property
    def methods(self) -> dict[str, str]:
        """The texts of the methods by the names that they have in long rows."""
        return {explainer: text for text, explainer in self.explainers.items()}


class FinishedRun(NamedTuple):
    """A run whose numbers are there, and are what it left."""

    folder: Path
    command: str  # audit or score
    plan: Mapping[str, Any]  # as in plan.json
    summary: Mapping[str, Any]  # as in summary.json
    studies: tuple[FinishedStudy, ...]
    read_rows: Callable[[FinishedStudy], pa.Table]  # SCHEMA of `results.folder`; raises Refusal where some are missing

    def studies_with_rows(self) -> Iterator[ScoredStudy]:
        """Its data sets, each with its long rows."""
        for study in self.studies:
            yield ScoredStudy(study.document, self.read_rows(study), study.explainers)

    def cells(self, study: FinishedStudy) -> Iterator[tuple[str, pa.Table]]:
        """Each cell of a data set with its long rows, one after the other; raises Refusal where some are missing."""
        for name in study.parts:
            rows = read_part(RunFolder(self.folder).part(name))
            if rows is None:
                raise Refusal(f"{self.folder}: the rows of {name} are missing or damaged; run the same command again")
            yield name, rows

    def maps(self, study: FinishedStudy) -> dict[str, Path]:
        """The files of the maps that a run kept of a data set, by their cells."""
        places = {name: maps_path(self.folder, name) for name in study.parts}
        return {name: place for name, place in places.items() if place.is_file()}


def open_run(folder: Path, remedy: str = REMEDY) -> FinishedRun:
    """Open the folder of a finished run; raises Refusal if none is there, or if its files are not as it left them."""
    plan = read_json(folder / PLAN)
    if plan is None or not is_run(folder) or (folder / RUN_MANIFEST).exists():
        came = "an export, and no run" if (folder / RUN_MANIFEST).exists() else f"no run is there (no {PLAN} of one)"
        raise Refusal(f"{folder}: {came}; {remedy}")
    try:
        return _open_audit(folder, plan, remedy) if "plan" in plan else _open_scores(folder, plan, remedy)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Refusal(
            f"{folder}: its plan and summary are of another form ({error!r}); run the same command again, or {remedy}"
        ) from None


def _open_audit(folder: Path, plan: Mapping[str, Any], remedy: str) -> FinishedRun:
    summary = open_baseline(folder, remedy).summary
    return FinishedRun(folder, "audit", plan, summary, tuple(map(study_of_audit, summary["studies"])), _rows_of(folder))


def study_of_audit(document: Mapping[str, Any]) -> FinishedStudy:
    """A data set of an audit, from its document in the summary; raises Refusal where that does not name its cells."""
    filed = document.get("long_rows") or {}
    if not filed:
        raise Refusal(
            f"{document['dataset']['name']}: the summary does not say which long rows it rests on, as an earlier "
            "version wrote it; run the audit again: what is done is not done twice"
        )
    return FinishedStudy(document, tuple(filed["parts"]), dict(filed["explainers"]))


def _open_scores(folder: Path, plan: Mapping[str, Any], remedy: str) -> FinishedRun:
    summary = read_json(folder / SUMMARY)
    if summary is None:
        raise Refusal(f"{folder / SUMMARY}: missing or damaged; score again: what is done is not done twice")
    study = study_of_scores(plan, summary)
    check_form(folder, (study,), remedy)
    return FinishedRun(folder, "score", plan, summary, (study,), _rows_of(folder))


def check_form(folder: Path, studies: Sequence[FinishedStudy], remedy: str) -> None:
    """Raise a Refusal with the first place at which the documents of a run are not what is read of them."""
    documents = [
        {**study.document, "long_rows": {"parts": [*study.parts], "explainers": study.explainers}} for study in studies
    ]
    refuse_other_form({"studies": documents}, folder / SUMMARY, remedy)


def study_of_scores(plan: Mapping[str, Any], summary: Mapping[str, Any]) -> FinishedStudy:
    """The data set that `score` scored, from its plan and its summary; raises Refusal if they name no explainers."""
    if "explainers" not in plan:
        raise Refusal(
            f"{summary['dataset']['name']}: its {PLAN} does not say how long rows name the methods, as an earlier "
            "version wrote it; score again: what is done is not done twice"
        )
    document = {"dataset": summary["dataset"], "scores": summary}
    return FinishedStudy(document, tuple(plan["parts"]), dict(plan["explainers"]))


def _rows_of(folder: Path) -> Callable[[FinishedStudy], pa.Table]:
    return lambda study: RunFolder(folder).table(study.parts)
