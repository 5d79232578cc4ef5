"""An audit in a few lines of Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .change_words import count_changes, ends_of, list_changes, lone_cells, model_of
from .decisions import FAILS, HOLDS, UNDECIDED, name_of
from .sanity_outcomes import outcome_shown
from .verdict_words import by_word, where_text
from .wording import calibrated_ends, number, reliance

RELIES_WORDS = {"yes": "relies on the evidence", "part": "relies in part", "no": "does not rely", "unknown": "unknown"}


def to_markdown(summary: Mapping[str, Any]) -> str:
    """A summary as Markdown: what was required, the best methods of each architecture, and what the models rely on."""
    title = summary.get("title") or summary["name"]
    blocks = [f"## an8flower: {_escape(title)}", *_requirements(summary), *_changes(summary)]
    for study in summary["studies"]:
        blocks += [*_verdicts(study), *_scores(study), *_models(study)]
    if failed := summary.get("failed"):
        blocks.append(f"**{len(failed)} cells failed**; the first: {_escape(failed[0]['reason'])}")
    return "\n\n".join(blocks) + "\n"


def count_outcomes(requirements: Sequence[Mapping[str, Any]]) -> str:
    """How many requirements hold, fail and are undecided, in words.

    >>> count_outcomes([{"outcome": "holds"}, {"outcome": "fails"}, {"outcome": "holds"}])
    '3 requirements: 2 hold, 1 fails, 0 undecided'
    """
    outcomes = [entry["outcome"] for entry in requirements]
    hold, fail, undecided = (outcomes.count(outcome) for outcome in (HOLDS, FAILS, UNDECIDED))
    return (
        f"{len(outcomes)} requirement{'s' * (len(outcomes) != 1)}: {hold} hold{'s' * (hold == 1)}, "
        f"{fail} fail{'s' * (fail == 1)}, {undecided} undecided"
    )


def _requirements(summary: Mapping[str, Any]) -> Iterator[str]:
    if requirements := summary.get("requirements"):
        yield f"**{count_outcomes(requirements)}.**"
        rows = [[_code(entry["text"]), entry["outcome"], _escape(entry["reason"])] for entry in requirements]
        yield _table(["requirement", "outcome", "measured"], rows)


def _verdicts(study: Mapping[str, Any]) -> Iterator[str]:
    """A table for each architecture: which methods are to be trusted, and which not, best first."""
    for verdict in study.get("verdicts") or ():
        groups = ((word, methods) for word, methods in by_word(verdict).items() if methods)
        yield f"### Verdict: {_escape(where_text(verdict, study))}"
        yield _table(["verdict", "methods"], [[word, ", ".join(map(_code, methods))] for word, methods in groups])


def _changes(summary: Mapping[str, Any]) -> Iterator[str]:
    """What has changed since an earlier run: the counts, and a table of the cells that are better or worse."""
    if against := summary.get("against"):
        yield f"**Against {_code(against['run'])}: {count_changes(against)}.**"
        rows = [
            [
                change["outcome"],
                _code(change["method"]),
                _escape(change["metric"]),
                _escape(f"{model_of(change)}, {change['dataset']}"),
                *(number(change[key], 3) for key in ("before", "now", "difference")),
                ends_of(change),
            ]
            for change in list_changes(against)
        ]
        if rows:
            columns = ["outcome", "method", "metric", "model, data", "then", "now", "difference", "95 % interval"]
            yield _table(columns, rows)
        yield from (_escape(sentence) for sentence in [*lone_cells(against), *against["notes"]])


def _scores(study: Mapping[str, Any]) -> Iterator[str]:
    """A table for each architecture: the methods by the leading metric, best first."""
    scores, data = study["scores"], study["dataset"]
    metric = next(iter(scores.get("leading") or scores.get("families") or ()), None)
    for board in scores.get("boards") or ():
        if metric in board["metrics"] and len(board["architectures"]) == 1:
            results = board["metrics"][metric]["results"].items()
            ranked = sorted(results, key=lambda item: (item[1]["calibrated"] is None, -(item[1]["calibrated"] or 0)))
            rows = [[_code(name), number(values["calibrated"]), _interval(values)] for name, values in ranked]
            yield f"### {_escape(data['name'])}, {_escape(*board['architectures'])}: {data['rows']} rows, by {metric}"
            yield _table(["method", "calibrated", "95 % interval"], rows)


def _interval(values: Mapping[str, Any]) -> str:
    ends = calibrated_ends(values)
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "-"


def _models(study: Mapping[str, Any]) -> Iterator[str]:
    """What each model relies on, and which methods fail a sanity check on it."""
    lines = [
        f"- {_escape(certificate['model'])}: {RELIES_WORDS[reliance(certificate)]}"
        for certificate in study.get("certificates") or ()
    ]
    for document in study.get("sanity") or ():
        insane = [
            result.get("text") or result["method"]
            for result in document["results"]
            if any(outcome_shown(verdict)[0] == "fail" for verdict in result["verdicts"].values())
        ]
        if insane:
            lines.append(f"- {name_of(document['model'])}: fail a sanity check: {_escape(', '.join(insane))}")
    if lines:
        yield "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """A text on one line in which nothing is markup of Markdown's tables, or HTML.

    >>> _escape("a|b <img>")
    'a\\\\|b &lt;img>'
    """
    line = " ".join(text.split()).replace("\\", "\\\\")
    return line.replace("|", "\\|").replace("&", "&amp;").replace("<", "&lt;").replace("`", "\\`")


def _code(text: str) -> str:
    """A text as it was typed, in one cell of a table."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`".replace("|", "\\|")
