"""Curves: what is filed beside a value, and the means that a page draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import bootstrap

from an8flower.evaluate.audits.summary.curves import curves
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.faithfulness import PLOTTED, plotted_points
from an8flower.evaluate.metrics.metric import Tracer, score_all, score_and_trace
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.metrics.ranking import THRESHOLDS
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.statistics.scores import ScoreArrays
from an8flower.evaluate.results.summary import CHANCE, ORACLE
from an8flower.evaluate.scoring.judge import Judge
from an8flower.store import FlowerStore

NAN = float("nan")
Lines = list[list[float] | None]


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def model(store: FlowerStore) -> Classifier:
    made = build("flowernet", store.class_names, store.size, seed=0)
    with torch.no_grad():
        made.network.classifier.weight.mul_(20)  # so that its answers are not all alike
    return made.eval()


def judge_of(store: FlowerStore, *names: str) -> Judge:
    return Judge(store["test"], "label", 0, tuple(parse_metrics(names)), Resources(torch.device("cpu"), batch=64))


# What is filed


@pytest.mark.parametrize("name", ["deletion", "insertion:baseline=mean,steps=28", "insertion:target=predicted,steps=9"])
def test_a_curve_is_filed_beside_its_area(store: FlowerStore, model: Classifier, name: str) -> None:
    """Where the curve is filed whole, the value is its area; the ends are the untouched images, or the baseline's."""
    judge, rows = judge_of(store, name), np.arange(5)
    (metric,) = judge.metrics
    case, predicted = judge.case(model, rows, judge.predict(model, rows)), judge.predict(model, rows)
    found = judge.score(model, parse_method("gradcam"), rows, predicted).to_pandas()
    lines = np.stack(found["curve"])
    assert metric.tracer
    levels = metric.tracer.levels(store.size**2)
    assert lines.shape == (5, len(levels))
    assert len(levels) <= PLOTTED
    assert (levels[0], levels[-1]) == (0, 1)
    area = trapezoid(lines.astype(np.float64), levels, axis=1)
    np.testing.assert_allclose(found["value"], area, atol=0.02 if name == "deletion" else 1e-6)
    classes = torch.from_numpy(predicted if "predicted" in name else case.truth.labels.numpy())
    whole = model(case.query.images).softmax(1).gather(1, classes[:, None])[:, 0].detach().numpy()
    end = 0 if name == "deletion" else -1
    np.testing.assert_allclose(lines[:, end], whole, atol=1e-5)


def test_curves_cost_nothing_and_change_nothing(store: FlowerStore, model: Classifier) -> None:
    judge, rows = judge_of(store, "deletion", "insertion", "average_drop"), np.arange(3)
    case = judge.case(model, rows, np.zeros(3, np.int64))
    maps = explain(model, parse_method("gradcam").explainer, case.query, 64).maps
    with torch.no_grad(), model.counting() as plain:
        values = score_all(judge.metrics, maps, case)
    with torch.no_grad(), model.counting() as traced:
        scored = score_and_trace(judge.metrics, maps, case)
    assert plain.forwards == traced.forwards > 0
    assert set(scored.traces) == {"deletion", "insertion"}
    for name, own in values.items():
        assert torch.equal(own, scored.values[name])


def test_chance_and_the_truth_have_curves_as_well(store: FlowerStore, model: Classifier) -> None:
    judge, rows = judge_of(store, "deletion:steps=4"), np.arange(4)
    frame = judge.score_model_references(model, rows, judge.predict(model, rows), {}).to_pandas()
    for name in (CHANCE, ORACLE):
        own = frame[frame.explainer == name]
        area = trapezoid(np.stack(own.curve).astype(float), [0, 0.25, 0.5, 0.75, 1], axis=1)
        np.testing.assert_allclose(own.value, area, atol=1e-6)


def test_only_what_can_tell_a_curve_is_asked_for_one() -> None:
    told = {name: parse_metric(name).tracer for name in ("deletion", "insertion", "iou", "iou_best", "average_drop")}
    assert [name for name, by in told.items() if by] == ["deletion", "insertion"]
    assert isinstance(told["deletion"], Tracer)


@given(st.integers(2, 5000))
def test_points_are_spread_evenly(points: int) -> None:
    kept = plotted_points(points)
    assert len(kept) == min(points, PLOTTED)
    assert (kept[0], kept[-1]) == (0, points - 1)
    assert np.ptp(np.diff(kept)) <= 1


# What is drawn


def long_rows(metric: str, explainer: str, lines: Lines, model: str | None = "net-seed0-d") -> list[dict[str, object]]:
    about = {"metric": metric, "explainer": explainer, "model": model}
    return [{**about, "row": 3 * row, "curve": line} for row, line in enumerate(lines)]


