"""Mutants made, run and judged; a finding is named by its seed and number, and can be made again from them.

python -m tests.fuzz.fuzz                           mutants 0 to 59 of seed 0
python -m tests.fuzz.fuzz --seed 7 --numbers 0 500  others
python -m tests.fuzz.fuzz --seed 7 --numbers 123 124 --keep corpus-name   one, whose file goes into the corpus
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.warm import WarmServer

from .corpus import FINDINGS, make_corpus
from .judge import fault_of
from .kinds import KINDS, Command, Kind, choose, results_of
from .mutate import mutate

LARGEST = 100_000  # bytes of a file that goes into the corpus
DIFFERS = "accepted, with other results than those of the whole file"


@dataclass(frozen=True)
class Mutant:
    """One damaged file, and the command that is to read it."""

    seed: int
    number: int
    kind: Kind
    command: Command
    file: str
    change: str  # what was done to it

    @property
    def words(self) -> str:
        """The command as it is typed."""
        return "an8flower " + " ".join(self.command.typed(self.file))


@dataclass(frozen=True)
class Finding:
    """A mutant on which a command did what it must not."""

    mutant: Mutant
    fault: str

    def __str__(self) -> str:
        m = self.mutant
        return (
            f"seed {m.seed}, number {m.number}: {m.kind.name} {m.file} ({m.change}): {m.words}: {self.fault}\n"
            f"    again: python -m tests.fuzz.fuzz --seed {m.seed} --numbers {m.number} {m.number + 1}"
        )


class Fuzzer:
    """A warm server, the corpus, and the results of every command on whole files."""

    def __init__(self, server: WarmServer, folder: Path) -> None:
        self.server, self.home, self.place = server, folder / "home", folder / "mutant"
        self._whole: dict[tuple[str, ...], Any] = {}

    @cached_property
    def corpus(self) -> Path:
        """The folder with a whole file of each kind; made when it is first needed."""
        self.home.mkdir()
        make_corpus(self.server, self.home)
        return self.home

    def run(self, seed: int, number: int) -> Finding | None:
        """Make one mutant, run its command, and judge what came."""
        mutant = self.make(seed, number)
        fault = self.judge(mutant.kind, mutant.command, mutant.file)
        return Finding(mutant, fault) if fault else None

    def make(self, seed: int, number: int) -> Mutant:
        """The mutant of a seed and a number, in its folder."""
        rng = np.random.default_rng([seed, number])
        kind = choose(KINDS, rng.integers)
        command = choose(kind.commands, rng.integers)
        files = self.files(kind)
        file = files[rng.integers(len(files))]
        self.lay_out(kind)
        return Mutant(seed, number, kind, command, file, mutate(self.place / file, kind.format, rng))

    def judge(self, kind: Kind, command: Command, file: str) -> str | None:
        """Run a command on what lies in the folder; what is wrong with its end or with its results, or None."""
        outcome = self.server.run(command.typed(file), self.place)
        fault = fault_of(outcome)
        if fault or outcome.status or not kind.sealed:
            return fault
        results = results_of(command, outcome, self.place)
        if results == self.whole_results(kind, command, file) or self._is_told_by_verify(kind, file):
            return None
        return DIFFERS

    def _is_told_by_verify(self, kind: Kind, file: str) -> bool:
        """Checksums of a data set are recomputed by `verify` alone: it has to tell what others take as it is."""
        return kind.format == "hdf5" and self.server.run(["verify", file], self.place).status == 1

    def whole_results(self, kind: Kind, command: Command, file: str) -> Any:
        """What a command gives on the whole file; computed once, in the folder of the mutant."""
        key = tuple(command.typed(file))
        if key not in self._whole:
            aside = self.place.rename(self.place.with_name("aside"))
            self.lay_out(kind)
            outcome = self.server.run(command.typed(file), self.place, seconds=120, keep_imports=True)
            if outcome.status:
                raise AssertionError(f"{command.typed(file)} on a whole file: {outcome.stderr}")
            self._whole[key] = results_of(command, outcome, self.place)
            shutil.rmtree(self.place)
            aside.rename(self.place)
        return self._whole[key]

    def files(self, kind: Kind) -> list[str]:
        """The files of a kind in the corpus."""
        return _matching(self.corpus, kind.files)

    def lay_out(self, kind: Kind) -> None:
        """A fresh folder with the whole file and what has to lie beside it."""
        shutil.rmtree(self.place, ignore_errors=True)
        for name in _matching(self.corpus, (*kind.files, *kind.beside)):
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.corpus / name, self.place / name)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    paths |= {path for pattern in patterns if pattern.endswith("**") for path in folder.glob(f"{pattern}/*")}
    return sorted(str(path.relative_to(folder)) for path in paths if path.is_file() and path.name != ".lock")


def findings(fuzzer: Fuzzer, seed: int, numbers: range) -> Iterator[Finding]:
    """The findings among the mutants of a seed."""
    for number in numbers:
        if finding := fuzzer.run(seed, number):
            yield finding


def keep(fuzzer: Fuzzer, mutant: Mutant, name: str) -> Path:
    """Put the file of a mutant into the corpus, where the tests run all commands of its kind on it."""
    source = fuzzer.place / mutant.file
    place = FINDINGS / mutant.kind.name / f"{source.stem}-{name}{source.suffix}"
    if source.stat().st_size > LARGEST:
        raise SystemExit(f"{source} has {source.stat().st_size} bytes: write a function into test_crafted.py instead")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    return place


def main() -> None:
    """Run mutants from the command line, and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--numbers", type=int, nargs=2, default=(0, 60), metavar=("FIRST", "STOP"))
    parser.add_argument("--keep", metavar="NAME", help="Put the file of the mutant FIRST into the corpus.")
    options = parser.parse_args()
    with WarmServer() as server, tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(server, Path(folder))
        if options.keep:
            print(keep(fuzzer, fuzzer.make(options.seed, options.numbers[0]), options.keep))
            return
        begin, count = time.monotonic(), 0
        for finding in findings(fuzzer, options.seed, range(*options.numbers)):
            count += 1
            print(finding, flush=True)
        seconds, mutants = time.monotonic() - begin, options.numbers[1] - options.numbers[0]
        print(f"{count} findings in {mutants} mutants, {mutants / seconds:.1f} mutants per second")


if __name__ == "__main__":
    main()
