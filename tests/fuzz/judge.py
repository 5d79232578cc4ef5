"""What is allowed to come of a command on a damaged file."""

from __future__ import annotations

import re

from tests.warm import MEMORY, Outcome

SENTENCE = 400  # characters that a refusal may have
PROGRESS = re.compile(r"([\w ,]+: \d+ s|Usage: .*|Try 'an8flower .*|)")  # lines that may precede the sentence


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
    """What is wrong with the sentence that a refusal is; progress and warnings before it are no part of it."""
    lines = [line for line in stderr.strip().split("\n") if not PROGRESS.fullmatch(line)]
    lines = [line for line in lines if not line.startswith("Warning: ") or len(line) > SENTENCE]
    if len(lines) != 1 or not lines[0].startswith("Error: "):
        return f"not one sentence on stderr but {len(lines)} lines, {' | '.join(lines)[:200]}"
    if len(lines[0].removeprefix("Error: ")) > SENTENCE:
        return f"a sentence of {len(lines[0])} characters, {lines[0][:100]}"
    return None
