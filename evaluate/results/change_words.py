"""What has changed since an earlier audit, in the words and numbers that terminal, page and pull request share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from .changes import BETTER, GONE, NEW, OUTCOMES, WORSE
from .wording import number


def count_changes(against: Mapping[str, Any]) -> str:
    """How many cells came to which outcome, in words.

    >>> count_changes({"counts": {"better": 1, "worse": 0, "cannot be told": 2, "gone": 0}})
    '3 cells: 0 worse, 1 better, 2 cannot be told'
    """
    counts = against["counts"]
    shown = [name for name in OUTCOMES if counts.get(name) or (name in counts and name in (BETTER, WORSE))]
    return f"{sum(counts.values())} cells: {', '.join(f'{counts[name]} {name}' for name in shown)}"


def list_changes(
    against: Mapping[str, Any], outcomes: Collection[str] = (WORSE, BETTER), metrics: Collection[str] | None = None
) -> list[Mapping[str, Any]]:
    """The cells of these outcomes, worse ones first, and among them those with the clearest difference.

    Args:
        metrics: those whose cells are listed; all where None.
    """
    shown = [
        change
        for change in against["changes"]
        if change["outcome"] in outcomes and (metrics is None or change["metric"] in metrics)
    ]
    return sorted(shown, key=lambda change: (OUTCOMES.index(change["outcome"]), change["p_holm"] or 0))


def lone_cells(against: Mapping[str, Any]) -> list[str]:
    """A sentence for the cells that are gone, and one for those that are new, with the methods; none without such.

    >>> lone_cells({"changes": [{"outcome": "new", "method": "lrp"}, {"outcome": "new", "method": "lrp"}]})
    ['new: lrp (2 cells)']
    """
    sentences = []
    for outcome in (GONE, NEW):
        counts = Counter(change["method"] for change in against["changes"] if change["outcome"] == outcome)
        if counts:
            words = (f"{method} ({count} cell{'s' * (count != 1)})" for method, count in counts.items())
            sentences.append(f"{outcome}: {', '.join(words)}")
    return sentences


def model_of(change: Mapping[str, Any]) -> str:
    """The model of a cell: its architecture and seed, or its architecture alone.

    >>> model_of({"architecture": "flowernet", "seed": 0}), model_of({"architecture": "flowernet", "seed": None})
    ('flowernet seed 0', 'flowernet')
    """
    return str(change["architecture"]) + ("" if change["seed"] is None else f" seed {change['seed']}")


def subject_of(change: Mapping[str, Any]) -> str:
    """What a cell is about: method, metric, model and data set."""
    return f"{change['method']} by {change['metric']} on {model_of(change)}, {change['dataset']}"


def numbers_of(change: Mapping[str, Any]) -> str:
    """The scores then and now, their difference with its interval, and on how many rows; why there are none, if so."""
    if change["difference"] is None:
        return str(change["reason"])
    return (
        f"{number(change['before'], 3)} then, {number(change['now'], 3)} now: "
        f"{number(change['difference'], 3)} (95 %: {ends_of(change)}, {rows_of(change)})"
    )


def ends_of(change: Mapping[str, Any]) -> str:
    """The 95 % interval of a difference."""
    if change["low"] is None:
        return "-"
    return f"{number(change['low'], 3)} to {number(change['high'], 3)}"


def rows_of(change: Mapping[str, Any]) -> str:
    """What a difference is of: so many rows, or means.

    >>> rows_of({"by": "rows", "n": 12}), rows_of({"by": "means", "n": 0})
    ('12 rows', 'by means')
    """
    return f"{change['n']} rows" if change["by"] == "rows" else "by means"
