"""Several runs side by side, in the words and columns that terminal and page share."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from .change_words import count_changes, model_of
from .wording import number

GONE = "-"


def letter_of(run: int) -> str:
    """The letter by which a run is called, from A on.

    >>> letter_of(0), letter_of(27)
    ('A', 'AB')
    """
    first, last = divmod(run, 26)
    return (string.ascii_uppercase[first - 1] if first else "") + string.ascii_uppercase[last]


def run_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """A row for each run: its letter, folder, command and version."""
    return [
        [letter_of(i), run["folder"], f"an8flower {run['command']}", str(run["versions"].get("an8flower", "-"))]
        for i, run in enumerate(document["runs"])
    ]


RUN_COLUMNS = ("run", "folder", "made by", "version")


def cell_columns(study: Mapping[str, Any]) -> list[str]:
    """The columns of the table of one metric: the mean of each run, and for later ones what it differs by."""
    first, *others = map(letter_of, study["runs"])
    return ["method", "model", first, *(text for it in others for text in (it, f"{it} - {first}", "outcome"))]


def cell_rows(study: Mapping[str, Any], metric: str) -> list[list[str]]:
    """A row for each method and model by one metric."""
    return [_cell_row(cell) for cell in study["cells"] if cell["metric"] == metric]


def _cell_row(cell: Mapping[str, Any]) -> list[str]:
    first, *others = cell["means"]
    changes = [
        text
        for mean, change in zip(others, cell["changes"], strict=True)
        for text in (_mean_text(mean), _difference_text(change), change["outcome"] if change else GONE)
    ]
    return [cell["method"], model_of(cell), _mean_text(first), *changes]


def _mean_text(mean: Mapping[str, Any] | None) -> str:
    if mean is None or mean["mean"] is None:
        return GONE
    return f"{number(mean['mean'], 3)}{_ends(mean)}"


def _difference_text(change: Mapping[str, Any] | None) -> str:
    if change is None or change["difference"] is None:
        return GONE
    return f"{number(change['difference'], 3)}{_ends(change)}"


def _ends(numbers: Mapping[str, Any]) -> str:
    """The 95 % interval in brackets; nothing where there is none."""
    if numbers["low"] is None or numbers["high"] is None:
        return ""
    return f" ({number(numbers['low'], 3)} to {number(numbers['high'], 3)})"


def describe_study(study: Mapping[str, Any]) -> str:
    """What the table of a data set rests on, in a sentence."""
    data, rows = study["dataset"], study["rows"]
    letters = " and ".join(map(letter_of, study["runs"]))
    return f"{data['name']}, {data['split']}, target: {study['target']}; the {rows} rows that {letters} scored"


def count_sentences(document: Mapping[str, Any]) -> list[str]:
    """For each later run, how many cells are better, worse and so on, in a sentence."""
    return [
        f"{letter_of(i)} beside the first: {count_changes({'counts': counts})}"
        for i, counts in enumerate(document["counts"], start=1)
    ]


def remarks(document: Mapping[str, Any]) -> list[str]:
    """What has to be known before differences are read, in sentences."""
    sentences = []
    for study in document["studies"]:
        name = study["dataset"]["name"]
        if not study["same_models"]:
            sentences.append(f"On {name}, models of one architecture and seed have other weights in other runs.")
        if other := study["other_parameters"]:
            sentences.append(f"On {name}, other parameters in other runs: {', '.join(other)}.")
        if any(rows != study["rows"] for rows in study["rows_of_runs"]):
            counts = ", ".join(
                f"{letter_of(run)} {rows}" for run, rows in zip(study["runs"], study["rows_of_runs"], strict=True)
            )
            sentences.append(f"On {name}, the runs scored other numbers of rows ({counts}): common ones are compared.")
    return sentences


def left_out_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """A row for each thing that is not compared: the run, what it is, and why."""
    return [[letter_of(entry["run"]), entry["what"], entry["reason"]] for entry in document["left_out"]]


LEFT_OUT_COLUMNS = ("run", "not compared", "reason")


def metrics_to_show(study: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """The metrics whose tables are shown: those that are wanted, or the leading one."""
    return [name for name in study["metrics"] if name in wanted] if wanted else [study["leading"]]
