"""VarianceShares of the variance, against statsmodels and against what the scores were made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from an8flower.evaluate.results.statistics.variance import VarianceShares, variance_shares

NAN = float("nan")


def test_mean_squares_are_those_of_statsmodels() -> None:
    table = np.random.default_rng(0).normal(size=(9, 4)) + np.arange(9)[:, None] / 3 + np.arange(4)
    frame = pd.DataFrame([(i, j, table[i, j]) for i in range(9) for j in range(4)], columns=["row", "model", "value"])
    squares = anova_lm(ols("value ~ C(row) + C(model)", frame).fit())["mean_sq"]
    residual = squares["Residual"]
    found = np.array([(squares["C(row)"] - residual) / 4, (squares["C(model)"] - residual) / 9, residual])
    assert (found > 0).all()
    own = variance_shares(table)
    assert own
    assert [own.rows, own.models, own.residual] == pytest.approx(found / found.sum())
    assert not own.clipped


def test_what_scores_were_made_of_is_found() -> None:
    random = np.random.default_rng(1)
    by_row, by_model = random.normal(0, 3, (2000, 1)), random.normal(0, 2, 60)
    own = variance_shares(by_row + by_model + random.normal(0, 1, (2000, 60)))
    assert own
    assert [own.rows, own.models, own.residual] == pytest.approx(np.array([9, 4, 1]) / 14, abs=0.08)


def test_pure_effects() -> None:
    rows, models = np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 2.0])
    assert variance_shares(np.tile(rows, 2)) == VarianceShares(1, 0, 0, clipped=False)
    assert variance_shares(np.tile(models, (3, 1))) == VarianceShares(0, 1, 0, clipped=False)
    crossing = variance_shares(np.array([[0.0, 1.0], [1.0, 0.0]]))  # no row and no model is better
    assert crossing == VarianceShares(0, 0, 1, clipped=True)


@pytest.mark.parametrize(
    "values", [np.ones((5, 3)), np.zeros((5, 1)), np.arange(3.0)[:, None], np.ones((1, 4)), np.full((4, 4), NAN)]
)
def test_where_there_is_nothing_to_share(values: np.ndarray) -> None:
    assert variance_shares(values) is None


def test_only_rows_that_all_models_have_count() -> None:
    table = np.random.default_rng(2).random((20, 3))
    with_gaps = np.concatenate([table, [[NAN, 5.0, 1.0]]])
    without_model = np.concatenate([with_gaps, np.full((21, 1), NAN)], axis=1)
    assert variance_shares(with_gaps) == variance_shares(table) == variance_shares(without_model)


tables = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(-9, 9).map(float)
)


@given(tables)
def test_shares_sum_to_one(table: np.ndarray) -> None:
    own = variance_shares(table)
    if own is None:
        assert np.ptp(table) == 0
    else:
        assert own.rows + own.models + own.residual == pytest.approx(1)
        assert min(own.rows, own.models, own.residual) >= 0


@given(tables, st.randoms(use_true_random=False), st.floats(0.1, 10), st.floats(-5, 5))
def test_neither_order_nor_unit_matters(table: np.ndarray, random: object, factor: float, shift: float) -> None:
    rows, models = (random.sample(range(n), n) for n in table.shape)  # type: ignore[attr-defined]
    one, other = variance_shares(table), variance_shares(table[rows][:, models] * factor + shift)
    assert (one is None) == (other is None)
    if one and other:
        assert [other.rows, other.models] == pytest.approx([one.rows, one.models], abs=1e-6)
