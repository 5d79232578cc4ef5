"""Skill and the share of a score that is about the picture: against a slow second version, and where undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import bootstrap

from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.skill import NO_CONTROL, NO_OTHERS, NO_ROOM
from an8flower.evaluate.results.statistics.scores import OTHER_ROWS
from an8flower.evaluate.results.summary import CHANCE, ORACLE, MetricKind, summarise

ROWS = 80
BLIND = {"mean": "mean_mask", "middle": "center"}


def rows(explainer: str, values: np.ndarray, model: str | None = "net-seed0-d") -> pa.Table:
    about = {"label": 0, "model": model, "explainer": explainer, "metric": "m", "seconds": 0.5}
    known = ({} if np.isnan(value) else {"value": value} for value in values.tolist())
    return pa.Table.from_pylist([{"row": i, **about, **value} for i, value in enumerate(known)], SCHEMA)


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """A hard row is hard for all of them."""
    random = np.random.default_rng(0)
    ease = random.random(ROWS)
    levels = {"method": 0.6, "mean": 0.4, "middle": 0.3, f"{OTHER_ROWS}method": 0.35, CHANCE: 0.1}
    values = {name: level + 0.2 * ease + 0.05 * random.random(ROWS) for name, level in levels.items()}
    return {name: table.astype(np.float32).astype(float) for name, table in values.items()} | {ORACLE: np.ones(ROWS)}


def of_method(drawn: dict[str, np.ndarray], blind: dict[str, str] | None = None, better: bool = True) -> dict[str, Any]:
    table = pa.concat_tables(
        rows(name, values, None if name in (CHANCE, ORACLE) else "net-seed0-d") for name, values in drawn.items()
    )
    entries = summarise(table, {"m": MetricKind(higher_is_better=better)}, 0, BLIND if blind is None else blind)
    return next(entry["metrics"]["m"] for entry in entries if entry["explainer"] == "method")


def test_skill_is_the_way_from_the_best_control_to_the_truth(drawn: dict[str, np.ndarray]) -> None:
    numbers = of_method(drawn)
    method, mean = drawn["method"], drawn["mean"]
    assert numbers["skill"] == pytest.approx((method.mean() - mean.mean()) / (1 - mean.mean()))
    assert numbers["skill_control"] == "mean_mask"
    slow = bootstrap(
        (method, mean),
        lambda m, c, axis=-1: (m.mean(axis) - c.mean(axis)) / (1 - c.mean(axis)),
        paired=True,
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    width = slow.high - slow.low
    assert numbers["skill_low"] == pytest.approx(slow.low, abs=0.1 * width)
    assert numbers["skill_high"] == pytest.approx(slow.high, abs=0.1 * width)


def test_a_method_that_is_the_control_has_no_skill_wherever_the_control_has_gaps(drawn: dict[str, np.ndarray]) -> None:
    """The control lacks half of the rows of one model, on which the method is better than on the others."""
    values, gaps = drawn["mean"], np.where(np.arange(ROWS) < ROWS // 2, np.nan, drawn["mean"] + 0.3)
    first, second = "net-seed0-d", "net-seed1-d"
    table = pa.concat_tables(
        [
            *(rows("method", scores, model) for model, scores in ((first, values), (second, drawn["mean"] + 0.3))),
            *(rows("mean", scores, model) for model, scores in ((first, values), (second, gaps))),
            *(rows(name, drawn[name], None) for name in (CHANCE, ORACLE)),
        ]
    )
    entries = summarise(table, {"m": MetricKind()}, 0, BLIND)
    numbers = next(entry["metrics"]["m"] for entry in entries if entry["explainer"] == "method")
    assert numbers["skill"] == pytest.approx(0, abs=1e-12)


def test_of_this_picture_is_what_the_maps_of_other_rows_lack(drawn: dict[str, np.ndarray]) -> None:
    numbers = of_method(drawn)
    method, others, chance = drawn["method"], drawn[f"{OTHER_ROWS}method"], drawn[CHANCE]
    span = 1 - chance.mean()
    assert numbers["of_this_picture"] == pytest.approx(numbers["calibrated"] - (others - chance).mean() / span)
    slow = bootstrap(
        (method, others, chance),
        lambda m, o, c, axis=-1: (m.mean(axis) - o.mean(axis)) / (1 - c.mean(axis)),
        paired=True,
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    width = slow.high - slow.low
    assert numbers["of_this_picture_low"] == pytest.approx(slow.low, abs=0.1 * width)
    assert numbers["of_this_picture_high"] == pytest.approx(slow.high, abs=0.1 * width)


def test_lower_may_be_better(drawn: dict[str, np.ndarray]) -> None:
    """The same scores upside down have the same skill, by the same control."""
    numbers, turned = of_method(drawn), of_method({name: 1 - values for name, values in drawn.items()}, better=False)
    for key in ("skill", "of_this_picture"):
        assert turned[key] == pytest.approx(numbers[key], abs=1e-6)
    assert turned["skill_control"] == "mean_mask"


def test_without_a_control_or_other_maps_the_reason_is_given(drawn: dict[str, np.ndarray]) -> None:
    numbers = of_method(drawn, blind={})
    assert (numbers["skill"], numbers["skill_reason"]) == (None, NO_CONTROL)
    alone = of_method({name: values for name, values in drawn.items() if not name.startswith(OTHER_ROWS)})
    assert (alone["of_this_picture"], alone["of_this_picture_reason"]) == (None, NO_OTHERS)
    assert "skill_reason" not in alone


def test_a_control_that_beats_the_truth_leaves_no_room(drawn: dict[str, np.ndarray]) -> None:
    numbers = of_method(drawn | {"mean": np.full(ROWS, 1.5)})
    assert (numbers["skill"], numbers["skill_control"], numbers["skill_reason"]) == (None, "mean_mask", NO_ROOM)


def test_a_control_counts_only_where_it_ran_on_all_models(drawn: dict[str, np.ndarray]) -> None:
    parts = [rows(name, values, None) for name, values in drawn.items() if name in (CHANCE, ORACLE)]
    parts += [
        rows(name, drawn["method"], model) for name in ("method", "middle") for model in ("a-seed0-d", "b-seed0-d")
    ]
    parts.append(rows("mean", drawn["mean"], "a-seed0-d"))
    entries = summarise(pa.concat_tables(parts), {"m": MetricKind()}, 0, BLIND)
    assert {entry["metrics"]["m"]["skill_control"] for entry in entries} == {"center"}


def test_rows_without_a_value_are_left_out_on_both_sides(drawn: dict[str, np.ndarray]) -> None:
    method = drawn["method"].copy()
    method[:30] = np.nan
    numbers = of_method(drawn | {"method": method})
    control = drawn["mean"][30:].mean()
    assert numbers["skill"] == pytest.approx((method[30:].mean() - control) / (1 - control))
