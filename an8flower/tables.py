"""How results look in a terminal, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

NUMBERS = ("mean", "low", "high", "n", "undefined", "chance", "oracle", "calibrated")


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table; columns of numbers stand to the right."""
    table = Table(box=box.SIMPLE_HEAD, title=escape(title or "") or None, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[i]) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", no_wrap=numeric or i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


def show_mapping(mapping: Mapping[str, Any]) -> None:
    """Print names and values, a line each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in mapping.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(escape(key), escape(words))
    _console().print(table)


def show_scores(document: Mapping[str, Any]) -> None:
    """Print what was scored, a table of all methods, and what was left out."""
    data, results = document["dataset"], document["results"]
    _say(f"{data['name']}, {data['rows']} rows of {data['split']}, target: {document['target']}")
    for model in document["models"]:
        _say(f"{model['arch']} seed {model['seed']}: accuracy {model['accuracy']:.2%}")
        for precision, error in model.get("precision_error", {}).items():
            _say(f"{precision}: probabilities are off by {error['mean']:.2g} on average, {error['max']:.2g} at most")
    if len(results) == 1:
        _show_one(results[0])
    elif results:
        _show_many(results)
    for each in document["skipped"]:
        _say(f"skipped {each['method']} on {each['model']}: {each['reason']}")
    for each in document.get("left_out", []):
        _say(f"left out {each['metric']}: {each['reason']}")


def write_csv(document: Mapping[str, Any], out: TextIO) -> None:
    """One line per method and metric."""
    writer = csv.writer(out)
    writer.writerow(["method", "parameters", "metric", *NUMBERS, "seconds", "forwards", "backwards"])
    for result in document["results"]:
        parameters = ",".join(f"{key}={value}" for key, value in result["parameters"].items())
        for metric, numbers in result["metrics"].items():
            values = [numbers[key] for key in NUMBERS]
            writer.writerow([result["method"], parameters, metric, *values, *result["cost"].values()])


def _show_one(result: Mapping[str, Any]) -> None:
    """A method with everything that is known of each metric."""
    columns = ["metric", "mean", "95 % interval", "chance", "truth", "calibrated", "n", "undefined"]
    rows = [
        [
            name,
            _number(m["mean"]),
            f"{_number(m['low'])} to {_number(m['high'])}",
            _number(m["chance"]),
            _number(m["oracle"]),
            _number(m["calibrated"]),
            str(m["n"]),
            str(m["undefined"]),
        ]
        for name, m in result["metrics"].items()
    ]
    show(columns, rows, title=f"{_named(result)}   ({_costs(result)})")


def _show_many(results: Sequence[Mapping[str, Any]]) -> None:
    """Methods against metrics: calibrated means with half the width of their 95 % interval."""
    metrics = list(results[0]["metrics"])
    names = [result["method"] for result in results]
    rows = [
        [
            _named(result) if names.count(result["method"]) > 1 else result["method"],
            *(_calibrated(result["metrics"][name]) for name in metrics),
            _milliseconds(result),
        ]
        for result in results
    ]
    show(
        ["method", *metrics, "ms"],
        rows,
        title="calibrated: 0 = a random map, 1 = the truth; ± half of the 95 % interval",
    )


def _calibrated(m: Mapping[str, Any]) -> str:
    if m["calibrated"] is None:
        return "-"
    half = (m["high"] - m["low"]) / 2 / (m["oracle"] - m["chance"])
    return f"{_number(m['calibrated'], 2)}±{abs(half):.2f}"


def _named(result: Mapping[str, Any]) -> str:
    parameters = ",".join(f"{key}={value}" for key, value in result["parameters"].items() if value is not None)
    return f"{result['method']}:{parameters}" if parameters else result["method"]


def _costs(result: Mapping[str, Any]) -> str:
    cost = result["cost"]
    return (
        f"{_milliseconds(result)} ms, {cost['forwards']:.3g} forward, {cost['backwards']:.3g} backward passes per image"
    )


def _milliseconds(result: Mapping[str, Any]) -> str:
    return f"{1000 * result['cost']['seconds']:.2f}"


def _number(value: float | None, digits: int = 3) -> str:
    """A number without a negative zero; a dash where there is none."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _say(sentence: str) -> None:
    _console().print(sentence, markup=False, highlight=False)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "+-."


def _console() -> Console:
    """Standard output; as wide as the terminal, and wide enough for every column where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=200)
