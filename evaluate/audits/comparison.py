"""Finished runs side by side, by their folders; built-in metrics say how they choose a value over all rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from an8flower.errors import WrongUsage

from ..metrics.naming import parse_metric, stranger_of
from ..results.exports.read import open_results
from ..results.metric_values import MetricKind
from ..results.side_by_side import compare_side_by_side

REMEDY = "give the folders of finished runs, or of their exports"


def compare(*runs: str | Path, seed: int = 0) -> dict[str, Any]:
    """Put finished runs side by side, as `an8flower compare --json` prints them.

    Each data set has its cells (a model, a method, a metric) with the mean of each run over the rows that all of them
    scored, and the difference of each later run to the first.

    >>> document = compare("runs/before", "runs/after")  # doctest: +SKIP
    >>> document["counts"]  # of the second run, beside the first  # doctest: +SKIP

    Args:
        runs: the folders of audits, of scores, or of what `export_run` wrote of them; two or more.
        seed: of the resampling of intervals.

    Raises:
        Refusal: a run is not finished or was changed, or nothing in it can be compared with the others.
    """
    return compare_side_by_side([open_results(Path(run), REMEDY) for run in runs], kind_of, seed)


def kind_of(card: Mapping[str, Any]) -> MetricKind | None:
    """What a comparison needs of a metric; None where its card is of another form, or others' code chooses."""
    try:
        if card["level"] == "row":
            low, high = card["bounds"]  # JSON has no infinity
            bounds = -math.inf if low is None else float(low), math.inf if high is None else float(high)
            return MetricKind(None, str(card["family"]), bool(card["higher_is_better"]), bounds)
        return None if stranger_of(str(card["name"])) else parse_metric(str(card["name"])).kind
    except (WrongUsage, KeyError, TypeError, ValueError):
        return None
