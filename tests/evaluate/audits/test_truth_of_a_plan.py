"""A plan says which truth of a data set with a suppressor maps are scored against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.results.arrays import read_arrays
from an8flower.evaluate.scoring.truth_by_use import mark_use
from an8flower.store import FlowerStore

PLAN: dict[str, Any] = {
    "name": "by-use",
    "data": [{"spec": "suppressor-4c", "rows": 80, "size": 24}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["center", "gradient"],
    "metrics": ["relevance_mass", "iou_best"],
    "certificate": None,
    "sanity": None,
}


@pytest.mark.slow
def test_an_audit_is_held_against_the_truth_of_its_plan(tmp_path: Path) -> None:
    """Both truths in one folder: no cell of the one is taken for the other, and pictures show the mask that counts."""
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    folder, chances = tmp_path / "runs", {}
    for truth in ("association", "use"):
        outcome = audit(plans.from_mapping(PLAN | {"truth": truth}, "x"), folder, how)
        assert not outcome.failed
        (study,) = outcome.summary["studies"]
        assert study["scores"].get("truth", "association") == truth
        assert outcome.summary["plan"]["truth"] == truth
        store = FlowerStore(study["dataset"]["path"])
        rows = store["test"].rows(0, len(store["test"]))
        masks = rows.masks if truth == "association" else mark_use(store, rows)
        for entry in study["pictures"]:
            arrays = read_arrays(folder / entry["file"])
            assert arrays is not None
            np.testing.assert_array_equal(arrays["masks"], masks[arrays["rows"]])
        (center,) = (result for result in study["scores"]["results"] if result["method"] == "center")
        chances[truth] = center["metrics"]["relevance_mass"]["chance"]
        assert rows.void is not None
        counted = [m[~v].mean() for m, v in zip(masks > 0, rows.void, strict=True)]
        assert chances[truth] == pytest.approx(np.mean(counted), abs=1e-6)
        assert ("truth by use" in outcome.page.read_text(encoding="utf-8")) == (truth == "use")
    assert chances["use"] > 2 * chances["association"]
    with pytest.raises(Refusal, match=r"another truth of suppressor-4c \(use, and not association\)"):
        audit(plans.from_mapping(PLAN, "x"), tmp_path / "other", how, against=folder)


def test_a_truth_by_use_wants_a_suppressor(tmp_path: Path) -> None:
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    changed = PLAN | {"truth": "use", "data": [{"spec": "single-6c", "rows": 60, "size": 24}]}
    with pytest.raises(Refusal, match="has no suppressor"):
        audit(plans.from_mapping(changed, "x"), tmp_path / "runs", how)
    with pytest.raises(Refusal, match="truth"):
        plans.from_mapping(PLAN | {"truth": "both"}, "x")
