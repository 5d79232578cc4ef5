"""How many rows it takes: against statsmodels, and by doing it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower

from an8flower.evaluate.results.statistics.comparisons import sign_flip_p
from an8flower.evaluate.results.statistics.power import rows_needed


@pytest.mark.parametrize("effect", [0.05, 0.21, 0.5, 1.3])
def test_rows_are_those_of_statsmodels(effect: float) -> None:
    expected = NormalIndPower(ddof=0).solve_power(effect, power=0.8, alpha=0.05, ratio=0)
    assert rows_needed(effect) == math.ceil(expected)


def test_with_so_many_rows_the_difference_is_found_as_often_as_said() -> None:
    rows = rows_needed(0.3)
    assert rows == 88
    p = sign_flip_p(np.random.default_rng(0).normal(0.3, 1, (400, rows)), seed=0)
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("effect", [0.0, float("nan"), 1e-9])
def test_without_an_effect_no_number_of_rows_is_enough(effect: float) -> None:
    assert rows_needed(effect) is None


@given(st.floats(1e-5, 10), st.floats(1, 3))
def test_a_larger_effect_takes_fewer_rows_whoever_is_better(effect: float, factor: float) -> None:
    one, other = rows_needed(effect), rows_needed(-effect * factor)
    assert one
    assert other
    assert 1 <= other <= one
