"""The boards of one data set: methods that ran on the same models, for each architecture and over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ..results.scopes import models_text
from ..results.wording import better_than, letters
from .numbers import join_names
from .study import MethodView, StudyView


class BoardEntry(NamedTuple):
    """One line of a board: a method, and those whose maps are equal to its own."""

    method: MethodView
    text: str  # the names of all of them
    control: bool


class BoardView:
    """One board: what its methods score, which can be told apart, and how firm their order is."""

    def __init__(self, study: StudyView, index: int, document: Mapping[str, Any]) -> None:
        self.study, self.document = study, document
        self.key = f"{study.key}-{index}" if index else study.key

    @property
    def title(self) -> str:
        """The models of the board in words; empty if its document does not know them."""
        seeds = self.document["architectures"]
        return models_text(seeds) if seeds else ""

    @cached_property
    def entries(self) -> list[BoardEntry]:
        """The methods of the board, in the order of the plan."""
        entries = []
        for entry in self.document["methods"]:
            method = self.study.by_text.get(entry["text"])
            if method is not None:
                entries.append(BoardEntry(method, " = ".join([entry["text"], *entry["equal"]]), method.control))
        return entries

    def numbers(self, metric: str, entry: BoardEntry) -> Mapping[str, Any]:
        """What a method scores by a metric; empty if nothing is known."""
        numbers: Mapping[str, Any] = self._of(metric).get("results", {}).get(entry.method.text) or {}
        return numbers

    def standing(self, metric: str, entry: BoardEntry) -> Mapping[str, Any] | None:
        """The rank of a method over redrawn rows; None if it has none."""
        standing: Mapping[str, Any] | None = ((self._of(metric).get("ranks") or {}).get("methods") or {}).get(
            entry.method.text
        )
        return standing

    def tie_letters(self, metric: str, entry: BoardEntry) -> str:
        """The letters that a method shares with those it cannot be told from; empty if there are too many."""
        return letters(entry.method.text, self._of(metric).get("groups", []))

    def better_than(self, metric: str, entry: BoardEntry) -> str:
        """Whether a method is known to be better than the best control and the next method, in words."""
        return better_than((self._of(metric).get("better_than") or {}).get(entry.method.text))

    def ties(self, metric: str, entry: BoardEntry) -> set[str]:
        """The methods that were compared with a method by a metric and cannot be told from it."""
        text = entry.method.text
        pairs = [pair for pair in self._of(metric).get("pairs", []) if text in (pair["a"], pair["b"])]
        tied = [pair for pair in pairs if not pair["apart"] and is_compared(pair)]
        return {name for pair in tied for name in (pair["a"], pair["b"])} - {text}

    def rank(self, metric: str) -> list[BoardEntry]:
        """The methods that have a value of a metric, best first."""
        sign = 1 if self.study.lower_is_better(metric) else -1
        known = [entry for entry in self.entries if self.numbers(metric, entry).get("mean") is not None]
        return sorted(known, key=lambda entry: sign * self.numbers(metric, entry)["mean"])

    def trained_anew(self, metric: str) -> Mapping[str, Any]:
        """What can be said of models trained anew; empty if the document does not say."""
        anew: Mapping[str, Any] = self._of(metric).get("trained_anew") or {}
        return anew

    @property
    def missing(self) -> str:
        """A sentence on the methods that are not ranked here, since they ran on other models only; or nothing."""
        names = sorted(self.document["missing"])
        if not names:
            return ""
        have = "is" if len(names) == 1 else "are"
        return f"Not ranked here, since not run on all of these models, {have} {join_names(names, 8)}."

    def _of(self, metric: str) -> Mapping[str, Any]:
        numbers: Mapping[str, Any] = self.document["metrics"].get(metric) or {}
        return numbers


def is_compared(pair: Mapping[str, Any]) -> bool:
    """Whether two methods have rows and models in common; in older documents, whether they have a difference.

    >>> is_compared({"compared": False}), is_compared({"difference": None}), is_compared({"difference": 0.1})
    (False, False, True)
    """
    return bool(pair.get("compared", pair.get("difference", 0.0) is not None))


def boards_of(study: StudyView) -> list[BoardView]:
    """The boards of a data set; one of all methods if its document was written before there were boards."""
    documents: Sequence[Mapping[str, Any]] = study.scores.get("boards") or [_older_board(study)]
    return [BoardView(study, index, document) for index, document in enumerate(documents)]


def _older_board(study: StudyView) -> dict[str, Any]:
    """One board of what older documents say of all methods."""
    scores = study.scores
    return {
        "architectures": {},
        "methods": [{"text": method.text, "equal": []} for method in study.methods],
        "missing": {},
        "metrics": {
            metric: {
                "results": {method.text: method.result["metrics"].get(metric) for method in study.methods},
                **(scores.get("comparisons") or {}).get(metric, {}),
                "ranks": (scores.get("ranks") or {}).get(metric),
            }
            for metric in study.metrics
        },
    }
