"""The long rows of a run as arrays: methods by rows by models, for each metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from .intervals import known_mean, row_means

CHANCE, ORACLE = "chance", "oracle"  # the two references, filed as if they were explainers
RELIANCE = "reliance"  # filed likewise: whether the model relies on the designed evidence in a row, 1 or 0, by model
RELIES = "relies"  # the metric of that name
Select = Callable[[np.ndarray], np.ndarray]  # curves (n, T) of all rows -> values (n,)


@dataclass(frozen=True)
class Grid:
    """The values of one metric, (explainers, rows, models) float64; NaN is undefined, or was never asked."""

    values: np.ndarray
    asked: np.ndarray  # of the same shape: whether there is a long row for it


class Scores:
    """A table of long rows by explainer, row and model, each in its order; what asks no model stands for all of them.

    Explainers and models come in the order of the table, rows by their number.
    """

    def __init__(self, table: pa.Table, selects: Mapping[str, Select | None]) -> None:
        self._table, self._selects = table, selects
        explainers, self._explainer = _coded(table["explainer"])
        self.explainers = [str(name) for name in explainers]  # never null
        named, self._model = _coded(table["model"])
        self.models = [name for name in named if name is not None]
        self._models = [[self.models.index(name)] if name in self.models else self._all for name in named]
        self.rows, self._row = np.unique(table["row"].to_numpy(), return_inverse=True)
        self._metrics, self._metric = _coded(table["metric"])
        self._grids: dict[str, Grid] = {}

    @property
    def _all(self) -> list[int]:
        return list(range(len(self.models)))

    @cached_property
    def methods(self) -> list[str]:
        """The explainers that are neither references nor reliance."""
        return [name for name in self.explainers if name not in (CHANCE, ORACLE, RELIANCE)]

    @cached_property
    def architectures(self) -> list[str]:
        """The architecture of each model; models of one differ by their seed. Names are ARCH-seedN-DIGEST."""
        return [name.rsplit("-", 2)[0] for name in self.models]

    def grid(self, metric: str) -> Grid:
        """The values of a metric."""
        if metric not in self._grids:
            self._grids[metric] = self._filled(metric)
        return self._grids[metric]

    def of(self, metric: str, explainer: str) -> np.ndarray:
        """The values (rows, models) of one explainer."""
        if explainer not in self.explainers:
            return np.full((len(self.rows), len(self.models)), np.nan)
        return self.grid(metric).values[self.explainers.index(explainer)]

    def all_of(self, metric: str, methods: list[str]) -> np.ndarray:
        """The values (methods, rows, models) of several."""
        shape = (len(methods), len(self.rows), len(self.models))
        return np.array([self.of(metric, method) for method in methods]).reshape(shape)

    def asked(self, metric: str, explainer: str) -> np.ndarray:
        """Where (rows, models) a metric was asked of an explainer."""
        return self.grid(metric).asked[self.explainers.index(explainer)]

    def curves(self, metric: str, explainer: str) -> np.ndarray:
        """The curves (rows, models, T) float64 that are filed for an explainer; NaN where there is none.

        T is 0 where none is filed at all.
        """
        code = self._metrics.index(metric) if metric in self._metrics else -1
        by = self.explainers.index(explainer) if explainer in self.explainers else -1
        own = np.flatnonzero((self._metric == code) & (self._explainer == by))
        column = self._table["curve"].take(pa.array(own)).to_numpy()
        filed = np.array([curve is not None for curve in column], bool)
        own, lines = own[filed], np.array([*column[filed]], np.float64)
        found = np.full((len(self.rows), len(self.models), lines.shape[1] if len(own) else 0), np.nan)
        for model in np.unique(self._model[own]):
            these = self._model[own] == model
            found[self._row[own][these, None], self._models[model]] = lines[these, None]
        return found

    def reference(self, metric: str, explainer: str, where: np.ndarray) -> float:
        """The mean of a reference over the rows and models that count `where` (rows, models) is true."""
        return float(known_mean(row_means(np.where(where, self.of(metric, explainer), np.nan)), axis=0))

    def costs(self) -> dict[str, dict[str, float | None]]:
        """Mean cost per image of each explainer."""
        keys = ("seconds", "forwards", "backwards")
        found = self._table.group_by("explainer").aggregate([(key, "mean") for key in keys]).to_pylist()
        return {entry["explainer"]: {key: entry[f"{key}_mean"] for key in keys} for entry in found}

    def _filled(self, metric: str) -> Grid:
        shape = (len(self.explainers), len(self.rows), len(self.models))
        grid = Grid(np.full(shape, np.nan), np.zeros(shape, bool))
        code = self._metrics.index(metric) if metric in self._metrics else -1
        for own in self._parts(np.flatnonzero(self._metric == code)):
            values = self._values(own, self._selects.get(metric))
            for model in np.unique(self._model[own]):
                these = self._model[own] == model
                place = self._explainer[own][these, None], self._row[own][these, None], self._models[model]
                grid.values[place], grid.asked[place] = values[these, None], True
        return grid

    def _parts(self, own: np.ndarray) -> list[np.ndarray]:
        """Long rows of one metric by explainer: a curve's value is chosen for each on its own."""
        return [own[self._explainer[own] == code] for code in range(len(self.explainers))]

    def _values(self, own: np.ndarray, select: Select | None) -> np.ndarray:
        """The value of each long row; where the metric is a curve, the one that it selects from all rows' curves."""
        if select is None or not len(own):
            return self._value[own]
        return select(np.stack(self._table["curve"].take(pa.array(own)).to_numpy()))

    @cached_property
    def _value(self) -> np.ndarray:
        return self._table["value"].to_numpy().astype(np.float64)


def _coded(column: pa.ChunkedArray) -> tuple[list[str | None], np.ndarray]:
    """The names of a column in the order of their appearance, and for each entry the number of its name."""
    coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()
