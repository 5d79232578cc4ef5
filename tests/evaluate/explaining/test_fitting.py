"""Explainers that learn first: who is fitted, on what, when, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate import calls
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.fittable import Examples, Fittable, Fitted, Learnt
from an8flower.evaluate.explaining.contract_networks import NETWORKS
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.fitting import StoredExamples, TensorExamples, fit_once, prepare
from an8flower.evaluate.explaining.methods import Method, parse_methods
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring import run as scoring
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.store import FlowerStore

CPU = Resources(torch.device("cpu"), batch=7)


@dataclass(frozen=True)
class MeanPicture(Fittable):
    """Shows the mean training image; remembers how often it learnt."""

    rows: int = 10
    trouble: bool = False

    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        LEARNT.append(classifier.in_flight)
        if self.trouble:
            raise NotApplicable("mean pictures are not for this network; use none")
        images = torch.cat([images for images, _ in examples.take(self.rows, classifier.in_flight)])
        return {"mean": images.mean((0, 1))}

    def explain(self, classifier: Classifier, query: Query, learnt: Learnt) -> Tensor:
        return learnt["mean"].expand_as(query.images[:, 0]).contiguous()


LEARNT: list[int] = []


@pytest.fixture(autouse=True)
def learnt() -> list[int]:
    """How many images were in flight, each time that something was learnt."""
    LEARNT.clear()
    return LEARNT


@pytest.fixture
def classifier() -> Classifier:
    return NETWORKS["in-place"]().train()


@pytest.fixture
def examples() -> TensorExamples:
    return TensorExamples(torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4)


def plain(classifier: Classifier, query: Query) -> Tensor:
    return query.images[:, 0]


def test_who_needs_no_fit_stays_as_it_is(classifier: Classifier, examples: TensorExamples) -> None:
    assert prepare(plain, classifier, examples) is plain
    assert fit_once(plain, classifier, examples, "none") is plain


def test_fitted_it_explains_under_the_same_name(
    classifier: Classifier, examples: TensorExamples, learnt: list[int]
) -> None:
    query = Query(examples.images[:2], torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(WrongUsage, match=r"MeanPicture\(rows=10, trouble=False\) explains nothing before it is fitted"):
        explain(classifier, MeanPicture(), query)
    ready = prepare(MeanPicture(), classifier, examples, batch=5)
    assert repr(ready) == repr(MeanPicture())
    torch.testing.assert_close(explain(classifier, ready, query).maps[0], examples.images[:10].mean((0, 1)))
    assert learnt == [5]
    assert classifier.training


def test_rows_of_a_store_are_spread_over_the_classes(small_file: Path) -> None:
    store = FlowerStore(small_file)
    examples = StoredExamples(store, torch.device("cpu"))
    portions = list(examples.take(18, 5))
    assert [len(images) for images, _ in portions] == [5, 5, 5, 3]
    images, labels = (torch.cat(each) for each in zip(*portions, strict=True))
    assert labels.bincount().tolist() == [3] * 6
    whole = store["train"].rows(0, len(store["train"]))
    everything = torch.from_numpy(whole.images).permute(0, 3, 1, 2).float() / 255
    for image, label in zip(images, labels, strict=True):
        same = (everything == image).flatten(1).all(1)
        assert (whole.labels[same.numpy()] == label.item()).all()
        assert same.any()
    assert len(torch.cat([labels for _, labels in examples.take(10_000, 50)])) == len(whole.labels)
    assert store.fingerprint in examples.digest


# Files


@pytest.fixture
def model(small_file: Path, tmp_path: Path) -> Path:
    """An untrained classifier for the small data set, in a folder of its own."""
    store = FlowerStore(small_file)
    build("flowernet", store.class_names, store.size, seed=3).save(tmp_path / "model" / "net.safetensors")
    return tmp_path / "model" / "net.safetensors"


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.meanpicture-*"))


def test_a_fit_lies_beside_its_model(
    classifier: Classifier, examples: TensorExamples, model: Path, learnt: list[int]
) -> None:
    first = fit_once(MeanPicture(), classifier, examples, str(model))
    again = fit_once(MeanPicture(), classifier, examples, str(model))
    assert len(learnt) == 1
    assert isinstance(first, Fitted)
    assert isinstance(again, Fitted)
    assert torch.equal(first.learnt["mean"], again.learnt["mean"])
    (path,) = kept(model.parent)
    assert path.name.startswith("net.meanpicture-")
    assert path.suffix == ".safetensors"
    assert sorted(model.parent.iterdir()) == [path, model]  # nothing unfinished


def test_what_a_fit_depends_on_has_a_file_of_its_own(
    classifier: Classifier, examples: TensorExamples, model: Path, learnt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_once(MeanPicture(), classifier, examples, str(model))
    fit_once(MeanPicture(rows=5), classifier, examples, str(model))
    fit_once(MeanPicture(), classifier, replace(examples, digest="others"), str(model))
    with torch.no_grad():
        next(classifier.parameters()).add_(1)
    fit_once(MeanPicture(), classifier, examples, str(model))
    monkeypatch.setattr("an8flower.__version__", "9.9.9")
    fit_once(MeanPicture(), classifier, examples, str(model))
    assert len(kept(model.parent)) == len(learnt) == 5


@pytest.mark.parametrize("damage", ["cut", "foreign", "another fit", "pickle", "folder"])
def test_damaged_and_foreign_files_are_made_anew(
    classifier: Classifier, examples: TensorExamples, model: Path, learnt: list[int], damage: str
) -> None:
    expected: Any = fit_once(MeanPicture(), classifier, examples, str(model))
    (path,) = kept(model.parent)
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[:-7])
    elif damage == "foreign":
        model.rename(path)
        model.write_bytes(path.read_bytes())
    elif damage == "another fit":
        fit_once(MeanPicture(rows=5), classifier, examples, str(model))
        kept(model.parent)[0].rename(path)
        learnt.pop()
    elif damage == "pickle":
        torch.save({"mean": torch.zeros(16, 16)}, path)
    else:
        path.mkdir()
    mended: Any = fit_once(MeanPicture(), classifier, examples, str(model))
    assert torch.equal(mended.learnt["mean"], expected.learnt["mean"])
    fit_once(MeanPicture(), classifier, examples, str(model))
    assert len(learnt) == (3 if damage == "folder" else 2)  # mended, unless nothing can be written there


def test_models_without_a_file(classifier: Classifier, examples: TensorExamples, tmp_path: Path) -> None:
    fit_once(MeanPicture(), classifier, examples, "package.module:factory", tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("meanpicture-*")] == ["fits"]
    fit_once(MeanPicture(), classifier, examples, "package.module:factory")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


# Runs


def test_a_run_fits_once_and_only_where_something_is_missing(
    small_file: Path, model: Path, tmp_path: Path, learnt: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CELL_ROWS", 10)
    method = Method("mean", "mean", MeanPicture())
    plan = ScoringPlan(small_file, (str(model),), (method,), ("iou",))
    first = score(plan, CPU, tmp_path / "run")
    assert first.done == 9  # three cells, and three each of the references and of reliance
    assert learnt == [7]
    (path,) = kept(model.parent)
    path.unlink()
    assert score(plan, CPU, tmp_path / "run").reused == 9
    assert len(learnt) == 1  # nothing was missing
    next((tmp_path / "run" / "scores").glob("*mean*")).unlink()
    assert score(plan, CPU, tmp_path / "run").done == 1
    assert len(learnt) == 2
    assert first.document["results"][0]["parameters"] == {"rows": 10, "trouble": False}


def test_a_method_that_cannot_be_fitted_is_skipped(small_file: Path, model: Path, tmp_path: Path) -> None:
    methods = (Method("mean", "mean", MeanPicture(trouble=True)), *parse_methods(["center"]))
    document = score(ScoringPlan(small_file, (str(model),), methods, ("iou",)), CPU, tmp_path).document
    assert [each["reason"] for each in document["skipped"]] == ["mean pictures are not for this network; use none"]
    assert [each["method"] for each in document["results"]] == ["center"]


@pytest.mark.parametrize("method", ["vebi", "upsam_act_relevant"])
def test_the_real_ones_are_scored_and_explained(small_file: Path, model: Path, tmp_path: Path, method: str) -> None:
    text = f"{method}:rows=30"
    plan = ScoringPlan(small_file, (str(model),), tuple(parse_methods([text])), ("iou",), rows=6)
    document = score(plan, CPU, tmp_path / "run").document
    assert document["failed"] == document["skipped"] == []
    assert document["results"][0]["cost"]["forwards"] == 1
    assert len(list(model.parent.glob("net.*.safetensors"))) == 1
    told = calls.explain(method=text, model=model, data=small_file, row=0)
    assert told.sentence.startswith(f"{text} for")
    assert len(list(model.parent.glob("net.*.safetensors"))) == 1  # read, not made again
    assert told.map.shape == (40, 40)
