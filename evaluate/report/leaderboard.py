"""The leaderboard and the heat map: every method by every metric, between chance and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results.scopes import THESE
from ..results.wording import NUMBERS, UNKNOWN
from .boards import BoardEntry, BoardView, boards_of
from .figures import CellValue, NumberTable
from .numbers import DASH, CalibratedInterval, between, brief, calibrated_interval, number
from .study import MethodView, StudyView

LEFT = -0.5  # where the bar of an interval begins; it ends at 1, the truth


class BoardColumn(NamedTuple):
    """One column of the leaderboard."""

    title: str
    meaning: str


class IntervalBar(NamedTuple):
    """The bar of an interval on the scale from `LEFT` to 1, in percent of the width of the scale."""

    start: float
    width: float
    mean: float


class BoardCell(NamedTuple):
    """One cell of the leaderboard: its text, and the value that it is sorted by."""

    text: str
    sort: float | str | None


COLUMNS = (
    BoardColumn("calibrated", "the mean score on a scale where a random map has 0 and the truth has 1"),
    BoardColumn("95 % interval", "of the calibrated score, for other images and these models"),
    BoardColumn(
        "ceiling",
        "the calibrated score of the truth itself at the resolution of the method's own grid, scaled up as its maps "
        "are; a dash for methods without a grid",
    ),
    BoardColumn(
        "skill",
        "the same score on a scale where the best control that sees no model (the mean training mask, the center, "
        "edges) has 0 and the truth has 1, with its 95 % interval",
    ),
    BoardColumn(
        "of this picture",
        "the calibrated score less that of the method's own maps of other pictures, with its 95 % interval: 0 if those "
        "do as well",
    ),
    BoardColumn(
        "tied",
        "methods that share a letter cannot be told apart on these models (paired tests, corrected by Holm); without "
        "letters where it would take more than six",
    ),
    BoardColumn(
        "better than", "whether it is told from the best of the controls, and from the next method below it, likewise"
    ),
    BoardColumn("rank", "mean rank of the method when the images are drawn again, for these models; 1 is best"),
    BoardColumn("95 % of ranks", "where the rank lies in 95 % of these draws"),
    BoardColumn("mean", "the mean score in the unit of the metric"),
    BoardColumn("interval of the mean", "the 95 % interval of the mean score"),
    BoardColumn("chance", "the expected score of a random map"),
    BoardColumn("truth", "the score of a map that shows exactly the truth"),
    BoardColumn("where relied on", "the calibrated score on those images for which the models rely on the evidence"),
    BoardColumn("n", "how many images were scored"),
    BoardColumn("undefined", "how many of these images have no value, since the metric is not defined for them"),
    BoardColumn("no map", "how many maps say nothing, over all models; these count as chance"),
    BoardColumn("with a map", "the calibrated score of the other maps alone"),
    BoardColumn("ms", "milliseconds per image"),
    BoardColumn("forwards", "forward passes through the network per image"),
    BoardColumn("backwards", "backward passes through the network per image"),
)


MEAN = [column.title for column in COLUMNS].index("mean")


class BoardRow(NamedTuple):
    """The row of one method in the leaderboard."""

    method: MethodView
    text: str  # the names of the method and of those with equal maps
    fields: Sequence[BoardCell]
    bar: IntervalBar | None


class Leaderboard(NamedTuple):
    """The leaderboard of one metric on some models."""

    metric: str
    family: str
    lower: bool
    rows: Sequence[BoardRow]


def leaderboards(board: BoardView) -> list[Leaderboard]:
    """A leaderboard for each metric, each with all methods of a board in the order of the plan."""
    study = board.study
    families = study.scores.get("families", {})
    return [
        Leaderboard(
            metric,
            families.get(metric, ""),
            study.lower_is_better(metric),
            [_row(board, entry, metric) for entry in board.entries],
        )
        for metric in study.metrics
    ]


def sort_best_first(board: Leaderboard) -> Leaderboard:
    """The leaderboard as it is shown first: sorted by the calibrated score, or by the mean if there is none."""

    def place(row: BoardRow) -> tuple[bool, float]:
        calibrated, mean = row.fields[0].sort, row.fields[MEAN].sort
        if isinstance(calibrated, float):
            return False, -calibrated
        return True, (1 if board.lower else -1) * mean if isinstance(mean, float) else float("inf")

    return board._replace(rows=sorted(board.rows, key=place))


def board_data(boards: Sequence[Leaderboard]) -> dict[str, Any]:
    """The leaderboards for the page's script: for each metric, cells and bars by the number of the method."""
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


