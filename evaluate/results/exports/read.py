"""Read an exported run back: the same numbers that the run filed, held against the recorded checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from an8flower.errors import Refusal
from an8flower.exporting.folders import CHECKSUMS
from an8flower.gate.documents import read_text
from an8flower.gate.regular import FileKind, shorten

from ..files import PLAN, read_json
from ..finished import (
    REMEDY,
    SUMMARY,
    FinishedRun,
    FinishedStudy,
    check_form,
    open_run,
    study_of_audit,
    study_of_scores,
)
from ..folder import SCHEMA
from ..manifest import hash_file
from .columns import RUN_MANIFEST
from .tables import read_score_shard, split_into_cells
from .write import read_manifest

SUMS = FileKind("a list of checksums", 2**26, "export the run again")


def open_results(folder: Path, remedy: str = REMEDY) -> FinishedRun:
    """Open the folder of a finished run, or that of an exported one; raises Refusal as `open_run`, and for damage."""
    return _open_export(folder) if (folder / RUN_MANIFEST).is_file() else open_run(folder, remedy)


def _open_export(folder: Path) -> FinishedRun:
    document = read_manifest(folder)
    _refuse_changed(folder)
    plan, summary = (read_json(folder / name) for name in (PLAN, SUMMARY))
    try:
        if plan is None or summary is None:
            raise ValueError("no plan or no summary")
        command, parts = str(document["command"]), [tuple(study["parts"]) for study in document["studies"]]
        is_audit = command == "audit"
        studies = tuple(map(study_of_audit, summary["studies"])) if is_audit else (study_of_scores(plan, summary),)
        if [study.parts for study in studies] != parts:
            raise ValueError("other cells than its summary")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"does not say what an exported run holds ({shorten(error)})"
        raise Refusal(f"{folder / RUN_MANIFEST}: {reason}; export the run again") from None
    check_form(folder, studies, "export the run again")
    return FinishedRun(folder, command, plan, summary, studies, lambda study: _read_rows(folder, studies, study))


def _refuse_changed(folder: Path) -> None:
    """Raise a Refusal where a file of an export is missing, or is not what its checksum says."""
    for line in read_text(folder / CHECKSUMS, SUMS).splitlines():
        digest, _, name = line.partition("  ")
        place = folder / name
        if not place.resolve().is_relative_to(folder.resolve()) or not place.is_file() or hash_file(place) != digest:
            raise Refusal(f"{place}: missing, or not what was exported; export the run again")


def _read_rows(folder: Path, studies: tuple[FinishedStudy, ...], study: FinishedStudy) -> pa.Table:
    """The long rows of a data set; raises Refusal where they are not those of its cells."""
    cells = list(_read_cells(folder, studies.index(study)))
    if [name for name, _ in cells] != list(study.parts):
        raise Refusal(f"{folder / 'scores'}: holds other cells of {study.name} than the run; export the run again")
    return pa.concat_tables(rows for _, rows in cells) if cells else SCHEMA.empty_table()


def _read_cells(folder: Path, number: int) -> Iterator[tuple[str, pa.Table]]:
    for place in sorted((folder / "scores").glob(f"{number:02d}-*.parquet")):
        yield from split_into_cells(read_score_shard(place))


def read_scores(folder: str | Path) -> pa.Table:
    """All lines of an exported run, with the columns that columns.json describes; raises Refusal where it is none.

    There is a line for each row, method or reference, and metric. `method` is null of references; `value` is null or
    NaN where it is undefined, with the `reason`.
    """
    place = Path(folder)
    read_manifest(place)
    _refuse_changed(place)
    return pa.concat_tables(map(read_score_shard, sorted((place / "scores").glob("*.parquet"))))
