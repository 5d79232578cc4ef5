"""Our numbers beside printed ones: the same methods and metrics on other data. Orders may agree, numbers need not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import kendalltau, rankdata

from ...metrics.metric import Metric
from ...registry import to_file_name
from ...results.files import without_nan
from ...results.statistics.intervals import known_mean, resampled_means, row_means
from ...results.statistics.scores import ScoreArrays
from ...results.summary import contrasts
from ...results.wording import model_words
from ...seeds import seed_of
from .literature import SECONDS, Literature, PrintedTable, load
from .trends import Difference, Ours, decide

SLOWER = 1.5  # how many times as long a method has to take to count as slower: seconds are measured once
FEWEST = 3  # methods in common for which an order can agree or not


@dataclass(frozen=True)
class Measured:
    """The numbers that were measured on one data set."""

    document: Mapping[str, Any]  # as `score --json` prints it
    table: pa.Table  # the long rows behind the document
    methods: Mapping[str, str]  # the methods' names in the document, by the repr of their explainers
    metrics: Sequence[Metric]
    seed: int

    @property
    def archs(self) -> set[str]:
        """The architectures of the measured models."""
        return {str(model["arch"]) for model in self.document["models"]}

    def of(self, archs: set[str]) -> Measured:
        """The numbers of the models of these architectures alone."""
        if archs == self.archs:
            return self
        models = self.table["model"]
        names = [
            name
            for name in pc.unique(models).to_pylist()
            if name and name.rsplit("-", 2)[0] in map(to_file_name, archs)
        ]
        table = self.table.filter(pc.or_(pc.is_null(models), pc.is_in(models, pa.array(names, pa.string()))))
        kinds = {metric.name: metric.kind for metric in self.metrics}
        whole = {entry["text"] for entry in self.document["results"]}
        methods = {name: text for name, text in self.methods.items() if text in whole}
        comparisons = contrasts(table, kinds, methods, self.seed)["comparisons"]
        entries = [model for model in self.document["models"] if model["arch"] in archs]
        document = {**self.document, "models": entries, "comparisons": comparisons}
        return Measured(document, table, self.methods, self.metrics, self.seed)


def beside_printed(name: str, studies: Sequence[Measured]) -> list[dict[str, Any]]:
    """The tables of a publication, each with the numbers of every comparable study beside it, ready for JSON.

    A table that names a data set is compared with the study of that name alone. If some models have an architecture
    like the printed one, they alone count; models like those of another table never do.

    Raises:
        WrongUsage: there is no such table.
    """
    literature = load(name)
    claimed = {arch for table in literature.tables for arch in table.archs}
    documents = []
    for table in literature.tables:
        for study in studies:
            archs = study.archs & set(table.archs) or study.archs - claimed
            if archs and table.dataset in (None, study.document["dataset"]["name"]):
                documents.append(Beside(literature, table, study.of(archs)).to_document())
    return documents


@dataclass(frozen=True)
class Beside:
    """One printed table with the numbers of one study beside it."""

    literature: Literature
    table: PrintedTable
    study: Measured

    def to_document(self) -> dict[str, Any]:
        """Printed and measured numbers, how well their orders agree, and which trends hold."""
        about = self.study.document
        trends = [trend for trend in self.literature.trends if not trend.only or self.table.title in trend.only]
        names = [model_words(model) for model in about["models"]]
        return {
            "table": f"{self.literature.title}: {self.table.title}, beside {about['dataset']['name']}",
            "source": self.literature.source,
            "dataset": about["dataset"]["name"],
            "models": names,
            "metrics": list(self.table.columns),
            "units": {column: self.literature.metrics[column].printed for column in self.table.columns},
            "higher_is_better": {column: sign > 0 for column, sign in self.ours.better.items()},
            "rows": self._rows(),
            "correlation": {column: self._correlation(column) for column in self.table.columns},
            "trends": [decide(trend, self.table, self.ours) for trend in trends],
            "note": self.literature.note,
        }

    @cached_property
    def ours(self) -> Ours:
        """Our numbers for the columns of the table, in printed units."""
        better = {name: 1 if metric.higher_is_better else -1 for name, metric in self._metrics.items()}
        costs = {name: np.full(1, cost) for name, cost in self._seconds.items()}
        by_model = {name: self._by_method(known_mean(self._values(name), axis=1)) for name in self._metrics}
        means = {name: self._by_method(known_mean(self._rowwise(name), axis=1)) for name in self._metrics}
        if SECONDS in self.table.columns:
            better, by_model, means = better | {SECONDS: -1}, by_model | {SECONDS: costs}, means | {SECONDS: costs}
        plain = {
            name: {method: float(mean.mean()) for method, mean in by_method.items()}
            for name, by_method in means.items()
        }
        differences = {key: difference for name in self._metrics for key, difference in self._differences(name)}
        return Ours(better, plain, by_model, differences | dict(self._second_differences()))

    @cached_property
    def _scores(self) -> ScoreArrays:
        return ScoreArrays(self.study.table, {metric.name: metric.select for metric in self.study.metrics})

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The study's texts of the table's methods, by their names: the one without parameters if there is one."""
        texts: dict[str, str] = {}
        for entry in self.study.document["results"]:
            if entry["method"] not in texts or entry["text"] == entry["method"]:
                texts[entry["method"]] = entry["text"]
        return {line.ours: texts[line.ours] for line in self.table.rows if line.ours in texts}

    @cached_property
    def _explainers(self) -> dict[str, str]:
        """The reprs of the explainers, by the names of the table's methods."""
        reprs = {text: name for name, text in self.study.methods.items()}
        return {method: reprs[text] for method, text in self._texts.items()}

    @cached_property
    def _metrics(self) -> dict[str, Metric]:
        """The study's metric for each column: the one of that name, else the first with other options."""
        metrics: dict[str, Metric] = {}
        for metric in self.study.metrics:
            column = metric.name.partition(":")[0]
            if column in self.table.columns and (column not in metrics or metric.name == column):
                metrics[column] = metric
        return metrics

    def _values(self, column: str) -> np.ndarray:
        """Our values of a column, (methods, rows, models), in printed units."""
        values = self._scores.all_of(self._metrics[column].name, list(self._explainers.values()))
        return values * self.literature.metrics[column].scale

    def _rowwise(self, column: str) -> np.ndarray:
        """Our values of a column, (methods, rows): a row counts by the mean of its models."""
        return row_means(self._values(column))

    def _by_method(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Values (methods, ...) by the names of the methods."""
        return dict(zip(self._explainers, values, strict=True))

    @cached_property
    def _seconds(self) -> dict[str, float]:
        """The seconds of an explanation in printed units, by method; empty if the table prints none."""
        if SECONDS not in self.table.columns:
            return {}
        costs, scale = self._scores.costs(), self.literature.metrics[SECONDS].scale
        seconds = {method: costs[name]["seconds"] for method, name in self._explainers.items()}
        return {method: scale * cost for method, cost in seconds.items() if cost is not None}

    def _differences(self, column: str) -> list[tuple[tuple[str, str, str], Difference]]:
        """The differences of all pairs of methods by one metric, from the comparisons in the study's document."""
        names, scale = {text: method for method, text in self._texts.items()}, self.literature.metrics[column].scale
        differences = []
        for pair in self.study.document["comparisons"].get(self._metrics[column].name, {}).get("pairs", []):
            if pair["difference"] is not None and {pair["a"], pair["b"]} <= names.keys():
                mean, low, high = (scale * pair[key] for key in ("difference", "low", "high"))
                difference, first, second = (
                    Difference(mean, low, high, pair["apart"]),
                    names[pair["a"]],
                    names[pair["b"]],
                )
                differences += [((column, first, second), difference), ((column, second, first), difference.reverse())]
        return differences

    def _second_differences(self) -> list[tuple[tuple[str, str, str], Difference]]:
        """The differences of all pairs of methods in seconds, which have no intervals."""
        differences = []
        for (first, cost), (second, other) in permutations(self._seconds.items(), 2):
            apart = max(cost, other) > SLOWER * min(cost, other)
            differences.append(((SECONDS, first, second), Difference(cost - other, np.nan, np.nan, apart)))
        return differences

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for line in self.table.rows:
            row: dict[str, Any] = {"method": line.method, "text": self._texts.get(line.ours)}
            row |= {"printed": dict(zip(self.table.columns, line.values, strict=True))}
            row |= {"ours": {name: self._mean(name, line.ours) for name in self.table.columns}}
            if line.spread:
                row |= {"printed_spread": dict(zip(self.table.columns, line.spread, strict=True))}
                row |= {"ours_spread": {name: self._spread(name, line.ours) for name in self.table.columns}}
            rows.append(row)
        return rows

    def _mean(self, column: str, method: str) -> float | None:
        mean = self.ours.means.get(column, {}).get(method, np.nan)
        return None if np.isnan(mean) else mean

    def _spread(self, column: str, method: str) -> float | None:
        """The standard deviation of the models' means; None for fewer than two models."""
        means = self.ours.by_model.get(column, {}).get(method, np.zeros(0))
        known = means[~np.isnan(means)]
        return float(known.std(ddof=1)) if len(known) > 1 else None

    def _correlation(self, column: str) -> dict[str, float | int | None]:
        """Kendall's tau-b of printed and our means over the methods in common; its interval is over our rows alone."""
        place = self.table.columns.index(column)
        theirs = {line.ours: line.values[place] for line in self.table.rows}
        common = [method for method in self._texts if self._mean(column, method) is not None]
        if len(common) < FEWEST:
            return {"tau": None, "low": None, "high": None, "n": len(common)}
        wanted = np.array([theirs[method] for method in common])
        tau = _tau(wanted, np.array([self.ours.means[column][method] for method in common]))
        low = high = np.nan
        if column in self._metrics:
            rows = self._by_method(self._rowwise(column))
            low, high = tau_limits(wanted, np.stack([rows[method] for method in common]), self.study.seed)
        return dict(without_nan({"tau": tau, "low": low, "high": high, "n": len(common)}))


def tau_limits(theirs: np.ndarray, rows: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % interval of Kendall's tau-b of printed means (methods,) and ours, redrawing our rows (methods, rows).

    NaN if our means, or theirs, are all tied.
    """
    ranks = rankdata(resampled_means(rows, seed_of(seed, "resampling")).round(9), axis=0)
    orders, counts = np.unique(ranks, axis=1, return_counts=True)  # few, so that each is compared once
    taus = np.repeat([_tau(theirs, order) for order in orders.T], counts)
    known = taus[~np.isnan(taus)]
    low, high = np.quantile(known, (0.025, 0.975), method="nearest") if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _tau(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float(kendalltau(theirs, ours.round(9)).statistic)
