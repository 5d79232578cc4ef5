"""Rows to score: even over the classes, nested, fixed by the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from an8flower.errors import WrongUsage
from an8flower.evaluate.data.selection import select_rows

label_lists = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array)


@given(label_lists, st.data(), st.integers(0, 9))
def test_rows_are_spread_evenly_over_the_classes(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, len(labels)))
    rows = select_rows(labels, count, seed)
    assert len(set(rows.tolist())) == count
    assert (np.diff(rows) > 0).all()
    chosen, there = np.bincount(labels[rows], minlength=5), np.bincount(labels, minlength=5)
    most = chosen.max()
    assert all(n >= min(most - 1, available) for n, available in zip(chosen, there, strict=True))


@given(label_lists, st.data(), st.integers(0, 9))
def test_more_rows_keep_those_of_fewer(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    many = data.draw(st.integers(1, len(labels)))
    few = data.draw(st.integers(1, many))
    assert set(select_rows(labels, few, seed)) <= set(select_rows(labels, many, seed))


def test_the_seed_chooses() -> None:
    labels = np.arange(200) % 4
    assert (select_rows(labels, 20, 1) == select_rows(labels, 20, 1)).all()
    assert (select_rows(labels, 20, 1) != select_rows(labels, 20, 2)).any()


def test_all_rows_are_the_default() -> None:
    assert (select_rows(np.zeros(5, np.int64), None, 0) == np.arange(5)).all()


@pytest.mark.parametrize("count", [0, -1, 6])
def test_more_rows_than_there_are(count: int) -> None:
    with pytest.raises(WrongUsage, match="expected 1 to 5"):
        select_rows(np.zeros(5, np.int64), count, 0)
