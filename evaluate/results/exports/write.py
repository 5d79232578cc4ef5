"""Write the results of a run for other tools: whole under its final name, or not there.

Files are put down in a folder beside the final one, which gets its name when all are there. A run that was killed finds
the maps that it has written already.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import an8flower
from an8flower.atomic import moved_into, sweep
from an8flower.digests import digest_file
from an8flower.errors import Refusal
from an8flower.exporting.folders import take_name, write_checksums, write_text
from an8flower.gate.documents import read_json
from an8flower.gate.regular import FileKind
from an8flower.writing import translate_errors, write_unless_there

from ..files import PLAN
from ..finished import SUMMARY, FinishedRun, open_run
from ..manifest import MANIFEST
from .cards import write_cards
from .columns import RUN_MANIFEST
from .tables import refuse_no_maps, write_cell_maps, write_scores

FORMAT, VERSION = "an8flower run", 1
KIND = FileKind("what an exported run holds", 2**26, "export the run again", "name the folder of an exported run")


class ExportedTables(NamedTuple):
    """What the export of a run left."""

    folder: Path
    lines: int  # of the scores
    maps: int
    existed: bool  # the same export was there already


def export_run(
    run: str | Path,
    folder: str | Path,
    *,
    with_maps: bool = False,
    force: bool = False,
    progress: Callable[[int], None] = lambda cells: None,
) -> ExportedTables:
    """Write the scores of a finished run, its plan and its environment into a new folder, as tables with cards.

    Args:
        run: the folder of `audit` or of `score`.
        with_maps: write the maps that the run kept as well.
        force: replace another export in the folder.
        progress: is told how many cells are written.

    Raises:
        Refusal: no finished run is there, it was changed, it kept no maps, or the folder holds something else.
    """
    opened = open_run(Path(run), "name the folder of a finished `audit` or `score`")
    if with_maps:
        refuse_no_maps(opened)
    job = RunExportJob(opened, Path(folder).absolute(), with_maps)
    existed = write_unless_there(job.folder, lambda: job.is_there(force), lambda: job.write(progress))
    counts = read_manifest(job.folder)["counts"]
    return ExportedTables(Path(folder), counts["lines"], counts["maps"], existed)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the folder of an exported run holds; raises Refusal where it is none."""
    document = read_json(folder / RUN_MANIFEST, KIND)
    known = isinstance(document, dict) and (document.get("format"), document.get("version")) == (FORMAT, VERSION)
    if not known or not isinstance(document.get("studies"), list) or not isinstance(document.get("counts"), dict):
        raise Refusal(f"{folder / RUN_MANIFEST}: does not say what an exported run holds; {KIND.remedy}")
    return dict(document)


class RunExportJob(NamedTuple):
    """A finished run that is to be exported into a folder."""

    run: FinishedRun
    folder: Path
    with_maps: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this export from another one."""
        manifest = self.run.folder / MANIFEST
        return {
            "format": FORMAT,
            "version": VERSION,
            "generator": an8flower.__version__,
            "command": self.run.command,
            "plan": digest_file(self.run.folder / PLAN),
            "summary": digest_file(self.run.folder / SUMMARY),
            "manifest": digest_file(manifest) if self.run.command == "audit" else None,
            "with_maps": self.with_maps,
            "studies": [_describe(self.run, number) for number in range(len(self.run.studies))],
        }

    @property
    def waiting(self) -> Path:
        """Where files wait; another run, or another version of the program, has another folder."""
        mark = hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:12]
        return self.folder.with_name(f"{self.folder.name}.{mark}.partial")

    def is_there(self, force: bool) -> bool:
        """Whether this export is there; raises Refusal if something else is, unless another export may be replaced."""
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return False
        if not (self.folder / RUN_MANIFEST).is_file():
            raise Refusal(f"{self.folder}: holds something that is no exported run; choose another -o")
        if force:
            return False
        there = {key: value for key, value in read_manifest(self.folder).items() if key != "counts"}
        if there != self.identity:
            raise Refusal(f"{self.folder}: holds another export; replace it with --force, or write elsewhere with -o")
        return True

    def write(self, progress: Callable[[int], None]) -> None:
        """Write all files, and give the folder its name."""
        with translate_errors(self.folder, f", finished files are kept in {self.waiting}: the same command goes on"):
            self.waiting.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.waiting / "scores", ignore_errors=True)  # of an export that was killed
            for place in (self.waiting, self.waiting / "maps"):
                sweep(place)
            lines = sum(self._write_scores(progress))
            maps = self._write_maps(progress) if self.with_maps else 0
            for name in (PLAN, SUMMARY):
                with moved_into(self.waiting / name) as unfinished:
                    shutil.copyfile(self.run.folder / name, unfinished)
            write_cards(self.waiting, self.run, self.with_maps)
            document = {**self.identity, "counts": {"lines": lines, "maps": maps}}
            write_text(self.waiting / RUN_MANIFEST, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
            write_checksums(self.waiting)
            take_name(self.waiting, self.folder)

    def _write_scores(self, progress: Callable[[int], None]) -> list[int]:
        """Write all long rows, and return the number of lines of each file."""
        counts = []
        for shard in write_scores(self.waiting, self.run):
            counts.append(shard.lines)
            progress(shard.cells)
        return counts

    def _write_maps(self, progress: Callable[[int], None]) -> int:
        """Write the maps that the run kept, and return how many there are."""
        count = 0
        for study in self.run.studies:
            for cell, place in self.run.maps(study).items():
                count += write_cell_maps(self.waiting, study, cell, place)
                progress(1)
        return count


def _describe(run: FinishedRun, number: int) -> dict[str, Any]:
    """A data set of a run as the manifest of an export lists it."""
    study = run.studies[number]
    return {
        "dataset": study.name,
        "digest": study.document["dataset"]["digest"],
        "split": study.split,
        "parts": list(study.parts),
        "maps": list(run.maps(study)),
    }
