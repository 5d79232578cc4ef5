"""What lies on disk after a run, and the summary of it against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.results import CHANCE, ORACLE, SCHEMA, Run, summarise

NAN = float("nan")


def rows(explainer: str, model: str | None, metric: str, values: list[float]) -> pa.Table:
    """Long rows of one metric; NaN is undefined."""
    return pa.Table.from_pylist(
        [
            {"row": row, "label": 0, "model": model, "explainer": explainer, "metric": metric, "seconds": 0.5}
            | {"value": None if np.isnan(value) else value}
            for row, value in enumerate(values)
        ],
        SCHEMA,
    )


def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert not run.has("a")
    run.write_json(run.failure("a"), {"reason": "no"})
    run.write_part("a", rows("m", "x", "iou", [1.0]))
    assert run.has("a")
    assert not run.failure("a").exists()
    assert run.table(["a"]).num_rows == 1
    run.part("b").write_bytes(run.part("a").read_bytes()[:-30])
    assert not run.has("b")
    with pytest.raises(Refusal, match="1 of 2 parts are missing"):
        run.table(["a", "b"])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.parquet", "b.parquet"]


def test_means_references_and_calibration_by_hand() -> None:
    table = pa.concat_tables(
        [
            rows(CHANCE, None, "iou", [0.1, 0.3, 0.9, 0.1]),
            rows(ORACLE, None, "iou", [1.0, 1.0, 0.5, 1.0]),
            rows("gradcam", "one", "iou", [0.5, 0.7, NAN, 0.1]),
            rows("gradcam", "two", "iou", [0.7, NAN, NAN, 0.3]),
        ]
    )
    (entry,) = summarise(table, {"iou": None}, seed=0)
    iou = entry["metrics"]["iou"]
    assert iou["n"] == 4
    assert iou["undefined"] == 1  # row 2: no model has a value
    assert iou["mean"] == pytest.approx((0.6 + 0.7 + 0.2) / 3)
    assert iou["chance"] == pytest.approx((0.1 + 0.3 + 0.1) / 3)  # of the rows that have a value
    assert iou["oracle"] == pytest.approx(1.0)
    assert iou["calibrated"] == pytest.approx((0.5 - 0.5 / 3) / (1 - 0.5 / 3))
    assert iou["low"] <= iou["mean"] <= iou["high"]
    assert entry["cost"]["seconds"] == pytest.approx(0.5)


def test_nothing_defined_is_none_and_not_a_number() -> None:
    table = pa.concat_tables([rows(name, "m", "iou", [NAN, NAN]) for name in (CHANCE, ORACLE, "x")])
    iou = summarise(table, {"iou": None}, seed=0)[0]["metrics"]["iou"]
    assert iou["undefined"] == iou["n"] == 2
    assert {iou[key] for key in ("mean", "low", "high", "chance", "oracle", "calibrated")} == {None}


def curves(explainer: str, model: str | None, values: list[list[float]]) -> pa.Table:
    named = [
        {"row": i, "model": model, "explainer": explainer, "metric": "best", "curve": curve}
        for i, curve in enumerate(values)
    ]
    return pa.Table.from_pylist(named, SCHEMA)


def test_a_curve_metric_chooses_once_for_all_rows() -> None:
    def at_best_mean(found: np.ndarray) -> np.ndarray:
        return found[:, np.nanmean(found, axis=0).argmax()]

    table = pa.concat_tables(
        [
            curves(CHANCE, None, [[0.2, 0.1], [0.2, 0.1]]),
            curves(ORACLE, None, [[1.0, 1.0], [1.0, 1.0]]),
            curves("x", "m", [[0.9, 0.6], [0.1, 0.8]]),  # means 0.5 and 0.7: the second threshold, for both rows
        ]
    )
    best = summarise(table, {"best": at_best_mean}, seed=0)[0]["metrics"]["best"]
    assert best["mean"] == pytest.approx(0.7)
    assert best["chance"] == pytest.approx(0.2)
    assert best["oracle"] == pytest.approx(1.0)


def test_explainers_come_in_the_order_of_the_table() -> None:
    table = pa.concat_tables([rows(name, "m", "iou", [0.0, 1.0]) for name in (CHANCE, ORACLE, "z", "a")])
    assert [entry["explainer"] for entry in summarise(table, {"iou": None}, seed=0)] == ["z", "a"]
