"""What a page shows of single rows: the rows that it names, and maps that a browser can threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from an8flower.evaluate.audits.pictures import (
    FIELDS,
    best_and_worst,
    gallery_rows,
    pictures_of,
)
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.arrays import read_arrays, write_arrays
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.kept_maps import to_half_precision
from an8flower.evaluate.scoring.judge import Judge
from an8flower.store import FlowerStore

Entry = dict[str, object]


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def model(store: FlowerStore) -> Classifier:
    return build("flowernet", store.class_names, store.size, seed=0).eval()


def judge_of(store: FlowerStore, batch: int = 5) -> Judge:
    metrics = tuple(parse_metrics(["iou_best"]))
    return Judge(store["test"], "label", 0, metrics, Resources(torch.device("cpu"), batch=batch))


def slow_best(scaled: np.ndarray, inside: np.ndarray) -> float:
    """IoU at the best of a hundred thresholds, in percent of the range, pixel by pixel."""
    found = []
    for percent in range(100):
        above = scaled > np.float32(percent) / np.float32(100)
        found.append((above & inside).sum() / (above | inside).sum())
    return max(found)


def test_rows_are_shown_with_their_own_truth_and_score(store: FlowerStore, model: Classifier) -> None:
    asked = {"gallery": [7, 0, 3], "best": [3, 11], "worst": []}
    found = pictures_of(judge_of(store), model, parse_method("gradcam"), asked)
    assert set(found) == set(FIELDS)
    assert found["rows"].tolist() == [7, 0, 3, 3, 11]
    assert found["roles"].tolist() == ["gallery"] * 3 + ["best"] * 2
    whole = store["test"].rows(0, 24)
    for name in ("images", "masks", "labels"):
        np.testing.assert_array_equal(found[name], getattr(whole, name)[found["rows"]])
    images = torch.from_numpy(whole.images[found["rows"]]).permute(0, 3, 1, 2).float() / 255
    np.testing.assert_array_equal(found["predicted"], model(images).argmax(1).numpy())
    dtypes = [str(found[name].dtype) for name in ("rows", "images", "masks", "maps", "iou")]
    assert dtypes == ["int64", "uint8", "uint8", "float16", "float32"]
    assert found["maps"].shape == (5, 40, 40)
    np.testing.assert_array_equal(found["maps"][2], found["maps"][3])


@pytest.mark.parametrize("method", ["gradcam", "gradient_x_input", "edges"])
def test_the_iou_is_that_of_the_best_threshold_of_the_row(store: FlowerStore, model: Classifier, method: str) -> None:
    """The stored map is rounded to half precision, which moves a few pixels across a threshold."""
    found = pictures_of(judge_of(store), model, parse_method(method), {"gallery": range(8)})
    for maps, mask, iou in zip(found["maps"].astype(np.float32), found["masks"], found["iou"], strict=True):
        if np.ptp(maps):
            assert slow_best((maps - maps.min()) / np.ptp(maps), mask > 0) == pytest.approx(iou, abs=0.01)
        else:
            assert iou == 0


def test_the_batch_changes_nothing_and_nothing_asked_is_nothing_shown(store: FlowerStore, model: Classifier) -> None:
    method = parse_method("smoothgrad:samples=2")
    one, other = (pictures_of(judge_of(store, batch), model, method, {"best": [5, 9]}) for batch in (1, 7))
    np.testing.assert_allclose(one["maps"].astype(float), other["maps"].astype(float), rtol=2e-3, atol=1e-6)
    none = pictures_of(judge_of(store), model, method, {})
    assert {name: values.shape[1:] for name, values in none.items()} == {
        name: values.shape[1:] for name, values in one.items()
    }
    assert {len(values) for values in none.values()} == {0}


@given(hnp.arrays(np.float32, (3, 4, 4), elements=st.floats(-1, 1, width=32)), st.integers(-90, 90))
def test_half_precision_keeps_maps_finite_and_close(maps: np.ndarray, power: int) -> None:
    maps = np.ldexp(maps, power)
    found = to_half_precision(maps).astype(np.float64)
    assert np.isfinite(found).all()
    peaks = np.abs(maps.astype(np.float64)).max((1, 2), keepdims=True)
    halves = np.abs(found).max((1, 2), keepdims=True)
    usual = np.where(peaks > 0, peaks, 1)
    np.testing.assert_allclose(found / np.where(halves > 0, halves, 1), maps / usual, atol=2e-3)


def test_pictures_are_filed_without_pickle(tmp_path: Path, store: FlowerStore, model: Classifier) -> None:
    found = pictures_of(judge_of(store), model, parse_method("edges"), {"gallery": [1]})
    place = tmp_path / "x.npz"
    write_arrays(place, found)
    again = read_arrays(place)
    assert again is not None
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype
    place.write_bytes(place.read_bytes()[:-200])
    assert read_arrays(place) is None
    np.savez(place, **{**found, "rows": np.array([{}], dtype=object)})
    assert read_arrays(place) is None


def long_rows(
    metric: str, values: list[float | None], curves: list[list[float]] | None = None
) -> list[dict[str, object]]:
    lines = curves or [None] * len(values)
    return [
        {"row": 10 * row, "metric": metric, "value": value, "curve": curve, "explainer": "x", "model": "m"}
        for row, (value, curve) in enumerate(zip(values, lines, strict=True))
    ]


def table(*entries: list[Entry]) -> pa.Table:
    return pa.Table.from_pylist([each for some in entries for each in some], SCHEMA)


CURVES = [[0.1, 0.5], [0.4, 0.2], [float("nan")] * 2, [0.9, 0.0], [0.0, 0.3], [0.2, 0.2]]


def test_the_best_and_the_worst_by_the_best_threshold_of_each() -> None:
    rows = table(long_rows("pointing", [1.0] * 6), long_rows("iou_best", [None] * 6, CURVES))
    assert best_and_worst(rows, 2) == {"best": [30, 0], "worst": [50, 40]}
    assert best_and_worst(rows.to_pandas(), 2) == {"best": [30, 0], "worst": [50, 40]}
    assert best_and_worst(rows, 10) == {"best": [30, 0, 10], "worst": [50, 40]}


def test_other_metrics_stand_in() -> None:
    errors = long_rows("le", [0.1, None, 0.5, 0.3])
    assert best_and_worst(table(long_rows("deletion", [1.0, 2.0]), errors), 1) == {"best": [0], "worst": [20]}
    means = long_rows("iou_mean", [0.1, 0.2, 0.3, 0.4])
    assert best_and_worst(table(errors, means), 1) == {"best": [30], "worst": [0]}
    assert best_and_worst(table(long_rows("deletion", [1.0])), 1) == {"best": [], "worst": []}
    assert best_and_worst(pd.DataFrame(table(long_rows("le", [None])).to_pandas())) == {"best": [], "worst": []}


@pytest.mark.parametrize("count", [4, 6, 9])
def test_the_gallery_has_every_class_before_any_twice(count: int) -> None:
    labels = np.repeat(np.arange(6), 10)
    rows = gallery_rows(labels, 3, count)
    assert len(set(rows)) == count
    assert np.ptp(np.bincount(labels[rows], minlength=6)) <= 1
    assert rows == gallery_rows(labels, 3, count)
    assert rows != gallery_rows(labels, 4, count)
    assert gallery_rows(labels[:2], 0) == [0, 1]
