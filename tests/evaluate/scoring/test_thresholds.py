"""The threshold of important parts is chosen once for a method and a model, and filed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from an8flower import spec as specs
from an8flower.evaluate.data.world import World
from an8flower.evaluate.explaining.methods import Method, parse_method
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.summary import CHANCE, ORACLE
from an8flower.evaluate.scoring.judge import Judge
from an8flower.evaluate.scoring.thresholds import method_thresholds, reference_thresholds
from an8flower.generate import generate
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("thresholds") / "f.h5"
    generate(specs.load("single-6c").with_changes(rows=120, size=28), path, workers=1)
    return FlowerStore(path)


@pytest.fixture
def judge(store: FlowerStore, tmp_path: Path) -> Judge:
    world = replace(World.of(store["val"], torch.device("cpu")), folder=tmp_path)
    metrics = (parse_metric("deletion_check"),)
    return Judge(store["val"], "label", 0, metrics, Resources(torch.device("cpu"), 32), world)


@pytest.fixture(scope="module")
def classifier(store: FlowerStore) -> Classifier:
    return build("flowernet", store.class_names, 28, seed=0).eval()


def choose(judge: Judge, classifier: Classifier, text: str) -> dict[str, float]:
    method = parse_method(text)
    thresholds = method_thresholds(judge, classifier, method, lambda: method)
    assert thresholds is not None
    return dict(thresholds)


def fail_to_get_ready() -> Method:
    pytest.fail("a filed threshold was chosen again")


def test_a_filed_threshold_is_taken_and_is_the_one_chosen(judge: Judge, classifier: Classifier) -> None:
    expected = choose(replace(judge, world=replace(judge.world, folder=None)), classifier, "edges")
    assert choose(judge, classifier, "edges") == expected
    assert method_thresholds(judge, classifier, parse_method("edges"), fail_to_get_ready) == expected


def test_another_method_another_seed_and_other_weights_choose_their_own(judge: Judge, classifier: Classifier) -> None:
    choose(judge, classifier, "edges")
    other = build("flowernet", judge.split.store.class_names, 28, seed=1).eval()
    for changed in (
        (judge, classifier, "center"),
        (replace(judge, seed=1), classifier, "edges"),
        (judge, other, "edges"),
    ):
        before = len([*judge.world.folder.glob("thresholds-*")])
        choose(*changed)
        assert len([*judge.world.folder.glob("thresholds-*")]) == before + 1


def test_a_damaged_file_is_made_anew(judge: Judge, classifier: Classifier) -> None:
    expected = choose(judge, classifier, "edges")
    (place,) = judge.world.folder.glob("thresholds-*")
    place.write_text(place.read_text().replace("excess", "access"))
    assert choose(judge, classifier, "edges") == expected


def test_truth_and_chance_are_filed_as_well(judge: Judge, classifier: Classifier) -> None:
    first = reference_thresholds(judge, classifier)
    assert first.keys() == {ORACLE, CHANCE}
    assert reference_thresholds(judge, classifier) == first
    assert len([*judge.world.folder.glob("thresholds-*")]) == 2
