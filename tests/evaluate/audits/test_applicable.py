"""Which methods apply to a network: what runs, what does not in the words of `score`, what it costs, what it scored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evaluate import score
from an8flower.evaluate.audits.applicable import TriedModel, try_all
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.applicability import NO_ROWS, Pictures, choose_pictures, try_method
from an8flower.evaluate.explaining.contract_networks import build_in_place, build_vit
from an8flower.evaluate.explaining.methods import Method, parse_method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.sources import Source
from an8flower.evaluate.results.audited import scores_of_model
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def model(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier for the small data set."""
    store = FlowerStore(small_file)
    path = tmp_path_factory.mktemp("models") / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return path


def test_reasons_are_those_of_score(small_file: Path, model: Path, tmp_path: Path) -> None:
    """What `score` skips does not apply, with the same sentence; what it scores runs."""
    texts = ["rollout", "legrad", "ca_attention", "gradcam", "mean_mask"]
    scored = score(data=small_file, models=model, methods=texts, metrics="iou", rows=6, output=tmp_path, device="cpu")
    skipped = {entry["method"]: entry["reason"] for entry in scored.document["skipped"]}
    tried = TriedModel(Source(str(model)), small_file, 2, "cpu")
    classifier, pictures = tried.open()
    for text in texts:
        result = try_method(parse_method(text), classifier, pictures, str(model))
        assert (result.status, result.reason) == (
            ("does not apply", skipped[text]) if text in skipped else ("runs", "")
        )
    assert {"rollout", "legrad", "ca_attention"} == skipped.keys()


def test_the_cost_is_that_of_a_map(small_file: Path, model: Path) -> None:
    """Passes per image are those of the methods' formulas, whatever the number of pictures."""
    for rows in (1, 5):
        classifier, pictures = TriedModel(Source(str(model)), small_file, rows, "cpu").open()
        assert len(pictures.query.images) == rows
        costs = {text: try_method(parse_method(text), classifier, pictures, str(model)) for text in PASSES}
        assert {text: (cost.forwards, cost.backwards) for text, cost in costs.items()} == PASSES
        assert all(cost.seconds is not None and cost.seconds >= 0 for cost in costs.values())


PASSES = {"random": (0, 0), "gradient": (1, 1), "smoothgrad:samples=7": (7, 7), "rise:masks=30": (30, 0)}


@dataclass(frozen=True)
class Stumbling:
    """An explainer that leaves the model changed, or raises an error."""

    leaves: bool = True

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        if not self.leaves:
            raise ValueError("what a pity")
        classifier.train()
        return query.images.mean(1)


def test_what_fails_says_why_and_leaves_the_model_as_it_was() -> None:
    classifier = build_in_place().eval()
    digest = classifier.digest
    pictures = choose_pictures(classifier, None, 2)
    broken = try_method(Method("mine", "mine", Stumbling(False)), classifier, pictures, "mine")
    assert (broken.status, broken.reason) == ("fails", "ValueError: what a pity")
    changing = try_method(Method("mine", "mine", Stumbling()), classifier, pictures, "mine")
    assert changing.status == "fails"
    assert "changed" in changing.reason
    assert not classifier.training
    assert classifier.digest == digest


def test_without_data_pictures_are_noise_and_learning_is_not_tried() -> None:
    classifier = build_vit().eval()
    pictures = choose_pictures(classifier, None, 3)
    assert torch.equal(pictures.query.images, choose_pictures(classifier, None, 3).query.images)
    learns = try_method(parse_method("mean_mask"), classifier, Pictures(pictures.query), "vit")
    assert (learns.status, learns.reason, learns.seconds) == ("not tried", NO_ROWS, None)
    assert try_method(parse_method("rollout"), classifier, pictures, "vit").status == "runs"


def test_rows_come_from_validation(small_file: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    real = FlowerStore.__getitem__
    monkeypatch.setattr(FlowerStore, "__getitem__", lambda self, name: (names.append(name), real(self, name))[1])
    _, results = try_all("family:baselines", TriedModel(Source(str(model)), small_file, 2, "cpu"), None)
    assert {result.status for result in results} == {"runs"}
    assert set(names) == {"val", "train"}  # mean_mask learns from training masks


def summary_of(*boards: dict[str, Any]) -> dict[str, Any]:
    results = [{"text": text, "method": text.partition(":")[0]} for text in ("cam", "gradcam", "rise:masks=9")]
    scores = {"boards": list(boards), "leading": ["iou_area"], "results": results}
    return {"name": "mine", "studies": [{"dataset": {"name": "six"}, "scores": scores}]}


def board_of(models: list[str], value: float) -> dict[str, Any]:
    numbers = {"calibrated": value, "calibrated_low": value - 0.1, "calibrated_high": value + 0.1}
    results = {"cam": numbers, "rise:masks=9": numbers}
    return {
        "models": models,
        "architectures": {"net": len(models)},
        "methods": [{"text": "cam", "equal": ["gradcam"]}, {"text": "rise:masks=9", "equal": []}],
        "metrics": {"iou_area": {"results": results}},
    }


def test_scores_are_those_of_the_smallest_board_of_the_model() -> None:
    both = board_of(["net-seed0-aaaaaaaa", "other-seed0-bbbbbbbb"], 0.5)
    alone = board_of(["net-seed0-aaaaaaaa"], 0.7)
    scores = scores_of_model(summary_of(alone, both), "a" * 64)
    assert [(entry["method"], entry["text"], entry["calibrated"]) for entry in scores] == [
        ("cam", "cam", 0.7),
        ("gradcam", "gradcam", 0.7),  # its maps are the same
        ("rise", "rise:masks=9", 0.7),
    ]
    assert scores[0]["models"] == "one model of net"
    assert scores_of_model(summary_of(alone, both), "b" * 64)[0]["calibrated"] == 0.5
    with pytest.raises(Refusal, match="did not score a model with the digest cccccccc"):
        scores_of_model(summary_of(alone, both), "c" * 64)


def test_the_command(small_file: Path, model: Path) -> None:
    words = ["methods", "family:attention", "--model", str(model), "--data", str(small_file), "--rows", "1"]
    done = CliRunner().invoke(main, [*words, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["model"]["arch"] == "flowernet"
    statuses = {entry["method"]: entry["status"] for entry in document["methods"]}
    assert statuses["rollout"] == "does not apply"
    shown = CliRunner().invoke(main, ["methods", "gradcam", *words[2:], "--device", "cpu"])
    assert "1 runs, cheapest first" in shown.stdout
    assert "gradcam" in shown.stdout
    wrong = CliRunner().invoke(main, ["methods", "--audit", "runs"])
    assert wrong.exit_code == 2
    assert "--audit and --data go with --model" in wrong.output
