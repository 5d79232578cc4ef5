"""What lies on disk after a run: parts of long rows, what failed, one table, a summary. No torch in here.

A part is a Parquet file of one cell, written beside its name and moved into place: presence means complete.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from an8flower.atomic import moved_into
from an8flower.errors import Refusal

from ..seeds import seed_of
from .statistics.comparisons import Comparison, compare, groups
from .statistics.intervals import Interval, calibrated, intervals, known_mean, row_means
from .statistics.power import rows_needed
from .statistics.ranks import Stability, stability
from .statistics.scores import CHANCE as CHANCE
from .statistics.scores import ORACLE as ORACLE
from .statistics.scores import RELIANCE as RELIANCE
from .statistics.scores import RELIES as RELIES
from .statistics.scores import Scores, Select
from .statistics.variance import shares

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # index within the split
        ("label", pa.int64()),
        ("predicted", pa.int64()),  # null in the references: they ask no model
        ("model", pa.string()),  # arch-seedN-digest, null in the references of a metric that asks no model
        ("explainer", pa.string()),  # repr of the explainer, or chance, or oracle
        ("metric", pa.string()),
        ("value", pa.float32()),  # null where undefined, and for a metric that is a curve
        ("curve", pa.list_(pa.float32())),  # that the value is chosen from over all rows, or that lies behind it
        ("reason", pa.string()),  # why a value is undefined
        ("seconds", pa.float64()),  # per image, of explaining
        ("forwards", pa.float64()),  # per image, in passes through the whole network
        ("backwards", pa.float64()),
    ]
)


class Kind(NamedTuple):
    """What a summary has to know of a metric."""

    select: Select | None = None
    family: str = ""
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)


class Run:
    """A folder of results."""

    def __init__(self, folder: Path, neighbours: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._neighbours = neighbours  # other runs, whose parts are taken where they answer: a name says all

    def part(self, cell: str) -> Path:
        """Where a cell's rows lie."""
        return self.folder / "scores" / f"{cell}.parquet"

    def failure(self, cell: str) -> Path:
        """Where it is told how a cell failed."""
        return self.folder / "failed" / f"{cell}.json"

    def write_part(self, cell: str, rows: pa.Table) -> None:
        """File a cell's rows; a failure of an earlier run is cleared away."""
        with moved_into(self.part(cell)) as unfinished:
            pq.write_table(rows, unfinished, write_page_checksum=True)
        self.failure(cell).unlink(missing_ok=True)

    def write_json(self, place: Path, document: Mapping[str, Any]) -> None:
        """File a JSON document."""
        with moved_into(place) as unfinished:
            unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def has(self, cell: str) -> bool:
        """Whether a cell is done, here or in a neighbour; a part that is damaged counts as missing."""
        if read_part(self.part(cell)) is not None:
            return True
        for folder in self._neighbours:
            other = Run(folder).part(cell)
            if other.exists() and read_part(other) is not None:
                with moved_into(self.part(cell)) as unfinished:
                    shutil.copyfile(other, unfinished)
                return True
        return False

    def table(self, cells: Sequence[str]) -> pa.Table:
        """The rows of all given cells; raises Refusal where one is missing or damaged."""
        parts = [read_part(self.part(cell)) for cell in cells]
        missing = sum(part is None for part in parts)
        if missing:
            raise Refusal(f"{self.folder}: {missing} of {len(cells)} parts are missing; run the same command again")
        return pa.concat_tables(part for part in parts if part is not None) if parts else SCHEMA.empty_table()


