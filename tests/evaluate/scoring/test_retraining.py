"""Remove and retrain: what is removed, that nothing removed is the training itself, and that evidence is missed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from an8flower import spec as specs
from an8flower.errors import NotApplicable
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.data.batches import Batch, split_tensors
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.evaluate.scoring import retraining
from an8flower.evaluate.scoring.judge import Judge
from an8flower.evaluate.scoring.retraining import (
    check_retrainable,
    mean_colour,
    measure_roar,
    rank_pixels,
    remove,
    retrain,
)
from an8flower.generate import generate
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def classifier(store: FlowerStore) -> Classifier:
    return build("flowernet", store.class_names, store.size, seed=2).eval()


@pytest.fixture(scope="module")
def judge(store: FlowerStore) -> Judge:
    return Judge(store["test"], "label", 0, (), Resources(torch.device("cpu"), batch=16))


def even_ranks(store: FlowerStore) -> dict[str, torch.Tensor]:
    """The same order for every image: line by line."""
    pixels = torch.arange(store.size**2).view(1, store.size, store.size)
    return {split: pixels.expand(len(store[split]), -1, -1) for split in SPLITS}


def test_with_nothing_removed_it_is_the_training_itself(store: FlowerStore, classifier: Classifier) -> None:
    right = retrain(store, classifier, even_ranks(store), 0.0, 1)
    assert right == round(train(store, "flowernet", epochs=1, seed=2).accuracy * len(store["test"]))


def test_the_pixels_of_the_largest_values_get_one_colour() -> None:
    source = torch.Generator().manual_seed(1)
    images = torch.randint(256, (3, 3, 5, 4), generator=source).to(torch.uint8)
    ranks = torch.stack([torch.randperm(20, generator=source).view(5, 4) for _ in range(3)])
    rows = Batch(images, torch.arange(3), torch.zeros(3, 5, 4, dtype=torch.uint8))
    colour = torch.tensor([9, 8, 7], dtype=torch.uint8)
    changed = remove(rows, ranks, 0.37, colour).images  # 7.4 pixels
    for row in range(3):
        for down in range(5):
            for right in range(4):
                expected = colour if ranks[row, down, right] < 7 else images[row, :, down, right]
                assert torch.equal(changed[row, :, down, right], expected)
    assert torch.equal(remove(rows, ranks, 0.0, colour).images, images)
    assert mean_colour(rows).tolist() == np.rint(images.double().mean((0, 2, 3)).numpy()).tolist()


def test_ranks_are_those_of_the_maps_of_each_split(
    store: FlowerStore, judge: Judge, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "AT_ONCE", 10)
    of_split = replace(judge, split=store["val"])
    method = parse_method("intensity")
    ranks = rank_pixels(of_split, classifier, method)
    assert len(ranks) == len(store["val"])
    for row, one in enumerate(ranks):
        case = of_split.case(classifier, np.array([row]), store["val"].labels[row : row + 1])
        values = judge.explain(classifier, method, case.query)[0].flatten()
        assert (values[one.flatten().argsort()].diff() <= 0).all()


def test_points_and_intervals(judge: Judge, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wilson's interval, typed anew."""
    counts = iter([6, 0])
    monkeypatch.setattr(retraining, "retrain", lambda *_: next(counts))
    document: Any = measure_roar(judge, classifier, parse_method("edges"), (0.1, 0.5), 1)
    rows, z = document["rows"], norm.ppf(0.975)
    assert rows == len(judge.split)
    assert document["mean"] == pytest.approx(3 / rows)
    first, second = document["points"]
    p, middle = 6 / rows, (6 / rows + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(p * (1 - p) / rows + z**2 / (4 * rows**2))
    assert (first["share"], first["accuracy"]) == (0.1, pytest.approx(p))
    assert (first["low"], first["high"]) == pytest.approx((middle - half, middle + half))
    assert (second["accuracy"], second["low"]) == (0, pytest.approx(0, abs=1e-12))


def test_what_has_no_name_cannot_be_trained_anew(store: FlowerStore, classifier: Classifier) -> None:
    own = wrap(classifier.network, store.class_names, store.size, classifier.target_layer)
    with pytest.raises(NotApplicable, match="no architecture by name"):
        check_retrainable(own, parse_method("edges"), store)
    check_retrainable(classifier, parse_method("edges"), store)


def order_masks(masks: torch.Tensor, sign: int) -> torch.Tensor:
    """Ranks (N, H, W) of the pixels: the evidence first where the sign is 1, and last where it is -1."""
    values = sign * (masks > 0).float().flatten(1)
    return (-values).argsort(dim=1, stable=True).argsort(dim=1).view_as(masks)


@pytest.mark.slow
def test_evidence_is_missed_and_the_rest_is_not(tmp_path: Path) -> None:
    generate(specs.load("single-6c").with_changes(rows=900, size=42), tmp_path / "f.h5", workers=1)
    store = FlowerStore(tmp_path / "f.h5")
    classifier = build("flowernet", store.class_names, store.size, seed=0).eval()
    masks = {split: split_tensors(store[split]).masks for split in SPLITS}
    orders = {sign: {split: order_masks(mask, sign) for split, mask in masks.items()} for sign in (1, -1)}
    share = max(float((mask > 0).flatten(1).float().mean(1).max()) for mask in masks.values()) + 0.01
    without, with_it = (retrain(store, classifier, orders[sign], share, 8) / len(store["test"]) for sign in (1, -1))
    assert without < 0.5 < with_it


@pytest.mark.slow
def test_an_audit_trains_anew(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    plan = {
        "name": "anew",
        "data": [{"spec": "single-6c", "rows": 60, "size": 24}],
        "models": [{"arch": "flowernet", "epochs": 1}],
        "methods": ["edges", "random"],
        "metrics": ["iou"],
        "rows": 6,
        "certificate": None,
        "pictures": None,
        "roar": {"shares": [0.3, 0.6], "epochs": 1},
    }
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    outcome = audit(plans.from_mapping(plan, "anew"), tmp_path / "runs" / "anew", how)
    assert not outcome.failed
    (study,) = outcome.summary["studies"]
    assert [entry["method"] for entry in study["roar"]] == ["edges", "random"]
    assert [point["share"] for point in study["roar"][0]["points"]] == [0.3, 0.6]
    jsonschema.Draft202012Validator(summary_schema()).validate(outcome.summary)
    assert "What is learnt without these pixels?" in outcome.page.read_text()
    again = audit(plans.from_mapping(plan, "anew"), outcome.folder, how)
    assert again.done == 0
