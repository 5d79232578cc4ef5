"""The first sentences of the page where pictures carry marks: what the models go by, and which methods told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..results.mark_words import goes_by
from .numbers import count_of, join_names

WORDS = {"mark": "by the mark", "picture": "by the picture", "neither": "by neither alone"}


def mark_verdict(marks: Sequence[Mapping[str, Any]]) -> str:
    """What models go by, and which methods would have told on each that goes by the mark.

    Args:
        marks: what was asked about each model on data with marks, at least one.
    """
    return " ".join(filter(None, [f"There is a mark to be found{_goes_by(marks)}.", _tellers(marks)]))


def _goes_by(marks: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(map(goes_by, marks))
    if len(marks) == 1 and not counts["unknown"]:
        return f", and the model goes {WORDS[goes_by(marks[0])]}"
    parts = [f"{counts[key]} {'goes' if counts[key] == 1 else 'go'} {WORDS[key]}" for key in WORDS if counts[key]]
    if counts["unknown"]:
        parts.append(f"of {counts['unknown']} this cannot be told")
    return f": of {count_of(len(marks), 'model')}, {', '.join(parts)}"


def _tellers(marks: Sequence[Mapping[str, Any]]) -> str:
    """Which methods would have told of the mark on every model that goes by it; empty if no model does."""
    models = [entry["methods"] for entry in marks if goes_by(entry) == "mark"]
    if not any(models):
        return ""
    sure = [{method["method"] for method in methods if method["outcome"] == "yes"} for methods in models]
    names = [method["method"] for method in models[0]]
    tellers = [name for name in names if all(name in of_model for of_model in sure)]
    others = [name for name in names if name not in tellers]
    if not tellers:
        return "Of no method it is shown that it would have told you."
    rest = f"; of {join_names(others)} this is not shown" if others else ""
    return f"{join_names(tellers)} would have told you{rest}."
