"""Where the scores of a method differ: from row to row, from model to model, or for one model on one row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shares:
    """The parts of the variance of one score, which sum to one."""

    rows: float
    models: float
    residual: float  # rows and models together, and what is random in the method
    clipped: bool  # whether an estimate was negative and counts as 0


def shares(values: np.ndarray) -> Shares | None:
    """The shares of values (rows, models), each being a row's effect, a model's effect and a residual, all random.

    Mean squares are set equal to what is expected of them (the method of moments). Models without any value are left
    out, and rows without a value for one of the others. None for fewer than two models or rows, or where nothing
    varies: with one model, the effect of the row cannot be told from the residual.

    Source: Searle, Casella, McCulloch: Variance Components (1992), section 4.3.
    """
    table = values[:, ~np.isnan(values).all(0)]
    table = table[~np.isnan(table).any(1)]
    rows, models = table.shape
    if min(rows, models) < 2 or np.ptp(table) == 0:
        return None
    of_rows, of_models, residual = _mean_squares(table)
    found = np.array([(of_rows - residual) / models, (of_models - residual) / rows, residual])
    by_row, by_model, rest = (np.maximum(found, 0) / np.maximum(found, 0).sum()).tolist()
    return Shares(by_row, by_model, rest, clipped=bool((found < 0).any()))


def _mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Of rows, of models and of the residual of a two-way layout (rows, models) with one value per cell."""
    rows, models = table.shape
    by_row, by_model, mean = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    of_rows = models * ((by_row - mean) ** 2).sum() / (rows - 1)
    of_models = rows * ((by_model - mean) ** 2).sum() / (models - 1)
    residual = ((table - by_row - by_model + mean) ** 2).sum() / ((rows - 1) * (models - 1))
    return float(of_rows), float(of_models), float(residual)
