"""Tuning in an audit: a tuned method is a further method in every table, and its gain is that of the scores."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.audits.tuning import check_tuning
from an8flower.evaluate.report.tuned import draw_trials
from an8flower.evaluate.results.summary_schema import summary_schema

PLAN: dict[str, Any] = {
    "name": "tuned",
    "data": [{"spec": "single-6c", "rows": 120, "size": 32}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["random", {"method": "layercam", "tune": True}, {"method": "edges", "tune": True}],
    "metrics": ["iou_area", "pointing"],
    "rows": 12,
    "certificate": None,
    "pictures": None,
    "tune": {"trials": 8, "rows": 6},
}


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> How:
    return How(engine="inline", device="cpu", data_folder=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def outcome(how: How, tmp_path_factory: pytest.TempPathFactory) -> AuditOutcome:
    """A small audit with one method that can be tuned, and one that cannot."""
    return audit(plans.from_mapping(PLAN, "tuned"), tmp_path_factory.mktemp("runs") / "tuned", how)


def test_a_tuned_method_is_a_further_method(outcome: AuditOutcome) -> None:
    """Eight combinations of layer and gamma are one grid; the best of them has a line in every table."""
    assert not outcome.failed
    (study,) = outcome.summary["studies"]
    layercam, edges = study["tuned"]
    assert layercam["search"] | {"space": None} == {"by": "grid", "split": "val", "rows": 6, "space": None}
    assert len(layercam["trials"]) == 8
    best = max(trial["calibrated"] for trial in layercam["trials"])
    assert layercam["chosen"]["calibrated"] == best == layercam["trials"][-1]["best"]
    texts = [result["text"] for result in study["scores"]["results"]]
    assert texts == list(dict.fromkeys(["random", "layercam", "edges", layercam["tuned"]]))
    assert "edges has no parameter that leaves a choice here" in edges["reason"]
    jsonschema.Draft202012Validator(summary_schema()).validate(outcome.summary)


def test_the_gain_is_the_difference_of_the_calibrated_scores(outcome: AuditOutcome) -> None:
    (study,) = outcome.summary["studies"]
    (layercam, _) = study["tuned"]
    by_text = {result["text"]: result["metrics"]["iou_area"] for result in study["scores"]["results"]}
    difference = by_text[layercam["tuned"]]["calibrated"] - by_text["layercam"]["calibrated"]
    assert layercam["gain"]["calibrated"] == pytest.approx(difference, abs=1e-6)
    assert layercam["gain"]["n"] == 12


def test_the_page_shows_it(outcome: AuditOutcome) -> None:
    (study,) = outcome.summary["studies"]
    text = outcome.page.read_text()
    assert "What does tuning gain?" in text
    assert "The search for layercam" in text
    assert "Not tuned. edges: edges has no parameter that leaves a choice here" in text
    drawing = draw_trials("tuned-1", study["tuned"][0])
    assert len(drawing.table.rows) == 8
    assert 'data-series="1"' in drawing.svg


def test_what_is_done_is_not_done_again(outcome: AuditOutcome, how: How) -> None:
    again = audit(plans.from_mapping(PLAN, "tuned"), outcome.folder, how)
    assert again.done == 0
    chosen = [study["tuned"][0] for done in (outcome, again) for study in done.summary["studies"]]
    assert chosen[0] == chosen[1]


def test_what_cannot_be_planned_is_one_sentence() -> None:
    def plan(**changes: Any) -> plans.Plan:
        return plans.from_mapping({**PLAN, **changes}, "tuned")

    check_tuning(plan())
    assert plan().tune.methods == ("layercam", "edges")  # type: ignore[attr-defined]
    with pytest.raises(Refusal, match="tune: the plan scores val rows, by which tuning chooses"):
        check_tuning(plan(split="val"))
    with pytest.raises(Refusal, match="tune: metric iou is not scored; name it among `metrics`"):
        check_tuning(plan(tune={"metric": "iou"}))
    with pytest.raises(Refusal, match=r"methods: \{'name': 'cam'\}; expected a text, or \{ method = \"NAME\", tune"):
        plan(methods=[{"name": "cam"}])
