"""Boards: what ran on the same models is ranked together, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from an8flower.evaluate.results.boards import boards, find_equal
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.summary import CHANCE, ORACLE, MetricKind, contrasts

NETS = ["net-seed0-d", "net-seed1-d"]
VIT = "vit-seed0-d"


def rows(explainer: str, model: str | None, values: np.ndarray, metric: str = "iou") -> pa.Table:
    """Long rows of one metric."""
    about = {"label": 0, "model": model, "explainer": explainer, "metric": metric, "seconds": 0.5}
    return pa.Table.from_pylist([{"row": i, **about, "value": float(v)} for i, v in enumerate(values)], SCHEMA)


def simpson() -> pa.Table:
    """`cnn` ran on the easy architecture alone; on it, `both` is better, though its mean over all models is lower."""
    random = np.random.default_rng(0)
    parts = [rows(CHANCE, None, np.full(40, 0.1)), rows(ORACLE, None, np.ones(40))]
    for model, level in ((NETS[0], 0.7), (NETS[1], 0.7), (VIT, 0.2)):
        parts.append(rows("both", model, level + 0.05 * random.random(40)))
        parts.append(rows("copy", model, np.full(40, level)))
        parts.append(rows("centre", model, np.full(40, 0.15)))
    parts += [rows("cnn", model, 0.6 + 0.05 * random.random(40)) for model in NETS]
    parts += [rows("vit", VIT, 0.3 + 0.05 * random.random(40))]
    return pa.concat_tables(parts)


NAMED = {name: name for name in ("both", "copy", "centre", "cnn", "vit")}


def document(table: pa.Table | None = None) -> list[dict[str, Any]]:
    return boards(table or simpson(), {"iou": MetricKind()}, NAMED, {"centre"}, seed=0)


def best(board: dict[str, Any]) -> list[str]:
    results = board["metrics"]["iou"]["results"]
    return sorted(results, key=lambda name: -results[name]["mean"])


def test_a_board_for_each_architecture_and_one_over_all() -> None:
    net, vit, both = document()
    assert [board["architectures"] for board in (net, vit, both)] == [{"net": 2}, {"vit": 1}, {"net": 2, "vit": 1}]
    assert best(net) == ["both", "copy", "cnn", "centre"]
    assert best(vit) == ["vit", "both", "copy", "centre"]
    assert best(both) == ["both", "copy", "centre"]
    assert net["missing"] == {"vit": 0}
    assert both["missing"] == {"cnn": 2, "vit": 1}
    json.dumps([net, vit, both], allow_nan=False)


def test_methods_of_other_models_are_never_ranked_or_tied() -> None:
    """The mean of `cnn` over its own models is above that of `both` over all, and says nothing."""
    found = contrasts(simpson(), {"iou": MetricKind()}, NAMED, seed=0)
    assert found["ranks"]["iou"]["methods"]["cnn"] is None
    pairs = {frozenset((pair["a"], pair["b"])): pair for pair in found["comparisons"]["iou"]["pairs"]}
    assert pairs[frozenset(("both", "cnn"))]["a"] == "both"  # on the models that both have
    never = pairs[frozenset(("cnn", "vit"))]
    assert (never["compared"], never["apart"], never["difference"]) == (False, False, None)
    assert not any({"cnn", "vit"} <= set(group) for group in found["comparisons"]["iou"]["groups"])


def test_architectures_weigh_the_same_on_the_board_over_all() -> None:
    numbers = document()[2]["metrics"]["iou"]["results"]["copy"]
    assert numbers["mean"] == pytest.approx((0.7 + 0.2) / 2)
    assert numbers["calibrated"] == pytest.approx((0.45 - 0.1) / 0.9)
    assert numbers["calibrated_low"] == numbers["calibrated_high"] == pytest.approx(numbers["calibrated"])


def test_a_method_is_better_than_the_best_control_and_the_next() -> None:
    better = document()[0]["metrics"]["iou"]["better_than"]
    assert better["both"] == {"control": True, "next": True}
    assert better["centre"] == {"control": None, "next": None}


def test_equal_maps_stand_once() -> None:
    """They differ by rounding, in one row by a pixel; on the other architecture they are not equal."""
    table, nudge = simpson(), np.zeros(40)
    nudge[3] = 0.001
    parts = [table]
    for name, model, shift in (("twin", NETS[0], nudge), ("twin", NETS[1], nudge), ("twin", VIT, nudge + 0.1)):
        both = [row["value"] for row in table.to_pylist() if (row["model"], row["explainer"]) == (model, "both")]
        parts.append(rows(name, model, np.array(both) + shift))
    named = NAMED | {"twin": "twin"}
    net, vit, _ = boards(pa.concat_tables(parts), {"iou": MetricKind()}, named, {"centre"}, seed=0)
    assert net["methods"][0] == {"text": "both", "equal": ["twin"]}
    assert not any("twin" in (pair["a"], pair["b"]) for pair in net["metrics"]["iou"]["pairs"])
    assert [entry["equal"] for entry in vit["methods"]] == [[]] * 5


def test_equal_in_one_metric_alone_is_not_equal() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 3, 20, 1))
    first[1], second[1] = first[0], second[0]
    assert find_equal([first, second], 3) == [[0, 1], [2]]
    second[1] = second[2]
    assert find_equal([first, second], 3) == [[0], [1], [2]]
    assert find_equal([], 2) == [[0], [1]]


def test_with_two_seeds_nothing_is_said_of_models_trained_anew() -> None:
    anew = document()[2]["metrics"]["iou"]["trained_anew"]
    assert anew == {
        "scope": "trained anew",
        "sentence": "For models trained anew nothing can be said: that takes three seeds of an architecture; net has "
        "two and vit has one.",
        "pairs": [],
    }


def test_with_three_seeds_every_pair_is_tested() -> None:
    random = np.random.default_rng(2)
    parts = [rows(CHANCE, None, np.full(40, 0.1)), rows(ORACLE, None, np.ones(40))]
    for seed in range(3):
        for name, level in (("both", 0.8), ("copy", 0.5), ("centre", 0.5)):
            parts.append(rows(name, f"net-seed{seed}-d", level + 0.05 * random.random(40)))
    (board,) = document(pa.concat_tables(parts))
    anew = board["metrics"]["iou"]["trained_anew"]
    assert [(pair["a"], pair["b"], pair["apart"]) for pair in anew["pairs"]][:2] == [
        ("both", "copy", True),
        ("both", "centre", True),
    ]
    assert not anew["pairs"][2]["apart"]
    assert anew["sentence"] == "For models trained anew, 2 of 3 pairs of methods can be told apart (net has three)."


@pytest.mark.parametrize("higher", [True, False])
def test_the_better_method_of_a_pair_of_models_trained_anew_comes_first(higher: bool) -> None:
    """Whatever the order in which a plan names the methods: the page heads the columns `better` and `than`."""
    random = np.random.default_rng(2)
    parts = [rows(CHANCE, None, np.full(40, 0.1)), rows(ORACLE, None, np.ones(40))]
    for seed in range(3):
        for name, level in (("cnn", 0.5), ("both", 0.8)):
            parts.append(rows(name, f"net-seed{seed}-d", level + 0.05 * random.random(40)))
    (board,) = boards(pa.concat_tables(parts), {"iou": MetricKind(higher_is_better=higher)}, NAMED, {"centre"}, seed=0)
    (pair,) = board["metrics"]["iou"]["trained_anew"]["pairs"]
    assert (pair["a"], pair["b"]) == (("both", "cnn") if higher else ("cnn", "both"))
    assert pair["low"] < pair["difference"] < pair["high"]
    assert (pair["difference"] > 0) == higher
