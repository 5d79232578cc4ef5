"""Slices: what rows are cut by, where they are cut, and the numbers of the pieces."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from an8flower import spec as specs
from an8flower.evaluate.audits.summary.slices import assign_bins, name_spans, row_properties, slices
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.summary import CHANCE, ORACLE, MetricKind, summarise
from an8flower.factors import PARTS
from an8flower.generate import generate, make_rows
from an8flower.occlusion import keep_parts, occlusion
from an8flower.render import render
from an8flower.scene import Scenes, build
from an8flower.store import FlowerStore
from an8flower.writing import Block

NAN = float("nan")


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def cluttered(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("clutter") / "clutter.h5"
    generate(specs.load("clutter-6c").with_changes(rows=60, size=36), path, workers=1)
    return FlowerStore(path)


# Properties


def test_properties_are_those_of_the_row(cluttered: FlowerStore) -> None:
    split = cluttered["test"]
    rows, indices = split.rows(0, len(split)), np.array([1, 4, 9])
    found = row_properties(split, indices)
    assert found.index.tolist() == indices.tolist()
    assert rows.factors is not None
    for index, (_, line) in zip(indices, found.iterrows(), strict=True):
        assert line["class"] == cluttered.class_names[rows.labels[index]]
        assert line["part size"] == np.count_nonzero(rows.masks[index]) / 36**2
        assert line["elevation"] == rows.factors[index]["view.elevation"]
        assert line["clutter"] == rows.factors[index]["distractors.count"]
    assert 0 <= found["occlusion"].min() <= found["occlusion"].max() <= 1


def test_what_a_file_does_not_hold_is_unknown(cluttered: FlowerStore, tmp_path: Path) -> None:
    for name, lacking in (("x.h5", ["test/factors"]), ("y.h5", ["test/factors", "test/parts"])):
        shutil.copy(cluttered.path, tmp_path / name)
        with h5py.File(tmp_path / name, "r+") as file:
            del file.attrs["spec"]
            for each in lacking:
                del file[each]
    split = FlowerStore(tmp_path / "x.h5")["test"]
    found, parts = row_properties(split, np.arange(12)), split.rows(0, 12).parts
    assert found[["elevation", "occlusion"]].isna().all().all()
    assert found["part size"].notna().all()
    assert parts is not None
    covered = [(own == PARTS.index("distractors")).sum() / 36**2 for own in parts]
    np.testing.assert_allclose(found["clutter"], covered)
    assert row_properties(FlowerStore(tmp_path / "y.h5")["test"], np.arange(12))["clutter"].isna().all()


def slow_without_others(scenes: Scenes, row: int, wanted: set[str]) -> Scenes:
    """The scene of one row, its ellipsoids picked one by one."""
    own = range(scenes.offsets[row], scenes.offsets[row + 1])
    picked = [each for each in own if PARTS[scenes.part[each]] in wanted]
    ellipsoids = {name: getattr(scenes, name)[picked] for name in Scenes._fields[1:7]}
    rest = {name: getattr(scenes, name)[row : row + 1] for name in Scenes._fields[7:-1]}  # the ground is plain
    return Scenes(offsets=np.array([0, len(picked)]), **ellipsoids, **rest)


@pytest.mark.parametrize("preset", ["single-6c", "double-12c", "pair-12c", "thin-4c"])
def test_what_hides_the_evidence(preset: str) -> None:
    """Each scene is rendered again with nothing in it but the evidence: what is no longer seen then, was hidden."""
    spec = specs.load(preset).with_changes(rows=60, size=36)
    rows = make_rows(spec, Block("test", 0, 12))
    told = {"single-6c": {"petals"}, "pair-12c": {"petals", "stem"}, "thin-4c": {"stem"}}
    found = occlusion(spec, rows.factors, rows.labels, rows.parts)
    scenes = build(rows.factors)
    for row, share in enumerate(found):
        evidence = told.get(preset) or ({"petals"} if rows.labels[row] < 6 else {"stem"})
        (alone,) = render(slow_without_others(scenes, row, evidence), spec.size, 1)[1]
        seen = np.isin(rows.parts[row], [PARTS.index(part) for part in evidence])
        assert (alone[seen] > 0).all()
        assert share == pytest.approx(1 - seen.sum() / (alone > 0).sum())
    assert found.max() > 0


def test_evidence_that_nothing_can_hide_and_evidence_that_is_not_there() -> None:
    """A stem behind everything is hidden; told by absence, nothing is there to be hidden."""
    spec = specs.load("absent-4c").with_changes(rows=60, size=36)
    rows = make_rows(spec, Block("test", 0, 12))
    found = occlusion(spec, rows.factors, rows.labels, rows.parts)
    bare = (rows.factors["leaves.count"] == 0) & (rows.factors["pot.count"] == 0)
    assert np.isnan(found[bare]).all()
    assert bare.any()
    assert not np.isnan(found[~bare]).any()
    nothing = keep_parts(build(rows.factors), np.zeros((12, len(PARTS)), bool))
    assert nothing.offsets.tolist() == [0] * 13
    assert (render(nothing, 36, 1)[1] == 0).all()


# Where rows are cut


VALUES = st.lists(st.one_of(st.integers(0, 4).map(float), st.floats(-5, 5), st.just(NAN)), min_size=1, max_size=40)


@given(VALUES)
def test_bins_are_in_order_and_ties_stay_together(values: list[float]) -> None:
    column = np.array(values)
    places = assign_bins(column)
    assert ((places == -1) == np.isnan(column)).all()
    known, bins = column[places >= 0], places[places >= 0]
    assert set(bins) <= {0, 1, 2}
    for place in range(2):
        assert known[bins <= place].max(initial=-np.inf) < known[bins > place].min(initial=np.inf)
    assert (len(set(bins)) > 1) == (len(set(known)) > 1)


@given(st.integers(1, 60), st.integers(0, 9))
def test_without_ties_bins_are_terciles(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(count) * 0.7 - 3
    counts = np.bincount(assign_bins(values), minlength=3)
    assert counts.sum() == count
    assert np.ptp(counts) <= 1 if count >= 3 else True


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=6, unique=True))
def test_names_of_ranges_differ(limits: list[float]) -> None:
    ordered = sorted(limits)
    spans = [(ordered[0], ordered[1]), (ordered[2], ordered[2]), (ordered[3], ordered[-1])]
    told = name_spans(spans)
    assert len(set(told)) == 3
    numbers = [float(limit) for name in told for limit in name.split(" to ")]
    assert numbers == sorted(numbers)


def test_names_of_ranges() -> None:
    assert name_spans([(0.0204, 0.0497), (0.0521, 0.213)]) == ["0.02 to 0.05", "0.052 to 0.21"]
    assert name_spans([(0, 0), (1, 3), (4, 8)]) == ["0", "1 to 3", "4 to 8"]
    assert name_spans([(5.0421, 19.81), (19.84, 49.93)]) == ["5.042 to 19.81", "19.84 to 49.93"]


# The numbers


def long_rows(
    metric: str, explainer: str, values: list[float], model: str | None = "net-seed0-d"
) -> list[dict[str, object]]:
    about = {"metric": metric, "explainer": explainer, "model": model}
    return [{**about, "row": 2 * row, "value": None if np.isnan(each) else each} for row, each in enumerate(values)]


OURS = [0.1, 0.3, 0.5, 0.6, NAN, 0.8]
CHANCES = [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]
TRUTHS = [1.0, 0.9, 0.8, 1.0, 0.9, 0.8]


@pytest.fixture
def table() -> pa.Table:
    entries = [
        *long_rows("iou_mean", "x()", OURS),
        *long_rows("deletion", "x()", OURS),
        *long_rows("iou_mean", CHANCE, CHANCES, None),
        *long_rows("iou_mean", ORACLE, TRUTHS, None),
    ]
    return pa.Table.from_pylist(entries, SCHEMA)


@pytest.fixture
def properties() -> pd.DataFrame:
    columns = {
        "class": pd.Categorical(["red", "red", "blue", "blue", "red", "red"], categories=["red", "green", "blue"]),
        "part size": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "elevation": [NAN, NAN, NAN, 7.0, 7.0, 9.0],
        "occlusion": [NAN] * 6,
        "clutter": [3.0] * 6,
    }
    return pd.DataFrame(columns, index=pd.Index(range(0, 12, 2), name="row"))


def test_each_slice_by_hand(table: pa.Table, properties: pd.DataFrame) -> None:
    found = slices(table, {"x()": "X"}, parse_metrics(["iou_mean", "deletion"]), properties, 0)
    assert list(found) == ["iou_mean"]
    cut = [(each["slice"], each["value"], each["rows"]) for each in found["iou_mean"]]
    assert cut == [
        ("class", "red", 4),
        ("class", "blue", 2),
        ("part size", "0.1 to 0.2", 2),
        ("part size", "0.3 to 0.4", 2),
        ("part size", "0.5 to 0.6", 2),
        ("elevation", "7", 2),
        ("elevation", "9", 1),
    ]
    red = found["iou_mean"][0]["methods"]["X"]
    assert red["mean"] == pytest.approx(0.4)  # of 0.1, 0.3 and 0.8
    chance, truth = (0.1 + 0.1 + 0.2) / 3, (1.0 + 0.9 + 0.8) / 3  # of the same three rows
    assert red["calibrated"] == pytest.approx((0.4 - chance) / (truth - chance))
    assert red["low"] < 0.4 < red["high"]
    last = found["iou_mean"][-1]["methods"]["X"]
    assert last == pytest.approx({"mean": 0.8, "low": 0.8, "high": 0.8, "calibrated": 1.0})


def test_one_slice_of_all_rows_is_the_summary(table: pa.Table, properties: pd.DataFrame) -> None:
    """The same mean, interval and calibration as the table that `score` prints."""
    whole = properties[["class"]].assign(**{"class": pd.Categorical(["red"] * 6)})
    (found,) = slices(table, {"x()": "X"}, parse_metrics(["iou_mean"]), whole, 3)["iou_mean"]
    (entry,) = summarise(table, {"iou_mean": MetricKind(bounds=(0, 1))}, 3)
    for name, number in found["methods"]["X"].items():
        assert number == pytest.approx(entry["metrics"]["iou_mean"][name])


def test_a_threshold_is_that_of_the_whole_data_set(properties: pd.DataFrame) -> None:
    """All rows together choose the second threshold, though the red ones alone would choose the first."""
    lines = [[0.5, 0.4], [0.5, 0.4], [0.0, 0.9], [0.0, 0.9], [0.5, 0.4], [0.5, 0.4]]
    entries = [
        {"metric": "iou_best", "explainer": "x()", "model": "n-seed0-d", "row": 2 * row, "curve": line}
        for row, line in enumerate(lines)
    ]
    table = pa.Table.from_pylist(entries, SCHEMA)
    red, blue = slices(table, {"x()": "X"}, parse_metrics(["iou_best"]), properties[["class"]], 0)["iou_best"]
    assert red["methods"]["X"]["mean"] == pytest.approx(0.4)
    assert blue["methods"]["X"]["mean"] == pytest.approx(0.9)
    assert red["methods"]["X"]["calibrated"] is None


def test_a_method_without_rows_is_undefined(table: pa.Table, properties: pd.DataFrame) -> None:
    found = slices(table, {"y()": "Y"}, parse_metrics(["iou_mean"]), properties, 0)["iou_mean"][0]["methods"]["Y"]
    assert found == {"mean": None, "low": None, "high": None, "calibrated": None}


def test_a_run_is_sliced(store: FlowerStore) -> None:
    found = row_properties(store["test"], np.arange(24))
    assert list(found.columns) == ["class", "part size", "elevation", "occlusion", "clutter", "background"]
    assert found["class"].cat.categories.tolist() == store.class_names
    assert found["clutter"].eq(0).all()
