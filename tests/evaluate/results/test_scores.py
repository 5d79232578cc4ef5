"""Long rows as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.statistics.scores import CHANCE, RELIANCE, ScoreArrays

NAN = float("nan")
Entry = tuple[str, str | None, int, float | None]


def table(entries: Sequence[Entry]) -> pa.Table:
    """Long rows of the metric `m`: explainer, model, row, value."""
    keys = ("explainer", "model", "row", "value")
    return pa.Table.from_pylist([dict(zip(keys, entry, strict=True), metric="m") for entry in entries], SCHEMA)


ENTRIES: list[Entry] = [
    (CHANCE, None, 7, 0.1),
    (CHANCE, None, 3, 0.2),
    ("b", "two-seed0-d", 7, 1.0),
    ("b", "two-seed0-d", 3, None),
    ("a", "one-seed10-d", 3, 3.0),
    (RELIANCE, "one-seed10-d", 3, 1.0),
]


@pytest.mark.parametrize("order", [range(6), reversed(range(6)), [3, 0, 5, 1, 4, 2]])
def test_every_value_has_its_place(order: Sequence[int]) -> None:
    scores = ScoreArrays(table([ENTRIES[i] for i in order]), {"m": None})
    assert scores.rows.tolist() == [3, 7]
    two, one = (scores.models.index(name) for name in ("two-seed0-d", "one-seed10-d"))
    assert scores.architectures[one] == "one"
    assert scores.of("m", CHANCE)[:, [two, one]] == pytest.approx(np.array([[0.2, 0.2], [0.1, 0.1]]))
    assert scores.of("m", "b")[:, [two, one]] == pytest.approx(np.array([[NAN, NAN], [1, NAN]]), nan_ok=True)
    assert scores.of("m", "a")[:, [two, one]] == pytest.approx(np.array([[NAN, 3], [NAN, NAN]]), nan_ok=True)
    assert scores.has_rows("m", "b")[:, [two, one]].tolist() == [[True, False], [True, False]]
    assert sorted(scores.methods) == ["a", "b"]


def test_what_is_not_there_is_undefined() -> None:
    scores = ScoreArrays(table(ENTRIES), {"m": None})
    assert np.isnan(scores.of("m", "c")).all()
    assert np.isnan(scores.of("other", "a")).all()
    assert scores.all_of("m", []).shape == (0, 2, 2)


def test_a_reference_is_the_mean_of_the_rows_that_count() -> None:
    scores = ScoreArrays(table(ENTRIES), {"m": None})
    assert scores.reference("m", CHANCE, np.array([[True, False], [False, False]])) == pytest.approx(0.2)
    assert scores.reference("m", CHANCE, np.ones((2, 2), bool)) == pytest.approx(0.15)
    assert np.isnan(scores.reference("m", CHANCE, np.zeros((2, 2), bool)))


def test_a_curve_is_chosen_for_each_explainer_on_its_own() -> None:
    def named(explainer: str, curves: list[list[float]]) -> list[dict[str, object]]:
        about = {"explainer": explainer, "model": "one-seed0-d", "metric": "m"}
        return [{**about, "row": row, "curve": curve} for row, curve in enumerate(curves)]

    entries = [*named("x", [[0.0, 1.0], [0.0, 3.0]]), *named("y", [[5.0, 1.0], [6.0, 1.0]])]
    scores = ScoreArrays(
        pa.Table.from_pylist(entries, SCHEMA), {"m": lambda curves: curves[:, int(curves.mean(0).argmax())]}
    )
    assert scores.all_of("m", ["x", "y"])[..., 0].tolist() == [[1, 3], [5, 6]]
