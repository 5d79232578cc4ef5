"""The leading metrics: as the plan names them, by default two, and never one that is not scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import audit
from an8flower.evaluate.scoring.leading import DEFAULT, check_leading, choose_leading

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("leading", "names", "chosen"),
    [
        ((), ["iou", "counterfactual_deletion", "iou_area"], list(DEFAULT)),
        ((), ["iou", "counterfactual_deletion:steps=7"], ["counterfactual_deletion:steps=7"]),
        ((), ["pointing", "iou"], ["pointing"]),
        (("iou",), ["average_precision", "iou"], ["iou"]),
        (("iou", "auroc"), ["auroc"], ["auroc"]),  # one that needs what the data lack
        (("iou",), ["auroc"], ["auroc"]),
        (("iou",), [], []),
    ],
)
def test_the_leading_metrics_have_scores(leading: tuple[str, ...], names: list[str], chosen: list[str]) -> None:
    assert choose_leading(leading, names) == chosen


def test_a_leading_metric_has_to_be_scored() -> None:
    check_leading(["auroc", "deletion:steps=5"], ["usual", "deletion:steps=5"])
    with pytest.raises(
        Refusal, match='^leading: unknown metric "iuo"; did you mean "iou"\\?; a leading metric has to be'
    ):
        check_leading(["iuo"], ["usual"])
    with pytest.raises(Refusal, match='leading: unknown metric "deletion"; did you mean "deletion:steps=5"'):
        check_leading(["deletion"], ["deletion:steps=5"])


def test_an_audit_that_leads_with_another_metric_does_not_begin(tmp_path: Path) -> None:
    plan = plans.load("quick").with_changes(leading=["sm:factor=2"])
    with pytest.raises(Refusal, match="leading: unknown metric"):
        audit(plan, tmp_path / "run")
    assert not list(tmp_path.rglob("*.h5"))


def test_other_metrics_on_the_command_line_have_their_own_leading_ones() -> None:
    quick = plans.load("quick")
    assert quick.leading == DEFAULT
    assert quick.instead(metrics=["iou"]).leading == ()
    assert quick.instead(rows=5).leading == DEFAULT
    assert plans.load("vebi-iou").leading == ("iou",)


def test_the_default_is_what_the_criterion_chooses() -> None:
    """Applied here a second time to what was measured: what sees the truth, beats controls, and reads order alone."""
    document = json.loads((ROOT / "benchmarks" / "results" / "metric_table.json").read_text(encoding="utf-8"))
    blind = ("center", "mean training mask", "mask of another row", "edges", "bump", "smooth noise", "noise")
    margins = {}
    for row in document["rows"]:
        if None in (row["truth"], row["tau"]) or row["family"] == "effect":
            continue
        worst = min(row["truth"], row["effect map"])
        best = max(row[name] for name in (*blind, "constant but a corner"))
        rescaled = [row[f"effect map, {name}"] - row["effect map"] for name in ("square", "square root", "rank")]
        kept = row["tau"] >= 0.99 and max(map(abs, rescaled)) <= 0.01
        if worst >= 0.9 and worst - best >= 0.1 and kept and row["constant but a corner"] <= 0.05:
            margins[row["metric"]] = (row["family"], row["effect map"] - best)
    leads = [
        max((name for name, (of, _) in margins.items() if of == family), key=lambda name: margins[name][1])
        for family in ("localisation", "intervention")
    ]
    assert leads == list(DEFAULT) == [document["about"][f"leads ({question})"] for question in ("evidence", "use")]
