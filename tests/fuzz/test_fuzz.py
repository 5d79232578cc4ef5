"""Commands on mutants of small files: success with equal results, or a refusal of one sentence."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.warm import Outcome

from .corpus import FINDINGS
from .fuzz import Fuzzer, findings
from .judge import fault_of
from .kinds import KINDS, Kind, choose

SEED = 0
KEPT = sorted(path for path in FINDINGS.rglob("*") if path.is_file() and path.parent != FINDINGS)


def test_thirty_mutants_are_refused_well_or_do_no_harm(fuzzer: Fuzzer) -> None:
    _expect_none(fuzzer, range(30))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_mutants_are_refused_well_or_do_no_harm(fuzzer: Fuzzer) -> None:
    _expect_none(fuzzer, range(30, 530))


def _expect_none(fuzzer: Fuzzer, numbers: range) -> None:
    bad = [str(finding) for finding in findings(fuzzer, SEED, numbers)]
    assert not bad, f"{len(bad)} findings in {len(numbers)} mutants\n" + "\n".join(bad)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_found_once_stays_refused(fuzzer: Fuzzer, path: Path) -> None:
    """Every command of the kind reads a file that once was a finding."""
    kind = next(kind for kind in KINDS if kind.name == path.parent.name)
    file = _place_of(fuzzer, kind, path)
    for command in kind.commands:
        fuzzer.lay_out(kind)
        (fuzzer.place / file).write_bytes(path.read_bytes())
        assert fuzzer.judge(kind, command, file) is None, command.words


def _place_of(fuzzer: Fuzzer, kind: Kind, path: Path) -> str:
    """Where a kept file lies among those of its kind: where its name begins as one's, else the first of its ending."""
    files = [file for file in fuzzer.files(kind) if file.endswith(path.suffix)]
    return next((file for file in files if path.stem.startswith(Path(file).stem)), files[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whole_files_are_accepted_with_equal_results(fuzzer: Fuzzer, kind: Kind) -> None:
    """Otherwise the judge would call every mutant a finding, or none."""
    for command in kind.commands:
        for file in fuzzer.files(kind):
            fuzzer.lay_out(kind)
            assert fuzzer.judge(kind, command, file) is None
            assert fuzzer.whole_results(kind, command, file)


def test_a_mutant_is_made_again_from_seed_and_number(fuzzer: Fuzzer) -> None:
    def content(number: int) -> tuple[str, bytes]:
        mutant = fuzzer.make(1, number)
        return str(mutant), (fuzzer.place / mutant.file).read_bytes()

    assert [content(number) for number in range(25)] == [content(number) for number in range(25)]


def test_every_kind_of_file_is_mutated() -> None:
    chosen = {choose(KINDS, np.random.default_rng([SEED, number]).integers).name for number in range(500)}
    assert chosen == {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"status": 1, "stderr": "summing up: 0 s\nError: x.h5: damaged; make it again\n"}, None),
        ({"status": 2, "stderr": "Usage: an8flower\nTry 'an8flower -h' for help.\n\nError: no such option\n"}, None),
        ({"status": 1, "stderr": "Error: one\nthing and another\n"}, "not one sentence on stderr but 2 lines"),
        ({"status": 1, "stderr": "a warning\nError: one\n"}, "not one sentence on stderr but 2 lines"),
        ({"status": 1, "stderr": ""}, "not one sentence on stderr but 0 lines"),
        ({"status": 1, "stderr": f"Error: {'x' * 401}\n"}, "a sentence of 408 characters"),
        ({"status": 1, "stderr": "Traceback (most recent call last):\n  ...\nKeyError: 'a'\n"}, "traceback, KeyError"),
        ({"status": 70, "stderr": "Error: one\n"}, "exit status 70"),
        ({"status": -11}, "ended by signal 11"),
        ({"status": -9, "timed_out": True, "seconds": 30.0}, "runs for more than 30 s"),
        ({"peak": 5 * 2**30}, "holds 5.0 GiB"),
    ],
)
def test_the_judge(change: dict, fault: str | None) -> None:
    usual = {"status": 0, "timed_out": False, "seconds": 1, "peak": 2**20, "stdout": "", "stderr": ""}
    outcome = Outcome(**{**usual, **change})
    _expect(fault_of(outcome), fault)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["methods", "--json"], None),
        (["inspect", "nowhere.hdf5"], None),
        (["-c", "import os; os.kill(os.getpid(), 11)"], "ended by signal 11"),
        (["-c", "while True: pass"], "runs for more than"),
        (["-c", "bytearray(5 * 2**30)"], "traceback, MemoryError"),
        (["-c", "raise SystemExit(3)"], "exit status 3"),
        (["-c", "print('word', file=__import__('sys').stderr); raise SystemExit(1)"], "not one sentence on stderr"),
    ],
)
def test_the_server_sees_what_becomes_of_a_child(
    fuzzer: Fuzzer, tmp_path: Path, words: list[str], fault: str | None
) -> None:
    """Commands, and the code of misdeeds in their place."""
    _expect(fault_of(fuzzer.server.run(words, tmp_path, seconds=2)), fault)


def test_a_child_of_a_child_ends_with_it(fuzzer: Fuzzer, tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '100']).pid)"
    outcome = fuzzer.server.run(["-c", code], tmp_path)
    state, end = Path(f"/proc/{int(outcome.stdout)}/stat"), time.monotonic() + 20
    while (alive := state.exists() and state.read_text().split()[2] != "Z") and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive


def _expect(fault: str | None, beginning: str | None) -> None:
    assert (fault is None) == (beginning is None), fault
    assert fault is None or fault.startswith(beginning)
