"""What commands do with requirements: print them, write them to files, and end with the exit code that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..errors import Refusal
from .options import FILE


class RequirementFails(Refusal):
    """A requirement fails: the numbers are there, and the bound of an interval speaks against it."""

    exit_code = 3


class RequirementUndecided(Refusal):
    """A requirement is undecided, and the user asked that this should count (`--strict`)."""

    exit_code = 4


class Gate(NamedTuple):
    """What a command was told about requirements: those of the command line, what counts, and which files to write."""

    require: tuple[str, ...]
    strict: bool
    junit: Path | None
    markdown: Path | None


def requirement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --require, --strict, --junit and --markdown, which the command gets as a `Gate` named `gate`."""

    @wraps(command)
    def call(**options: Any) -> Any:
        gate = Gate(*(options.pop(name) for name in Gate._fields))
        return command(**options, gate=gate)

    options = (
        click.option(
            "--require",
            multiple=True,
            help='What has to hold, as in "gradcam: average_precision >= 0.5". Repeatable; added to what a plan '
            "requires. Exit code 3 if one fails.",
        ),
        click.option("--strict", is_flag=True, help="Exit code 4 if none fails and one is undecided."),
        click.option("--junit", type=FILE, help="Also write requirements and sanity checks as JUnit XML."),
        click.option("--markdown", type=FILE, help="Also write a summary for a pull request."),
    )
    for option in reversed(options):
        call = option(call)
    return call


def write_verdict_files(summary: Mapping[str, Any], gate: Gate) -> None:
    """Write the files that the user asked for; a Refusal if one cannot be written."""
    from ..atomic import moved_into
    from ..evaluate.results.junit import to_junit
    from ..evaluate.results.pull_request import to_markdown

    for path, to_text, option in ((gate.junit, to_junit, "--junit"), (gate.markdown, to_markdown, "--markdown")):
        if path is not None:
            try:
                with moved_into(path) as unfinished:
                    unfinished.write_text(to_text(summary), encoding="utf-8", errors="xmlcharrefreplace")
            except OSError as error:
                reason = error.strerror or error
                raise Refusal(f"{path}: cannot be written ({reason}); choose another place with {option}") from None


def show_requirements(requirements: Sequence[Mapping[str, Any]]) -> None:
    """Print each requirement with its outcome and what was measured."""
    for entry in requirements:
        click.echo(f"{entry['outcome']:<9}  {entry['text']}")
        click.echo(click.wrap_text(entry["reason"], initial_indent=" " * 11, subsequent_indent=" " * 11))


def end_by_requirements(requirements: Sequence[Mapping[str, Any]], strict: bool) -> None:
    """Raise RequirementFails if one fails, and RequirementUndecided if one is undecided and that should count."""
    by_outcome: dict[str, list[str]] = {}
    for entry in requirements:
        by_outcome.setdefault(entry["outcome"], []).append(entry["text"])
    if failing := by_outcome.get("fails"):
        raise RequirementFails(f"{len(failing)} of {len(requirements)} requirements not met: {'; '.join(failing)}")
    if strict and (undecided := by_outcome.get("undecided")):
        raise RequirementUndecided(
            f"{len(undecided)} of {len(requirements)} requirements undecided: {'; '.join(undecided)}; score more rows, "
            "or leave --strict out"
        )
