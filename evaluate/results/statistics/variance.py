"""How much of the variance of a method's scores is due to the rows, to the models, and to the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VarianceShares:
    """The shares of the variance of a score, which sum to one."""

    rows: float
    models: float
    residual: float  # rows and models together, and what is random in the method
    clipped: bool  # whether an estimate was negative, and is counted as 0


def variance_shares(values: np.ndarray) -> VarianceShares | None:
    """The shares of the variance of values (rows, models): each value is a row effect, a model effect and a residual.

    All three are random. Mean squares are set equal to their expectations (the method of moments). Models without any
    value are left out, and so are rows without a value for one of the remaining models. None for fewer than two models
    or rows, or if nothing varies: with one model, the effect of the row cannot be told from the residual.

    Source: Searle, Casella, McCulloch: Variance Components (1992), section 4.3.
    """
    table = values[:, ~np.isnan(values).all(0)]
    table = table[~np.isnan(table).any(1)]
    rows, models = table.shape
    if min(rows, models) < 2 or np.ptp(table) == 0:
        return None
    of_rows, of_models, residual = _mean_squares(table)
    estimates = np.array([(of_rows - residual) / models, (of_models - residual) / rows, residual])
    by_row, by_model, rest = (np.maximum(estimates, 0) / np.maximum(estimates, 0).sum()).tolist()
    return VarianceShares(by_row, by_model, rest, clipped=bool((estimates < 0).any()))


def _mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """The mean squares of rows, of models and of the residual of a table (rows, models) with one value per cell."""
    rows, models = table.shape
    by_row, by_model, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    of_rows = models * ((by_row - mean) ** 2).sum() / (rows - 1)
    of_models = rows * ((by_model - mean) ** 2).sum() / (models - 1)
    residual = ((table - by_row - by_model + mean) ** 2).sum() / ((rows - 1) * (models - 1))
    return float(of_rows), float(of_models), float(residual)
