"""Commands in children of a warm server, and what is allowed to come of a command on a damaged file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SERVER = Path(__file__).with_name("warm_server.py")
ROOT = Path(__file__).parents[2]
SECONDS = 30.0  # that a command may take
MEMORY = 4 * 2**30  # bytes that a command may hold
SENTENCE = 400  # characters that a refusal may have
PROGRESS = re.compile(r"([\w ,]+: \d+ s|Usage: .*|Try 'an8flower .*|)")  # lines that may precede the sentence


@dataclass(frozen=True)
class Outcome:
    """The end of one command."""

    status: int  # negative: the number of the signal that ended it
    timed_out: bool
    seconds: float
    peak: int  # bytes of main memory
    stdout: str
    stderr: str


class WarmServer:
    """A running server that carries out commands; a context manager."""

    def __enter__(self) -> WarmServer:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self.scratch = tempfile.TemporaryDirectory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.scratch.cleanup()

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        seconds: float = SECONDS,
        environment: Mapping[str, str] | None = None,
        keep_imports: bool = False,
    ) -> Outcome:
        """Run `an8flower WORDS` in a folder; with `keep_imports`, what it imported is there for all later commands."""
        scratch = Path(self.scratch.name)
        streams = {"stdout": scratch / "stdout", "stderr": scratch / "stderr"}
        modules = scratch / "modules.json"
        answer = self._ask(
            {
                "words": list(words),
                "folder": str(folder),
                "seconds": seconds,
                "memory": MEMORY,
                "environment": {"TMPDIR": str(scratch), **(environment or {})},
                "note_modules": str(modules) if keep_imports else "",
                **{name: str(place) for name, place in streams.items()},
            }
        )
        if keep_imports and modules.exists():
            self._ask({"modules": json.loads(modules.read_text())})
        return Outcome(**answer, **{name: place.read_text(errors="replace") for name, place in streams.items()})

    def _ask(self, order: Mapping[str, object]) -> dict:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the warm server has died")
        return json.loads(answer)


def fault_of(outcome: Outcome) -> str | None:
    """What is wrong with the way in which a command ended; None where it succeeded or refused as promised."""
    if outcome.timed_out:
        return f"runs for more than {outcome.seconds:.0f} s"
    if outcome.status < 0:
        return f"ended by signal {-outcome.status}"
    if "Traceback (most recent call last)" in outcome.stderr:
        return f"traceback, {outcome.stderr.strip().splitlines()[-1][:200]}"
    if outcome.peak > MEMORY:
        return f"holds {outcome.peak / 2**30:.1f} GiB"
    if outcome.status == 0:
        return None
    if outcome.status not in (1, 2):
        return f"exit status {outcome.status}"
    return _fault_of_words(outcome.stderr)


def _fault_of_words(stderr: str) -> str | None:
    lines = [line for line in stderr.strip().split("\n") if not PROGRESS.fullmatch(line)]
    if len(lines) != 1 or not lines[0].startswith("Error: "):
        return f"not one sentence on stderr but {len(lines)} lines, {' | '.join(lines)[:200]}"
    if len(lines[0].removeprefix("Error: ")) > SENTENCE:
        return f"a sentence of {len(lines[0])} characters, {lines[0][:100]}"
    return None
