"""What lies on disk after a run, and the summary of it against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.results.files import write_json
from an8flower.evaluate.results.folder import SCHEMA, RunFolder
from an8flower.evaluate.results.summary import CHANCE, ORACLE, RELIANCE, RELIES, MetricKind, contrasts, summarise

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
    run = RunFolder(tmp_path)
    assert not run.has("a")
    write_json(run.failure("a"), {"reason": "no"})
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
    (entry,) = summarise(table, {"iou": MetricKind()}, seed=0)
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
    iou = summarise(table, {"iou": MetricKind()}, seed=0)[0]["metrics"]["iou"]
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
    best = summarise(table, {"best": MetricKind(at_best_mean)}, seed=0)[0]["metrics"]["best"]
    assert best["mean"] == pytest.approx(0.7)
    assert best["chance"] == pytest.approx(0.2)
    assert best["oracle"] == pytest.approx(1.0)


def test_explainers_come_in_the_order_of_the_table() -> None:
    table = pa.concat_tables([rows(name, "m", "iou", [0.0, 1.0]) for name in (CHANCE, ORACLE, "z", "a")])
    assert [entry["explainer"] for entry in summarise(table, {"iou": MetricKind()}, seed=0)] == ["z", "a"]


def test_references_of_a_metric_that_asks_the_model_count_by_model() -> None:
    table = pa.concat_tables(
        [
            rows(CHANCE, "one", "drop", [0.1, 0.3]),
            rows(CHANCE, "two", "drop", [0.5, 0.9]),
            rows(ORACLE, "one", "drop", [0.8, 0.8]),
            rows(ORACLE, "two", "drop", [1.0, 0.4]),
            rows("x", "one", "drop", [0.5, NAN]),
            rows("x", "two", "drop", [0.5, 0.7]),
        ]
    )
    drop = summarise(table, {"drop": MetricKind()}, seed=0)[0]["metrics"]["drop"]
    assert drop["chance"] == pytest.approx(((0.1 + 0.5) / 2 + 0.9) / 2)
    assert drop["oracle"] == pytest.approx(((0.8 + 1.0) / 2 + 0.4) / 2)


def test_a_method_that_skips_a_model_is_read_against_the_others() -> None:
    table = pa.concat_tables(
        [
            *(rows(CHANCE, model, "drop", [value]) for model, value in (("one", 0.2), ("two", 0.4))),
            *(rows(ORACLE, model, "drop", [1.0]) for model in ("one", "two")),
            *(rows("both", model, "drop", [0.5]) for model in ("one", "two")),
            rows("skips", "two", "drop", [0.7]),
        ]
    )
    both, skips = (entry["metrics"]["drop"] for entry in summarise(table, {"drop": MetricKind()}, seed=0))
    assert (both["chance"], skips["chance"]) == (pytest.approx(0.3), pytest.approx(0.4))
    assert skips["undefined"] == 0


def test_an_interval_stays_within_the_bounds() -> None:
    table = pa.concat_tables(
        [rows(name, None, "iou", [0.0, 1.0]) for name in (CHANCE, ORACLE)] + [rows("x", "net", "iou", [0.0, 1.0])]
    )
    bound = summarise(table, {"iou": MetricKind(bounds=(0.2, 0.8))}, seed=0)[0]["metrics"]["iou"]
    assert (bound["low"], bound["high"]) == (0.2, 0.8)


def test_a_map_that_says_nothing_counts_as_chance_and_is_reported_by_model() -> None:
    """Not so an empty mask: then chance has no value either, and the row stays undefined."""
    references = [rows(CHANCE, None, "mass", [0.2, 0.4, NAN]), rows(ORACLE, None, "mass", [1.0, 1.0, NAN])]
    reason = "the mask is empty or the map is constant"
    table = pa.concat_tables(
        [
            *references,
            with_reason(rows("cam", "net-seed0-d", "mass", [0.8, NAN, NAN]), reason),
            with_reason(rows("cam", "vit-seed0-d", "mass", [0.6, 0.8, NAN]), reason),
        ]
    )
    mass = summarise(table, {"mass": MetricKind()}, seed=0)[0]["metrics"]["mass"]
    assert mass["mean"] == pytest.approx(((0.8 + 0.6) / 2 + (0.4 + 0.8) / 2) / 2)
    assert mass["gaps"] == {"net-seed0-d": 1}
    assert (mass["n"], mass["undefined"]) == (3, 1)
    assert mass["defined_only"]["mean"] == pytest.approx(((0.8 + 0.6) / 2 + 0.8) / 2)
    assert mass["scope"] == "these models"


def test_what_is_undefined_for_another_reason_stays_so() -> None:
    references = [rows(CHANCE, None, "drop", [0.2, 0.4]), rows(ORACLE, None, "drop", [1.0, 1.0])]
    other = with_reason(rows("cam", "net", "drop", [0.8, NAN]), "the class's probability on the image is 0")
    drop = summarise(pa.concat_tables([*references, other]), {"drop": MetricKind()}, seed=0)[0]["metrics"]["drop"]
    assert (drop["mean"], drop["undefined"]) == (pytest.approx(0.8), 1)
    assert "gaps" not in drop


def with_reason(table: pa.Table, reason: str) -> pa.Table:
    """The same long rows, with a reason where there is no value."""
    reasons = [None if value.is_valid else reason for value in table["value"]]
    return table.set_column(table.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))


def test_rows_on_which_the_model_relies_on_the_evidence_are_told_apart() -> None:
    table = pa.concat_tables(
        [
            rows(CHANCE, None, "iou", [0.1, 0.2, 0.3]),
            rows(ORACLE, None, "iou", [1.0, 1.0, 1.0]),
            rows(RELIANCE, "one", RELIES, [1.0, 0.0, NAN]),
            rows(RELIANCE, "two", RELIES, [1.0, 1.0, 0.0]),
            rows("x", "one", "iou", [0.5, 0.6, 0.7]),
            rows("x", "two", "iou", [0.7, 0.8, 0.9]),
        ]
    )
    (entry,) = summarise(table, {"iou": MetricKind(family="localisation"), "other": MetricKind()}, seed=0)
    relying = entry["metrics"]["iou"]["relying"]
    assert relying["share"] == pytest.approx(3 / 5)
    assert relying["mean"] == pytest.approx((0.6 + 0.8) / 2)
    assert relying["n"] == 2
    assert relying["calibrated"] == pytest.approx((0.7 - 0.15) / (1 - 0.15))
    assert relying["low"] <= relying["mean"] <= relying["high"]
    assert "relying" not in entry["metrics"]["other"]
    assert entry["metrics"]["iou"]["n"] == 3


def test_where_no_model_relies_on_the_evidence_nothing_is_said() -> None:
    table = pa.concat_tables(
        [rows(name, "m", "iou", [0.5, 0.1]) for name in (CHANCE, ORACLE, "x")] + [rows(RELIANCE, "m", RELIES, [0, 0])]
    )
    relying = summarise(table, {"iou": MetricKind(family="localisation")}, seed=0)[0]["metrics"]["iou"]["relying"]
    assert relying == {"share": 0, "mean": None, "low": None, "high": None, "n": 0, "calibrated": None}


def compared(kind: MetricKind, order: tuple[int, ...] = (0, 1, 2)) -> dict[str, dict[str, Any]]:
    """Three methods, the first two alike, on two seeds of one architecture and one of another."""
    random = np.random.default_rng(0)
    models = ["net-seed0-d", "net-seed1-d", "vit-seed0-d"]
    by_method = [
        [rows(name, model, "m", list(level + 0.1 * random.random(40))) for model in models]
        for name, level in (("A()", 0.1), ("B()", 0.1), ("C()", 0.5))
    ]
    references = [rows(name, None, "m", [0.0] * 40) for name in (CHANCE, ORACLE, RELIANCE)]
    table = pa.concat_tables([*references, *(part for method in order for part in by_method[method])])
    return contrasts(table, {"m": kind}, {"A()": "a", "B()": "b", "C()": "c"}, seed=0)


def test_methods_are_contrasted_by_metric() -> None:
    found = compared(MetricKind())
    assert list(found) == ["comparisons", "ranks", "variance", "power"]
    json.dumps(found, allow_nan=False)
    assert found["comparisons"]["m"]["groups"] in ([["c"], ["a", "b"]], [["c"], ["b", "a"]])
    pairs = found["comparisons"]["m"]["pairs"]
    assert [{pair["a"], pair["b"]} for pair in pairs] == [{"a", "b"}, {"a", "c"}, {"b", "c"}]
    assert [pair["apart"] for pair in pairs] == [False, True, True]
    assert all(pair["difference"] > 0 and pair["low"] <= pair["difference"] <= pair["high"] for pair in pairs)
    assert all(pair["p"] <= pair["p_holm"] for pair in pairs)
    ranks = found["ranks"]["m"]
    assert ranks["scope"] == found["comparisons"]["m"]["scope"] == "these models"
    assert ranks["methods"]["c"] == {"rank": 1, "low": 1, "high": 1, "first": 1}
    assert -1 <= ranks["tau_seeds"] <= 1
    assert sum(found["variance"]["m"]["a"][key] for key in ("rows", "models", "residual")) == pytest.approx(1)
    assert [each["rows"] for each in found["power"]["m"]][1:] == [1, 1]


def test_lower_may_be_better() -> None:
    found = compared(MetricKind(higher_is_better=False))
    assert found["comparisons"]["m"]["groups"][-1] == ["c"]
    assert found["ranks"]["m"]["methods"]["c"]["rank"] == 3
    assert all(pair["difference"] < 0 for pair in found["comparisons"]["m"]["pairs"])
    assert found["comparisons"]["m"]["pairs"][1]["b"] == "c"


def test_the_order_of_methods_changes_nothing() -> None:
    one, other = compared(MetricKind()), compared(MetricKind(), order=(2, 0, 1))
    assert one["comparisons"]["m"]["groups"] == other["comparisons"]["m"]["groups"]
    assert one["ranks"]["m"]["methods"] == other["ranks"]["m"]["methods"]
    assert one["variance"] == other["variance"]
    by_pair = [
        {(pair["a"], pair["b"]): pair["p_holm"] for pair in found["comparisons"]["m"]["pairs"]}
        for found in (one, other)
    ]
    assert by_pair[0] == pytest.approx(by_pair[1])


def test_one_method_is_not_compared() -> None:
    table = pa.concat_tables([rows(name, "m", "iou", [0.5, 0.1]) for name in (CHANCE, ORACLE, "x", "y")])
    found = contrasts(table, {"iou": MetricKind()}, {"x": "x"}, seed=0)
    assert found == {"comparisons": {}, "ranks": {}, "variance": {"iou": {"x": None}}, "power": {}}
    assert contrasts(table, {"iou": MetricKind()}, {}, seed=0)["variance"] == {}


def test_methods_that_share_no_row_are_compared_to_nothing() -> None:
    table = pa.concat_tables(
        [rows("x", "m", "iou", [NAN, 0.1]), rows("y", "m", "iou", [0.2, NAN]), rows("z", "m", "iou", [NAN, NAN])]
    )
    found = contrasts(table, {"iou": MetricKind()}, {name: name for name in "xyz"}, seed=0)
    json.dumps(found, allow_nan=False)
    assert found["comparisons"]["iou"]["groups"] == [["y"], ["x"]]  # never compared; z has no value
    assert {(pair["p"], pair["compared"]) for pair in found["comparisons"]["iou"]["pairs"]} == {(None, False)}
    assert found["ranks"]["iou"]["methods"]["z"] is None