def _row(board: BoardView, entry: BoardEntry, metric: str) -> BoardRow:
    m = board.numbers(metric, entry)
    method, text = entry.method, entry.text
    if not m:
        return BoardRow(method, text, [BoardCell(DASH, None)] * (len(COLUMNS) - 3) + _costs(method), None)
    place = calibrated_interval(m)
    relying = (m.get("relying") or {}).get("calibrated") if place else None
    tied, better = board.tie_letters(metric, entry), board.better_than(metric, entry)
    gaps, defined = sum((m.get("gaps") or {}).values()), (m.get("defined_only") or {}).get("calibrated")
    cells = [
        BoardCell(number(place and place.mean, 2), place and place.mean),
        BoardCell(between(place and place.low, place and place.high, 2), place and place.low),
        BoardCell(number(m.get("ceiling"), 2), m.get("ceiling")),
        _with_interval(m, "skill"),
        _with_interval(m, "of_this_picture"),
        BoardCell(tied or DASH, tied or None),
        BoardCell(better or DASH, better or None),
        *_ranks(board.standing(metric, entry)),
        BoardCell(number(m["mean"]), m["mean"]),
        BoardCell(between(m["low"], m["high"]), m["low"]),
        BoardCell(number(m["chance"]), m["chance"]),
        BoardCell(number(m["oracle"]), m["oracle"]),
        BoardCell(number(relying, 2), relying),
        BoardCell(str(m["n"]), m["n"]),
        BoardCell(str(m["undefined"]), m["undefined"]),
        BoardCell(str(gaps), gaps),
        BoardCell(number(defined, 2), defined),
    ]
    return BoardRow(method, text, cells + _costs(method), place and interval_bar(place))


def _with_interval(m: Mapping[str, Any], key: str) -> BoardCell:
    """A number of a method with its 95 % interval behind it; a dash if it has none, or one that says nothing."""
    value, low, high = (m.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None or low is None or high is None or high - low > 2 * UNKNOWN:
        return BoardCell(DASH, None)
    return BoardCell(f"{number(value, 2)} ({between(low, high, 2)})", value)


def _ranks(standing: Mapping[str, Any] | None) -> list[BoardCell]:
    if not standing:
        return [BoardCell(DASH, None), BoardCell(DASH, None)]
    low, high = standing["low"], standing["high"]
    return [BoardCell(number(standing["rank"], 1), standing["rank"]), BoardCell(f"{low:g} to {high:g}", low)]


def _costs(method: MethodView) -> list[BoardCell]:
    cost = method.result.get("cost") or {}
    seconds = cost.get("seconds")
    milliseconds = None if seconds is None else 1000 * seconds
    values = [milliseconds, cost.get("forwards"), cost.get("backwards")]
    return [BoardCell(brief(value), value) for value in values]


def interval_bar(place: CalibratedInterval) -> IntervalBar:
    """The bar of an interval, cut at both ends of the scale.

    >>> interval_bar(CalibratedInterval(0.25, -0.5, 1.0))
    IntervalBar(start=0.0, width=100.0, mean=50.0)
    """
    numbers = (place.low, place.high, place.mean)
    low, high, mean = (round(100 * (min(max(value, LEFT), 1) - LEFT) / (1 - LEFT), 2) for value in numbers)
    return IntervalBar(low, round(high - low, 2), mean)


class HeatCell(NamedTuple):
    """One cell of the heat map: its number, and how strong its colour is, 0 to 1."""

    text: str
    strength: float | None


def heat_map(board: BoardView) -> list[tuple[BoardEntry, list[HeatCell]]]:
    """Calibrated scores of all methods of a board by all metrics; the best by the leading metric comes first."""
    order: dict[int, int] = {}
    if board.study.leading:
        rows = sort_best_first(leading_board(board.study, leaderboards(board))).rows
        order = {row.method.place: place for place, row in enumerate(rows)}
    entries = sorted(board.entries, key=lambda entry: order.get(entry.method.place, 0))
    return [(entry, [_heat(board, entry, metric) for metric in board.study.metrics]) for entry in entries]


def leading_board(study: StudyView, boards: Sequence[Leaderboard]) -> Leaderboard:
    """The leaderboard of the metric that the verdict speaks of."""
    return next(board for board in boards if board.metric == study.leading)


def _heat(board: BoardView, entry: BoardEntry, metric: str) -> HeatCell:
    place = calibrated_interval(board.numbers(metric, entry))
    return HeatCell(number(place.mean, 2), round(min(max(place.mean, 0), 1), 3)) if place else HeatCell(DASH, None)


FURTHER = (
    *("calibrated_low", "calibrated_high", "ceiling", "skill", "skill_low", "skill_high", "skill_control"),
    *("of_this_picture", "of_this_picture_low", "of_this_picture_high"),
)
"""What the download says of a method besides `NUMBERS`."""


def all_scores(studies: Sequence[StudyView]) -> NumberTable:
    """All scores of all boards in one long table, for the download."""
    columns = ["dataset", "method", "control", "metric", "models", "scope", *NUMBERS, *FURTHER]
    columns += ["where_relied_on", "rank", "tied", "better_than", "no_map", "seconds", "forwards", "backwards"]
    boards = [board for study in studies for board in boards_of(study)]
    return NumberTable(columns, [line for board in boards for entry in board.entries for line in _lines(board, entry)])


def _lines(board: BoardView, entry: BoardEntry) -> list[list[CellValue]]:
    cost = entry.method.result.get("cost") or {}
    costs = [cost.get(name) for name in ("seconds", "forwards", "backwards")]
    control = "yes" if entry.control else "no"
    lines: list[list[CellValue]] = []
    for metric in entry.method.result["metrics"]:
        m = board.numbers(metric, entry)
        further = [
            (m.get("relying") or {}).get("calibrated"),
            (board.standing(metric, entry) or {}).get("rank"),
            board.tie_letters(metric, entry),
            board.better_than(metric, entry),
            sum((m.get("gaps") or {}).values()),
        ]
        about = [board.study.name, entry.text, control, metric, board.title, THESE]
        lines.append([*about, *(m.get(name) for name in (*NUMBERS, *FURTHER)), *further, *costs])
    return lines
