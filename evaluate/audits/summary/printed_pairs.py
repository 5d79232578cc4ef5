"""Printed numbers with and without something built into a network, and whether the same difference shows in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from an8flower.toml import parse, tuples

from ...results.metric_values import MetricKind
from ...results.variants import PairedScores
from .literature import PrintedColumn, PrintedRecord
from .trends import UNDECIDED, Answer

SHIPPED = files("an8flower.evaluate.audits.summary") / "pairs"


class PrintedPair(PrintedRecord):
    """The printed numbers of one method on a network without what was built in, and with it."""

    method: str  # as printed
    ours: str  # the name of the method here
    without: tuple[float, ...]
    inside: tuple[float, ...] = Field(alias="with")


class PairTable(PrintedRecord):
    """The printed numbers of several methods on one network."""

    title: str
    columns: tuple[str, ...]  # names of metrics here
    rows: tuple[PrintedPair, ...]

    @model_validator(mode="after")
    def _check(self) -> PairTable:
        for line in self.rows:
            if {len(self.columns)} != {len(line.without), len(line.inside)}:
                raise ValueError(f"{self.title}: {line.method} has another number of values than there are columns")
        return self


class AccuracyPair(PrintedRecord):
    """The printed accuracy of one network without and with what was built in, in percent."""

    network: str
    without: float
    inside: float = Field(alias="with")


class PairTrend(PrintedRecord):
    """A metric that got better, or worse, by what was built in."""

    metric: str
    better: bool


class PairLiterature(PrintedRecord):
    """The printed tables of one publication that compares networks with and without something."""

    title: str
    source: str
    note: str  # what readers have to know before they compare
    variants: tuple[str, ...]  # what our variants have behind their plus, such as `ca-stream`
    metrics: Mapping[str, PrintedColumn]
    accuracies: tuple[AccuracyPair, ...]
    tables: tuple[PairTable, ...]
    trends: tuple[PairTrend, ...]

    def columns_of(self, metric: str) -> list[tuple[float, float]]:
        """The printed numbers of a metric, without and with, of every row of every table."""
        rows = [(line, table.columns.index(metric)) for table in self.tables for line in table.rows]
        return [(line.without[place], line.inside[place]) for line, place in rows]


class OurColumn(NamedTuple):
    """Our metric for a printed column, in printed units."""

    name: str
    scale: float  # from our unit to the printed one
    higher_is_better: bool


def names() -> list[str]:
    """The names of the publications that compare networks with and without something."""
    return sorted(file.name.removesuffix(".toml") for file in SHIPPED.iterdir() if file.name.endswith(".toml"))


def load(name: str) -> PairLiterature:
    """The tables of a shipped publication."""
    return PairLiterature.model_validate(tuples(parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"))))


def set_beside(printed: Sequence[str], paired: PairedScores, kinds: Mapping[str, MetricKind]) -> list[dict[str, Any]]:
    """The tables of each publication about such a variant with our numbers beside them, ready for JSON.

    Args:
        printed: the names in a plan's `printed`, those of other tables included.
        kinds: our metrics by their names.
    """
    kind = paired.pair.variant.partition("+")[2]
    fitting = [publication for name in printed if name in names() and kind in (publication := load(name)).variants]
    return [PairsBesideOurs(publication, paired, kinds).to_document() for publication in fitting]


@dataclass(frozen=True)
class PairsBesideOurs:
    """The printed numbers of one publication with those of one variant of ours."""

    publication: PairLiterature
    paired: PairedScores
    kinds: Mapping[str, MetricKind]

    def to_document(self) -> dict[str, Any]:
        """Printed numbers, ours in the same units, and whether the printed trends show in ours."""
        publication = self.publication
        return {
            "title": publication.title,
            "source": publication.source,
            "note": publication.note,
            "units": {column: about.printed for column, about in publication.metrics.items()},
            "accuracies": [pair.model_dump(by_alias=True) for pair in publication.accuracies],
            "tables": [self._table(table) for table in publication.tables],
            "trends": [self._trend(trend) for trend in publication.trends],
        }

    def _table(self, table: PairTable) -> dict[str, Any]:
        rows = []
        for line in table.rows:
            printed = zip(table.columns, line.without, line.inside, strict=True)
            rows.append(
                {
                    "method": line.method,
                    "ours": line.ours,
                    "printed": {column: {"without": without, "with": inside} for column, without, inside in printed},
                    "measured": {column: self._pool_column(column, [line.ours]) for column in table.columns},
                }
            )
        return {"title": table.title, "columns": list(table.columns), "rows": rows}

    def _pool_column(self, column: str, methods: Sequence[str]) -> dict[str, Any] | None:
        """Our means with and without over some methods and their difference, in printed units; None without any."""
        ours = self._column(column)
        texts = self._texts(ours.name, methods) if ours else []
        pooled = self.paired.pool(ours.name, texts) if ours else None
        return _scale(pooled, ours.scale) if ours and pooled else None

    def _trend(self, trend: PairTrend) -> dict[str, Any]:
        """Whether a metric gets better, or worse, in ours, by the mean over the printed methods that we have."""
        ours, numbers = self._column(trend.metric), self.publication.columns_of(trend.metric)
        document: dict[str, Any] = {"metric": trend.metric, "better": trend.better, "ours": ours and ours.name}
        if ours is None:
            return {**document, "printed": None, "methods": [], "measured": None, "beyond": None, **_answers(None, 1)}
        sign = 1 if trend.better == ours.higher_is_better else -1
        texts = self._texts(ours.name, [line.ours for table in self.publication.tables for line in table.rows])
        pooled, beyond = self.paired.pool(ours.name, texts), self.paired.compare_with_controls(ours.name, texts)
        return {
            **document,
            "printed": {"hold": sum(sign * (inside - plain) > 0 for plain, inside in numbers), "of": len(numbers)},
            "methods": texts,
            "measured": pooled and _scale(pooled, ours.scale),
            "beyond": beyond and _scale(beyond, ours.scale),
            **_answers(pooled, sign),
        }

    def _column(self, column: str) -> OurColumn | None:
        """Our metric for a printed column: the one of that name, else the first with other options, else None."""
        alike = [name for name in self.kinds if name.partition(":")[0] == column]
        if not alike:
            return None
        name = column if column in alike else alike[0]
        return OurColumn(name, self.publication.metrics[column].scale, self.kinds[name].higher_is_better)

    def _texts(self, metric: str, methods: Sequence[str]) -> list[str]:
        """The methods of these names that have values on both sides, each once, without parameters first."""
        texts = sorted(self.paired.comparable(metric), key=len)
        matches = [next((text for text in texts if text.partition(":")[0] == name), None) for name in methods]
        return list(dict.fromkeys(text for text in matches if text))


def _answers(pooled: Mapping[str, Any] | None, sign: int) -> dict[str, Answer]:
    """Whether a difference goes as printed, in both scopes: yes or no if it is significant."""
    return {scope: _answer(pooled and pooled[scope], pooled, sign) for scope in ("these", "anew")}


def _answer(test: Mapping[str, Any] | None, pooled: Mapping[str, Any] | None, sign: int) -> Answer:
    if test is None or pooled is None or not test["apart"]:
        return UNDECIDED
    return "yes" if sign * pooled["difference"] > 0 else "no"


def _scale(pooled: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The document of a difference in other units."""
    return {
        "without": factor * pooled["without"],
        "with": factor * pooled["with"],
        "difference": factor * pooled["difference"],
        "these": _scale_limits(pooled["these"], factor),
        "anew": pooled["anew"] and _scale_limits(pooled["anew"], factor),
    }


def _scale_limits(test: Mapping[str, Any], factor: float) -> dict[str, Any]:
    limits = {key: None if test[key] is None else factor * test[key] for key in ("low", "high")}
    return {**limits, "p": test["p"], "apart": test["apart"]}
