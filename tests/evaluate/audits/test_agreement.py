"""The stage that asks whether maps agree where models do: what is compared with what, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.audits.stages.agreement import (
    NO_ROW,
    OTHER_PIXELS,
    TOO_FEW,
    across_nuisance,
    between_seeds,
    draw_seeds,
    list_entries,
)
from an8flower.evaluate.results.summary_schema import summary_schema

ROWS, SIDE = 12, 8
MODELS = ("net-seed0-a", "net-seed1-b", "net-seed2-c")

PLAN: dict[str, Any] = {
    "name": "agreeing",
    "data": [{"spec": "single-6c", "rows": 60, "size": 24}],
    "models": [{"arch": "flowernet", "epochs": 1, "seeds": [0, 1]}],
    "methods": ["gradient", "random"],
    "metrics": ["pointing"],
    "rows": 6,
    "certificate": {"rows": 6},
    "pictures": None,
    "agreement": {"rows": 6},
}


def arrays(maps: np.ndarray, again: np.ndarray | None = None, right: bool = True, stays: bool = True) -> dict[str, Any]:
    """What a cell files of a method on a model."""
    return {
        "maps": maps,
        "again": maps if again is None else again,
        "counts": np.full(len(maps), 9),
        "right": np.full(len(maps), right),
        "stays": np.full(len(maps), stays),
    }


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, SIDE, SIDE))


def test_only_models_that_rely_are_compared() -> None:
    """The third model has other maps, and reads something else."""
    models = {name: arrays(noise(0)) for name in MODELS[:2]} | {MODELS[2]: arrays(noise(1))}
    entry = between_seeds(models, {*MODELS[:2]}, seed=0)
    assert (entry["outcome"], entry["models"], entry["reason"]) == ("stable", [*MODELS[:2]], None)
    assert between_seeds(models, {*MODELS}, seed=0)["outcome"] != "stable"
    for relying in (set(), {MODELS[0]}):
        entry = between_seeds(models, relying, seed=0)
        assert (entry["outcome"], entry["reason"]) == ("unknown", TOO_FEW)


def test_rows_that_a_model_gets_wrong_do_not_count() -> None:
    models = {MODELS[0]: arrays(noise(0)), MODELS[1]: arrays(noise(0), right=False)}
    entry = between_seeds(models, {*MODELS}, seed=0)
    assert (entry["outcome"], entry["reason"]) == ("unknown", NO_ROW)


def test_maps_of_the_same_scene_are_compared_on_each_model() -> None:
    steady = {name: arrays(noise(place), noise(place)) for place, name in enumerate(MODELS)}
    assert across_nuisance(steady, seed=0)["outcome"] == "stable"
    shaken = {name: arrays(noise(place), noise(place + 9)) for place, name in enumerate(MODELS)}
    assert across_nuisance(shaken, seed=0)["outcome"] == "unstable"
    moved = {name: arrays(noise(place), stays=False) for place, name in enumerate(MODELS)}
    assert across_nuisance(moved, seed=0)["reason"] == NO_ROW


def test_a_method_is_not_blamed_where_the_models_use_other_pixels() -> None:
    """By the effect maps of the models, which stand first and without the name of a method."""
    relying = {*MODELS[:2]}
    unstable = {name: arrays(noise(place)) for place, name in enumerate(MODELS[:2])}
    agreeing = {name: arrays(noise(5)) for name in MODELS[:2]}
    by_method = {("", "net"): agreeing, ("gradient", "net"): unstable}
    own, seeds, nuisance = list_entries(by_method, relying, seed=0)
    assert (own["method"], own["outcome"]) == (None, "stable")
    assert (seeds["method"], seeds["kind"], seeds["outcome"]) == ("gradient", "seeds", "unstable")
    assert (nuisance["kind"], nuisance["outcome"]) == ("nuisance", "stable")
    own, seeds, nuisance = list_entries({**by_method, ("", "net"): unstable}, relying, seed=0)
    assert own["outcome"] == "unstable"
    assert (seeds["outcome"], seeds["reason"]) == ("unknown", OTHER_PIXELS)
    assert seeds["rank"]["mean"] is not None  # the number stands, and says nothing of the method
    assert nuisance["outcome"] == "stable"
    _, seeds, _ = list_entries({("gradient", "net"): unstable}, relying, seed=0)
    assert seeds["reason"] == OTHER_PIXELS


def test_luck_is_another_for_each_model_and_turn() -> None:
    seeds = [draw_seeds(digest, turn, np.arange(3)).tolist() for digest in "ab" for turn in range(2)]
    assert len({seed for some in seeds for seed in some}) == 12


@pytest.mark.slow
def test_an_audit_says_how_far_maps_agree(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    outcome = audit(plans.from_mapping(PLAN, "agreeing"), tmp_path / "runs" / "agreeing", how)
    assert not outcome.failed
    (study,) = outcome.summary["studies"]
    kinds = [(entry["method"], entry["kind"]) for entry in study["agreement"]]
    methods = [(method, kind) for method in ("gradient", "random") for kind in ("seeds", "nuisance")]
    assert kinds == [(None, "seeds"), *methods]
    by_kind = dict(zip(kinds, study["agreement"], strict=True))
    assert by_kind["gradient", "seeds"]["reason"] == TOO_FEW  # models of one epoch rely on nothing
    assert by_kind["random", "nuisance"]["outcome"] in ("unstable", "unknown")
    jsonschema.Draft202012Validator(summary_schema()).validate(outcome.summary)
    text = outcome.page.read_text()
    assert "Do maps agree where models do?" in text
    assert TOO_FEW in text
    again = audit(plans.from_mapping(PLAN, "agreeing"), outcome.folder, how)
    assert again.done == 0
