"""Metrics of somebody's own that go wrong: their values are missing with the reason, and no other number differs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from an8flower import spec as specs
from an8flower.errors import WrongUsage
from an8flower.evaluate import registry
from an8flower.evaluate.metrics.metric import Metric
from an8flower.evaluate.metrics.naming import find_metric, parse_metric, parse_metrics
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.streamlined import Streamlined
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.metric_contract import check_metric
from an8flower.evaluate.scoring.run import ScoringOutcome, ScoringPlan, score
from an8flower.generate import generate
from an8flower.store import FlowerStore

sys.path.insert(0, str(Path(__file__).parents[1] / "audits"))
import faulty_explainers as faulty

CPU = Resources(torch.device("cpu"), batch=8)
GOOD = ("iou", "pointing", "deletion:steps=4", "strange_good")
WRONG = [name for name, (reason, _) in faulty.SCORES.items() if reason]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ScoringPlan:
    folder = tmp_path_factory.mktemp("metrics")
    generate(specs.load("single-6c").with_changes(rows=80, size=32), folder / "flowers.h5", workers=1)
    store = FlowerStore(folder / "flowers.h5")
    build("flowernet", store.class_names, store.size, seed=0).save(folder / "net.safetensors")
    return ScoringPlan(store.path, (str(folder / "net.safetensors"),), ("gradcam", "random"), GOOD, rows=12)


@pytest.fixture(scope="module")
def undisturbed(plan: ScoringPlan, tmp_path_factory: pytest.TempPathFactory) -> ScoringOutcome:
    return score(plan, CPU, tmp_path_factory.mktemp("undisturbed"))


def numbers(outcome: ScoringOutcome) -> list[dict[str, Any]]:
    return [
        {name: values for name, values in entry["metrics"].items() if name in GOOD}
        for entry in outcome.document["results"]
    ]


def test_metrics_that_go_wrong_lose_no_other(plan: ScoringPlan, undisturbed: ScoringOutcome, tmp_path: Path) -> None:
    wrong = tuple(f"strange_{name}" for name in WRONG)
    outcome = score(replace(plan, metrics=(*wrong, "strange_everywhere", *GOOD)), CPU, tmp_path)
    assert numbers(outcome) == numbers(undisturbed)
    assert {name for entry in outcome.document["results"] for name in entry["metrics"]} == {*GOOD, "strange_everywhere"}
    reasons = [failure["reason"] for failure in outcome.document["failed"] if failure["method"] == "gradcam"]
    for name, reason in zip(WRONG, reasons, strict=True):
        assert reason.startswith(f"this metric failed: strange_{name}: ")
        assert faulty.SCORES[name][0] in reason
    assert torch.get_default_dtype() == torch.float32


def test_a_metric_that_failed_is_tried_again(
    plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(plan, metrics=("iou", "strange_broken"))
    assert score(asked, CPU, tmp_path).document["failed"]
    mended = replace(faulty.METRICS["broken"], score=faulty.average)
    monkeypatch.setitem(registry.metrics._entries, "strange_broken", registry.Entry("strange_broken", mended, {}))
    again = score(asked, CPU, tmp_path)
    assert not again.document["failed"]
    assert set(again.document["results"][0]["metrics"]) == {"iou", "strange_broken"}


def test_half_the_batch_where_memory_runs_out_in_a_metric(
    plan: ScoringPlan, undisturbed: ScoringOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network takes three images at once and no more; deletion and what else asks it have the values they had."""
    sizes: list[int] = []
    forward = Classifier.forward

    def narrow(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 3:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", narrow)
    monkeypatch.setattr(Streamlined, "__call__", lambda self, images: self.classifier(images))
    outcome = score(plan, CPU, tmp_path)
    assert not outcome.document["failed"]
    for entry, before in zip(outcome.document["results"], undisturbed.document["results"], strict=True):
        for name, values in before["metrics"].items():
            assert entry["metrics"][name]["mean"] == pytest.approx(values["mean"], abs=1e-6)
    assert {8, 4, 2} <= set(sizes)


def test_a_metric_is_filed_under_a_name_of_its_own() -> None:
    with pytest.raises(WrongUsage, match='is called "iou", as another metric is; give it a name of its own'):
        parse_metrics(["faulty_explainers:IMPOSTOR"])
    with pytest.raises(WrongUsage, match='is called "strange_unregistered" and not registered; call register_metric'):
        parse_metrics(["faulty_explainers:UNREGISTERED"])


@pytest.mark.parametrize("text", ["gradcam", "nobody", "faulty_explainers:Well", "captum:Occlusion", "nowhere:nothing"])
def test_what_is_no_metric_is_not_taken_for_one(text: str) -> None:
    assert find_metric(text) is None


COSTLY = {  # few shares of pixels, and few draws, show as much as many
    **dict.fromkeys(("road", "road_blurred"), "steps=1"),
    **dict.fromkeys(("deletion", "insertion"), "steps=8"),
    "infidelity": "samples=5",
}
OURS = [
    parse_metric(f"{metric.name}:{COSTLY[metric.name]}") if metric.name in COSTLY else metric
    for metric in parse_metrics(["family:localisation", "family:faithfulness"])
]


@pytest.mark.parametrize("metric", OURS, ids=lambda m: m.name)
def test_metrics_of_ours_keep_the_contract(metric: Metric) -> None:
    assert [verdict for verdict in check_metric(metric) if verdict.status == "FAILED"] == []


def batch_mean(maps: torch.Tensor, case: Any) -> torch.Tensor:
    return (maps - maps.mean()).mean((1, 2)).sigmoid()


def drawn(maps: torch.Tensor, case: Any) -> torch.Tensor:
    return torch.rand(len(maps))


def sorted_rows(maps: torch.Tensor, case: Any) -> torch.Tensor:
    return faulty.average(maps, case).sort().values


BROKEN = {
    "rows": [batch_mean, sorted_rows],
    "again": [drawn],
    "model": [drawn],
    "inputs": [faulty.write_everywhere],
    "scores": [faulty.infinite, faulty.broken],
}


@pytest.mark.parametrize(("check", "scorer"), [(check, scorer) for check, many in BROKEN.items() for scorer in many])
def test_the_contract_tells_what_a_metric_breaks(check: str, scorer: Any) -> None:
    metric = faulty.make_metric("mine", scorer)
    assert check in {verdict.check for verdict in check_metric(metric) if verdict.status == "FAILED"}


def test_the_contract_holds_a_card_to_its_word() -> None:
    metric = replace(faulty.make_metric("mine", faulty.average), undefined="the mask is empty")
    (verdict,) = [verdict for verdict in check_metric(metric) if verdict.status == "FAILED"]
    assert (verdict.check, "whose mask is empty" in verdict.reason) == ("undefined", True)


def test_a_metric_that_changes_the_model_is_told() -> None:
    verdicts = list(check_metric(faulty.METRICS["model"]))
    told = [verdict.reason for verdict in verdicts if (verdict.check, verdict.status) == ("model", "FAILED")]
    assert len(told) == 3
    assert "leaves the default dtype and weights or buffers of the model changed" in told[0]
    assert parse_metric("iou").name == "iou"