def read_part(place: Path) -> pa.Table | None:
    """The long rows of a file, checksums verified; None where there are none, or they are damaged."""
    try:
        found = pq.read_table(place, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    return found if found.schema.equals(SCHEMA) else None


def summarise(table: pa.Table, metrics: Mapping[str, Kind], seed: int) -> list[dict[str, Any]]:
    """One entry per explainer, in the order of the table: every metric with interval and references, mean cost."""
    scores = Scores(table, {name: kind.select for name, kind in metrics.items()})
    costs = scores.costs()
    entries: dict[str, dict[str, Any]] = {name: {} for name in scores.methods}
    for metric, kind in metrics.items():
        for method, numbers in zip(scores.methods, _summaries(scores, metric, kind, seed), strict=True):
            entries[method][metric] = numbers
    return [{"explainer": name, "metrics": entries[name], "cost": costs[name]} for name in scores.methods]


def contrasts(
    table: pa.Table, metrics: Mapping[str, Kind], named: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """How methods differ by each metric: `comparisons`, `ranks`, `variance` and `power`, ready for JSON.

    `named` says which explainers are compared, and how they are called in what comes out.
    """
    scores = Scores(table, {name: kind.select for name, kind in metrics.items()})
    methods = [name for name in scores.methods if name in named]
    names = [named[name] for name in methods]
    found: dict[str, dict[str, Any]] = {"comparisons": {}, "ranks": {}, "variance": {}, "power": {}}
    for metric, kind in metrics.items() if methods else ():
        values = scores.all_of(metric, methods)
        found["variance"][metric] = _told_shares(names, values)
        if len(methods) > 1:
            pairs = _best_first(compare(values, seed=_seed(seed), architectures=scores.architectures), kind)
            found["comparisons"][metric] = _told_comparisons(names, values, pairs, kind)
            found["ranks"][metric] = _told_ranks(names, values, kind, scores.architectures, seed)
            found["power"][metric] = [_told_power(names, pair) for pair in pairs]
    return found


def _seed(seed: int) -> int:
    """Every interval of a run draws the same rows, so that what is drawn does not part two methods."""
    return seed_of(seed, "resampling")


def _summaries(scores: Scores, metric: str, kind: Kind, seed: int) -> list[dict[str, Any]]:
    """The numbers of a metric for every method, in their order."""
    values = scores.all_of(metric, scores.methods)
    entries = _means(scores, metric, kind, values, seed)
    for method, entry in zip(scores.methods, entries, strict=True):
        rows = scores.asked(metric, method).any(1).sum()  # fewer than in the table where a method skips a model
        entry |= {"n": int(rows), "undefined": int(rows - entry["n"])}
    if kind.family == "localisation" and RELIANCE in scores.explainers:
        relies = scores.of(RELIES, RELIANCE)
        relying = _means(scores, metric, kind, np.where(relies == 1, values, np.nan), seed)
        for method, entry, told in zip(scores.methods, entries, relying, strict=True):
            share = float(known_mean(relies[scores.asked(metric, method)], axis=0))
            kept = {key: told[key] for key in ("mean", "low", "high", "n", "calibrated")}
            entry["relying"] = {**_no_nan({"share": share}), **kept}
    return entries


def _means(scores: Scores, metric: str, kind: Kind, values: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Means of values (methods, rows, models), with what chance and the truth score where they are defined."""
    found = intervals(values, seed=_seed(seed), architectures=scores.architectures)
    return [_entry(scores, metric, kind, own, ~np.isnan(value)) for own, value in zip(found, values, strict=True)]


def _entry(scores: Scores, metric: str, kind: Kind, found: Interval, where: np.ndarray) -> dict[str, Any]:
    chance, oracle = (scores.reference(metric, name, where) for name in (CHANCE, ORACLE))
    numbers = {
        "mean": found.mean,
        "low": float(np.clip(found.low, *kind.bounds)),
        "high": float(np.clip(found.high, *kind.bounds)),
        "chance": chance,
        "oracle": oracle,
        "calibrated": calibrated(found.mean, chance, oracle),
        "n": found.n,
    }
    return _no_nan(numbers)


def _best_first(pairs: list[Comparison], kind: Kind) -> list[Comparison]:
    """The same pairs, each with the better of the two as its first."""
    sign = 1 if kind.higher_is_better else -1
    return [pair.turned() if sign * pair.difference.mean < 0 else pair for pair in pairs]


def _told_comparisons(names: list[str], values: np.ndarray, pairs: list[Comparison], kind: Kind) -> dict[str, Any]:
    means = known_mean(row_means(values), axis=1) * (-1 if kind.higher_is_better else 1)
    order = [each for each in np.argsort(means, kind="stable").tolist() if not np.isnan(means[each])]
    together = groups(order, [pair for pair in pairs if {pair.first, pair.second} <= set(order)])
    return {
        "groups": [[names[each] for each in members] for members in together],
        "pairs": [_told_pair(names, pair) for pair in pairs],
    }


def _told_pair(names: list[str], pair: Comparison) -> dict[str, Any]:
    numbers = {
        "difference": pair.difference.mean,
        "low": pair.difference.low,
        "high": pair.difference.high,
        "n": pair.difference.n,
        "p": pair.p,
        "p_holm": pair.adjusted,
        "effect": pair.effect,
        "rank_biserial": pair.rank_biserial,
    }
    return {"a": names[pair.first], "b": names[pair.second], **_no_nan(numbers), "apart": pair.apart}


def _told_power(names: list[str], pair: Comparison) -> dict[str, Any]:
    return {"a": names[pair.first], "b": names[pair.second], "rows": rows_needed(pair.effect)}


def _told_ranks(
    names: list[str], values: np.ndarray, kind: Kind, architectures: Sequence[str], seed: int
) -> dict[str, Any]:
    found: Stability = stability(
        values, higher_is_better=kind.higher_is_better, seed=_seed(seed), architectures=architectures
    )
    methods = {name: vars(own) if own else None for name, own in zip(names, found.standings, strict=True)}
    taus = {"tau_seeds": found.seeds, "tau_architectures": found.architectures}
    return {"methods": methods, **_no_nan({"agreement": found.agreement, **taus})}


def _told_shares(names: list[str], values: np.ndarray) -> dict[str, Any]:
    found = {name: shares(own) for name, own in zip(names, values, strict=True)}
    return {name: vars(own) if own else None for name, own in found.items()}


def _no_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """The same numbers, but None for NaN, which JSON does not have."""
    return {key: None if math.isnan(value) else value for key, value in numbers.items()}