def table(*entries: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([each for some in entries for each in some], SCHEMA)


def test_means_intervals_and_axes() -> None:
    """Against SciPy's bootstrap, whose BCa limits are those of ours before they are widened for few rows."""
    source = np.random.default_rng(0)
    lines = (0.5 + 0.1 * source.normal(size=(200, 100))).astype(np.float32)
    rows = table(
        long_rows("iou_best", "gradcam()", lines.tolist()), long_rows("iou_best", CHANCE, lines[::-1].tolist(), None)
    )
    found = curves(rows, {"gradcam()": "Grad-CAM", "other()": "other"}, parse_metrics(["iou_best", "iou"]), 40, 0)
    assert list(found) == ["iou"]
    curve = found["iou"]
    assert curve["x"] == [round(number / 100, 2) for number in range(100)]
    np.testing.assert_allclose(curve["x"], THRESHOLDS.numpy(), atol=1e-7)
    assert list(curve["methods"]) == ["Grad-CAM"]
    line = curve["methods"]["Grad-CAM"]
    np.testing.assert_allclose(line["mean"], lines.mean(0), atol=1e-6)
    for point in (0, 57):
        limits = bootstrap((lines[:, point].astype(float),), np.mean, n_resamples=4000, rng=1).confidence_interval
        assert line["low"][point] == pytest.approx(limits.low, abs=0.003)
        assert line["high"][point] == pytest.approx(limits.high, abs=0.003)
    assert curve["references"][CHANCE]["mean"] == pytest.approx(line["mean"])


def test_a_row_counts_by_the_mean_of_its_models_and_rows_without_a_curve_do_not() -> None:
    one = long_rows("deletion", "x", [[1.0, 0.0], [NAN, NAN], None, [0.5, 0.5]])
    two = long_rows("deletion", "x", [[0.0, 0.0], [0.5, 0.25], None, [0.5, 0.5]], "net-seed1-e")
    scores = ScoreArrays(table(one, two), {})
    lines = scores.curves("deletion", "x")
    assert lines.shape == (4, 2, 2)
    assert lines[1, 1].tolist() == [0.5, 0.25]
    assert np.isnan(lines[2]).all()
    metric = parse_metric("deletion")
    (drawn_line,) = curves(table(one, two), {"x": "x"}, [metric], 40, 0)["deletion"]["methods"].values()
    assert drawn_line["mean"] == pytest.approx([0.5, 0.25])  # of the rows' 0.5, 0.5, 0.5 and 0, 0.25, 0.5
    assert scores.curves("deletion", "y").size == scores.curves("other", "x").size == 0


def test_limits_are_of_these_models_and_none_is_no_number() -> None:
    """Rows agree, and how widely two models differ says nothing of other rows."""
    one = long_rows("insertion", "x", [[0.0, NAN, 1.0]] * 3)
    two = long_rows("insertion", "x", [[0.5, NAN, 0.5]] * 3, "net-seed1-e")
    found = curves(table(one, two), {"x": "x"}, parse_metrics(["insertion"]), 40, 0)
    line = found["insertion"]["methods"]["x"]
    assert line == {"mean": [0.25, None, 0.75], "low": [0.25, None, 0.75], "high": [0.25, None, 0.75]}


def test_what_is_not_filed_is_not_drawn() -> None:
    assert (
        curves(table(long_rows("deletion", "x", [None, None])), {"x": "x"}, parse_metrics(["deletion", "f1"]), 40, 0)
        == {}
    )


def test_the_curve_of_a_run(store: FlowerStore, model: Classifier) -> None:
    """From maps to the page: the mean of the curves that the rows have when asked one by one."""
    judge, rows = judge_of(store, "iou_best", "deletion"), np.arange(6)
    method = parse_method("gradcam")
    filed = judge.score(model, method, rows, judge.predict(model, rows))
    found = curves(filed, {repr(method.explainer): "gradcam"}, judge.metrics, store.size, 0)
    assert set(found) == {"iou", "deletion"}
    assert found["deletion"]["x_title"] == "share of pixels changed"
    for curve in found.values():
        line = curve["methods"]["gradcam"]
        assert len(curve["x"]) == len(line["mean"]) == len(line["low"])
        assert all(low <= mean + 1e-9 for low, mean in zip(line["low"], line["mean"], strict=True))
    case = judge.case(model, rows, rows)
    alone = [
        explain(model, method.explainer, Query(*(each[row : row + 1] for each in case.query)), 1).maps for row in rows
    ]
    one_by_one = score_all(judge.metrics[:1], torch.cat(alone), case)["iou_best"].mean(0)
    np.testing.assert_allclose(found["iou"]["methods"]["gradcam"]["mean"], one_by_one, atol=2e-3)
