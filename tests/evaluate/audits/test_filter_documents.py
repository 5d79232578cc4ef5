"""What a page shows of filters: those of a network in which everybody knows what each filter is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.audits.filters import filters_of, numbers_silenced
from an8flower.evaluate.explainers.filters.filter_roles import average_images, mean_class_accuracy
from an8flower.evaluate.explainers.filters.relevant_filters import Filter, Relevance
from an8flower.evaluate.explainers.fittable import Fitted
from an8flower.evaluate.explaining.fitting import StoredExamples, prepare
from an8flower.evaluate.explaining.methods import Method, parse_method
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.judge import Judge
from an8flower.store import FlowerStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def judge(store: FlowerStore) -> Judge:
    return Judge(store["test"], "label", 0, (), Resources(CPU, batch=7))


class Reader(nn.Module):
    """Two layers that copy the picture, the second at half the resolution, and a linear layer that nobody trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 2, 2)
        self.linear = nn.Linear(5, 6)
        nn.init.constant_(self.second.bias, 1.0)  # so that none of its filters stays silent

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.relu(self.second(F.relu(self.first(images)))).mean((2, 3)))


@pytest.fixture
def classifier(store: FlowerStore) -> Classifier:
    torch.manual_seed(0)
    return wrap(Reader(), store.class_names, store.size, "second", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def fitted(weights: Tensor) -> Method:
    """A method that found these weights (9, 6)."""
    method = parse_method("vebi")
    relevance = Relevance(torch.tensor([0, 1]), torch.tensor([4, 5]), weights, torch.tensor(1.0))
    return method._replace(explainer=Fitted(method.explainer, relevance._asdict()))


def weights_of(entries: dict[tuple[int, int], float]) -> Tensor:
    weights = torch.zeros(9, 6, dtype=torch.float64)
    for place, weight in entries.items():
        weights[place] = weight
    return weights


WEIGHTS = {(0, 0): 0.5, (1, 0): 0.9, (4, 0): 0.7, (8, 0): 0.1, (6, 5): 0.2, (2, 3): -0.4}


def test_the_weightiest_filters_of_each_class(classifier: Classifier, judge: Judge) -> None:
    found = filters_of(classifier, fitted(weights_of(WEIGHTS)), judge, 0)
    assert found["classes"].tolist() == [0, 0, 0, 5]
    assert found["layers"].tolist() == ["ReLU 0", "ReLU 1", "ReLU 0", "ReLU 1"]
    assert found["channels"].tolist() == [1, 0, 0, 2]
    np.testing.assert_allclose(found["weights"], [0.9, 0.7, 0.5, 0.2], rtol=1e-6)
    assert found["sizes"].tolist() == [[3, 3], [4, 4], [3, 3], [4, 4]]
    assert found["averages"].shape == (4, 4, 4, 3)
    assert found["averages"].dtype == np.uint8
    assert not found["averages"][0, 3:].any()
    assert not found["averages"][0, :, 3:].any()


def test_averages_are_of_the_images_of_their_class(classifier: Classifier, judge: Judge) -> None:
    found = filters_of(classifier, fitted(weights_of(WEIGHTS)), judge, 0)
    rows = judge.split.rows(0, len(judge.split))
    images = torch.from_numpy(rows.images).permute(0, 3, 1, 2).float() / 255
    (expected,) = average_images(classifier, images[torch.from_numpy(rows.labels) == 5], [Filter(1, 2)])
    assert expected.amin() > 0
    np.testing.assert_allclose(found["averages"][3] / 255, expected.permute(1, 2, 0), atol=0.5 / 255 + 1e-6)


def test_the_ablation_curve(classifier: Classifier, judge: Judge) -> None:
    found = filters_of(classifier, fitted(weights_of(WEIGHTS)), judge, 0)
    assert found["counts"].tolist() == [0, 1, 2, 4, 5]  # five have a weight above 0
    assert found["random"].shape == (5, 5)
    rows = judge.split.rows(0, len(judge.split))
    images, labels = torch.from_numpy(rows.images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(rows.labels)
    order = [Filter(0, 1), Filter(1, 0), Filter(0, 0), Filter(1, 2), Filter(1, 4)]
    for count, accuracy in zip(found["counts"], found["relevant"], strict=True):
        assert accuracy == pytest.approx(float(mean_class_accuracy(classifier, images, labels, order[:count])))
    assert (found["random"][:, 0] == found["relevant"][0]).all()


def test_nothing_relevant_is_nothing_shown(classifier: Classifier, judge: Judge) -> None:
    found = filters_of(classifier, fitted(weights_of({})), judge, 0)
    assert found["averages"].shape == (0, 0, 0, 3)
    assert found["sizes"].shape == (0, 2)
    assert found["counts"].tolist() == [0]
    assert found["layers"].dtype.kind == "U"


def test_a_method_that_found_no_filters_is_refused(classifier: Classifier, judge: Judge) -> None:
    for text in ("vebi", "gradcam"):
        with pytest.raises(WrongUsage, match="has found no relevant filters"):
            filters_of(classifier, parse_method(text), judge, 0)


def test_vebi_itself(store: FlowerStore, judge: Judge) -> None:
    """As it is fitted, on the network of the house."""
    model, method = build("flowernet", store.class_names, store.size, seed=0).eval(), parse_method("vebi:rows=30")
    ready = prepare(method.explainer, model, StoredExamples(store, CPU), 16)
    found = filters_of(model, method._replace(explainer=ready), judge, 0)
    assert 0 < len(found["classes"]) <= 18
    assert all(values.dtype != object for values in found.values())
    assert (np.diff(found["counts"]) > 0).all()
    again = filters_of(model, method._replace(explainer=ready), judge, 0)
    for name, values in found.items():
        np.testing.assert_array_equal(values, again[name])


@pytest.mark.parametrize(("relevant", "expected"), [(0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (8, [0, 1, 2, 4, 8])])
def test_counts_double(relevant: int, expected: list[int]) -> None:
    assert numbers_silenced(relevant) == expected
