"""The leaderboard and the heat map: every method by every metric, between chance and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results.wording import NUMBERS, letters
from .figures import Cell, Table
from .numbers import DASH, Scaled, between, brief, number, scaled
from .study import Method, Study

LEFT = -0.5  # where the bar of an interval begins; it ends at 1, the truth


class Column(NamedTuple):
    """A column of the leaderboard."""

    title: str
    says: str


class Bar(NamedTuple):
    """An interval on the scale from `LEFT` to 1, in percent of its width."""

    start: float
    width: float
    mean: float


class Field(NamedTuple):
    """A cell: what it says, and what it is sorted by."""

    text: str
    sort: float | str | None


COLUMNS = (
    Column("calibrated", "the score where a random map has 0 and the truth has 1"),
    Column("95 % interval", "of the calibrated score, for other images and for models trained anew"),
    Column("tied", "methods with a common letter cannot be told apart (Holm)"),
    Column("rank", "mean rank over redrawn rows, 1 is best"),
    Column("95 % of ranks", "where the rank lies in 95 % of the draws"),
    Column("mean", "the score as it is"),
    Column("interval of the mean", "95 %"),
    Column("chance", "the expected score of a random map"),
    Column("truth", "the score of the truth itself"),
    Column("where relied on", "calibrated, over the rows in which the models rely on the designed evidence"),
    Column("n", "rows scored"),
    Column("undefined", "rows of these without a value"),
    Column("ms", "milliseconds per image"),
    Column("forwards", "passes through the network per image"),
    Column("backwards", "backward passes per image"),
)


class Row(NamedTuple):
    """A method in the leaderboard."""

    method: Method
    fields: Sequence[Field]
    bar: Bar | None


class Board(NamedTuple):
    """The leaderboard of one metric."""

    metric: str
    family: str
    lower: bool
    rows: Sequence[Row]


def boards(study: Study) -> list[Board]:
    """A leaderboard for each metric, each with all methods in the order of the plan."""
    families = study.scores.get("families", {})
    return [
        Board(metric, families.get(metric, ""), study.lower_is_better(metric), _rows(study, metric))
        for metric in study.metrics
    ]


def best_first(board: Board) -> Board:
    """The same, sorted as it is shown first: by the calibrated score, by the mean where there is none."""

    def place(row: Row) -> tuple[bool, float]:
        calibrated, mean = row.fields[0].sort, row.fields[5].sort
        if isinstance(calibrated, float):
            return False, -calibrated
        return True, (1 if board.lower else -1) * mean if isinstance(mean, float) else float("inf")

    return board._replace(rows=sorted(board.rows, key=place))


def board_data(boards: Sequence[Board]) -> dict[str, Any]:
    """As the script gets it: for each metric, cells and bars by the number of the method."""
    return {
        board.metric: {
            "lower": board.lower,
            "rows": {
                str(row.method.place): {
                    "cells": [list(field) for field in row.fields],
                    "bar": row.bar and list(row.bar),
                }
                for row in board.rows
            },
        }
        for board in boards
    }


def _rows(study: Study, metric: str) -> list[Row]:
    groups = (study.scores.get("comparisons") or {}).get(metric, {}).get("groups", [])
    standings = ((study.scores.get("ranks") or {}).get(metric) or {}).get("methods") or {}
    return [_row(method, metric, groups, standings.get(method.text)) for method in study.methods]


def _row(method: Method, metric: str, groups: Sequence[Sequence[str]], standing: Mapping[str, Any] | None) -> Row:
    m = method.result["metrics"].get(metric)
    if m is None:
        return Row(method, [Field(DASH, None)] * 12 + _costs(method), None)
    place = scaled(m)
    relying = (m.get("relying") or {}).get("calibrated") if place else None
    tied = letters(method.text, groups)
    rank = standing["rank"] if standing else None
    ranks = Field(f"{standing['low']:g} to {standing['high']:g}", standing["low"]) if standing else Field(DASH, None)
    fields = [
        Field(number(place and place.mean, 2), place and place.mean),
        Field(between(place and place.low, place and place.high, 2), place and place.low),
        Field(tied or DASH, tied or None),
        Field(number(rank, 1), rank),
        ranks,
        Field(number(m["mean"]), m["mean"]),
        Field(between(m["low"], m["high"]), m["low"]),
        Field(number(m["chance"]), m["chance"]),
        Field(number(m["oracle"]), m["oracle"]),
        Field(number(relying, 2), relying),
        Field(str(m["n"]), m["n"]),
        Field(str(m["undefined"]), m["undefined"]),
    ]
    return Row(method, fields + _costs(method), place and bar(place))


def _costs(method: Method) -> list[Field]:
    cost = method.result.get("cost") or {}
    seconds = cost.get("seconds")
    milliseconds = None if seconds is None else 1000 * seconds
    told = [milliseconds, cost.get("forwards"), cost.get("backwards")]
    return [Field(brief(value), value) for value in told]


def bar(place: Scaled) -> Bar:
    """Where an interval is drawn.

    >>> bar(Scaled(0.25, -0.5, 1.0))
    Bar(start=0.0, width=100.0, mean=50.0)
    """
    low, high, mean = (round(100 * (min(max(each, LEFT), 1) - LEFT) / (1 - LEFT), 2) for each in place[1:] + place[:1])
    return Bar(low, round(high - low, 2), mean)


class Heat(NamedTuple):
    """A cell of the heat map: its number, and how much of its colour it has, 0 to 1."""

    text: str
    strength: float | None


def heat_map(study: Study) -> list[tuple[Method, list[Heat]]]:
    """Calibrated scores of all methods by all metrics; strongest by the leading metric first."""
    order = (
        {row.method.place: place for place, row in enumerate(best_first(_leading(study)).rows)} if study.leading else {}
    )
    methods = sorted(study.methods, key=lambda method: order.get(method.place, 0))
    return [(method, [_heat(method, metric) for metric in study.metrics]) for method in methods]


def _leading(study: Study) -> Board:
    return next(board for board in boards(study) if board.metric == study.leading)


def _heat(method: Method, metric: str) -> Heat:
    place = scaled(method.result["metrics"].get(metric, {}))
    return Heat(number(place.mean, 2), round(min(max(place.mean, 0), 1), 3)) if place else Heat(DASH, None)


def everything(studies: Sequence[Study]) -> Table:
    """All scores of all data sets in one long table."""
    columns = ["dataset", "method", "control", "metric", *NUMBERS, "where_relied_on", "rank", "tied"]
    rows = [line for study in studies for method in study.methods for line in _lines(study, method)]
    return Table([*columns, "seconds", "forwards", "backwards"], rows)


def _lines(study: Study, method: Method) -> list[list[Cell]]:
    cost = method.result.get("cost") or {}
    costs = [cost.get(name) for name in ("seconds", "forwards", "backwards")]
    found = []
    for metric, m in method.result["metrics"].items():
        groups = (study.scores.get("comparisons") or {}).get(metric, {}).get("groups", [])
        standing = (((study.scores.get("ranks") or {}).get(metric) or {}).get("methods") or {}).get(method.text) or {}
        told = [m.get(name) for name in NUMBERS]
        further = [(m.get("relying") or {}).get("calibrated"), standing.get("rank"), letters(method.text, groups)]
        found.append([study.name, method.text, "yes" if method.control else "no", metric, *told, *further, *costs])
    return found
