"""The long rows of a run as arrays: methods by rows by models, for each metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from .intervals import known_mean, rows_of

CHANCE, ORACLE = "chance", "oracle"  # the two references, filed as if they were explainers
RELIANCE = "reliance"  # filed likewise: whether a model relies on the designed evidence in a row, 1 or 0
RELIES = "relies"  # the metric of that name
OTHER_ROWS = "other rows: "  # begins the name of a third reference: the maps that a method gave for other rows
AT_GRID = "truth at the grid of: "  # likewise: the truth as a method with such a grid could show it
NO_MAP = (
    "the map is constant",
    "the map has no positive value",
    "the map is zero everywhere",
    "the map does not vary inside the mask",
)
"""How a reason ends that blames the map. If chance has a value there, the row is in order, and the map says nothing."""
Select = Callable[[np.ndarray], np.ndarray]  # curves (n, T) of all rows -> values (n,)


@dataclass(frozen=True)
class Grid:
    """The values of one metric, (explainers, rows, models) float64; NaN if undefined or without a long row."""

    values: np.ndarray
    has_row: np.ndarray  # (explainers, rows, models) bool: whether there is a long row
    no_map: np.ndarray  # likewise: whether it is undefined for want of a map


def is_method(explainer: str) -> bool:
    """Whether the explainer of a long row is a method, and no reference that is filed as if it were one."""
    return explainer not in (CHANCE, ORACLE, RELIANCE) and not explainer.startswith((OTHER_ROWS, AT_GRID))


class ScoreArrays:
    """A table of long rows as arrays by explainer, row and model.

    Explainers and models come in the order of the table, rows by their number. A long row without a model counts for
    all models.
    """

    def __init__(self, table: pa.Table, selects: Mapping[str, Select | None]) -> None:
        self._table, self._selects = table, selects
        explainers, self._explainer = _encode(table["explainer"])
        self.explainers = [str(name) for name in explainers]  # never null
        named, self._model = _encode(table["model"])
        self.models = [name for name in named if name is not None]
        self._models = [[self.models.index(name)] if name in self.models else self._all for name in named]
        self.rows, self._row = np.unique(table["row"].to_numpy(), return_inverse=True)
        self._metrics, self._metric = _encode(table["metric"])
        self._grids: dict[str, Grid] = {}

    @property
    def _all(self) -> list[int]:
        return list(range(len(self.models)))

    @cached_property
    def methods(self) -> list[str]:
        """The explainers that are neither references nor reliance."""
        return [name for name in self.explainers if is_method(name)]

    @cached_property
    def architectures(self) -> list[str]:
        """The architecture of each model; models of one differ by their seed. Names are ARCH-seedN-DIGEST."""
        return [name.rsplit("-", 2)[0] for name in self.models]

    def grid(self, metric: str) -> Grid:
        """The values of a metric for all explainers, rows and models."""
        if metric not in self._grids:
            self._grids[metric] = self._fill_grid(metric)
        return self._grids[metric]

    def of(self, metric: str, explainer: str) -> np.ndarray:
        """The values (rows, models) of a metric for one explainer; what chance scores where its map says nothing."""
        return np.where(
            self.gaps(metric, explainer), self._defined_values(metric, CHANCE), self._defined_values(metric, explainer)
        )

    def gaps(self, metric: str, explainer: str) -> np.ndarray:
        """Where an explainer has no value of a metric for want of a map, and chance has one, (rows, models) bool."""
        if explainer not in self.explainers:
            return np.zeros((len(self.rows), len(self.models)), bool)
        return self.grid(metric).no_map[self.explainers.index(explainer)] & ~np.isnan(
            self._defined_values(metric, CHANCE)
        )

    def _defined_values(self, metric: str, explainer: str) -> np.ndarray:
        if explainer not in self.explainers:
            return np.full((len(self.rows), len(self.models)), np.nan)
        return self.grid(metric).values[self.explainers.index(explainer)]

    def all_of(self, metric: str, methods: list[str]) -> np.ndarray:
        """The values (methods, rows, models) of a metric for several explainers."""
        shape = (len(methods), len(self.rows), len(self.models))
        return np.array([self.of(metric, method) for method in methods]).reshape(shape)

    def has_rows(self, metric: str, explainer: str) -> np.ndarray:
        """Whether there is a long row of a metric for an explainer, (rows, models) bool."""
        return self.grid(metric).has_row[self.explainers.index(explainer)]

    def curves(self, metric: str, explainer: str) -> np.ndarray:
        """The curves (rows, models, T) float64 of a metric for an explainer; NaN where there is none.

        T is 0 if the explainer has no curve at all.
        """
        code = self._metrics.index(metric) if metric in self._metrics else -1
        by = self.explainers.index(explainer) if explainer in self.explainers else -1
        places = np.flatnonzero((self._metric == code) & (self._explainer == by))
        column = self._table["curve"].take(pa.array(places)).to_numpy()
        filed = np.array([curve is not None for curve in column], bool)
        places, lines = places[filed], np.array([*column[filed]], np.float64)
        curves = np.full((len(self.rows), len(self.models), lines.shape[1] if len(places) else 0), np.nan)
        for model in np.unique(self._model[places]):
            these = self._model[places] == model
            curves[self._row[places][these, None], self._models[model]] = lines[these, None]
        return curves

    def reference(self, metric: str, explainer: str, where: np.ndarray) -> float:
        """The mean score of a reference over the rows and models for which `where` (rows, models) is true."""
        values = np.where(where, self.of(metric, explainer), np.nan)
        return float(known_mean(rows_of(values, self.architectures), axis=0))

    def costs(self) -> dict[str, dict[str, float | None]]:
        """The mean cost per image of each explainer: `seconds`, `forwards` and `backwards`."""
        keys = ("seconds", "forwards", "backwards")
        means = self._table.group_by("explainer").aggregate([(key, "mean") for key in keys]).to_pylist()
        return {entry["explainer"]: {key: entry[f"{key}_mean"] for key in keys} for entry in means}

    def _fill_grid(self, metric: str) -> Grid:
        shape = (len(self.explainers), len(self.rows), len(self.models))
        grid = Grid(np.full(shape, np.nan), np.zeros(shape, bool), np.zeros(shape, bool))
        code = self._metrics.index(metric) if metric in self._metrics else -1
        for places in self._by_explainer(np.flatnonzero(self._metric == code)):
            values = self._values(places, self._selects.get(metric))
            for model in np.unique(self._model[places]):
                these = self._model[places] == model
                cells = self._explainer[places][these, None], self._row[places][these, None], self._models[model]
                grid.values[cells], grid.has_row[cells] = values[these, None], True
                grid.no_map[cells] = self._blames_map[places][these, None] & np.isnan(values[these, None])
        return grid

    def _by_explainer(self, places: np.ndarray) -> list[np.ndarray]:
        """The places of long rows split by explainer, since the value of a curve is chosen for each explainer alone."""
        return [places[self._explainer[places] == code] for code in range(len(self.explainers))]

    def _values(self, places: np.ndarray, select: Select | None) -> np.ndarray:
        """The value of each long row; for a metric that is a curve, the value selected from the curves of all rows."""
        if select is None or not len(places):
            return self._value[places]
        return select(np.stack(self._table["curve"].take(pa.array(places)).to_numpy()))

    @cached_property
    def _blames_map(self) -> np.ndarray:
        """Whether the reason of each long row is that its map says nothing."""
        reasons, codes = _encode(self._table["reason"])
        return np.array([reason is not None and reason.endswith(NO_MAP) for reason in reasons], bool)[codes]

    @cached_property
    def _value(self) -> np.ndarray:
        return self._table["value"].to_numpy().astype(np.float64)


def _encode(column: pa.ChunkedArray) -> tuple[list[str | None], np.ndarray]:
    """The distinct names of a column in the order of their appearance, and for each entry the number of its name."""
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode")
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    return codes.dictionary.to_pylist(), codes.indices.to_numpy()
