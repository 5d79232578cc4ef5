"""Images seen through masks: features behind a shared stem against the stem's own, and where it is shared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers import cam_scores
from an8flower.evaluate.explainers.attribution.activations import activations
from an8flower.evaluate.explainers.cam_scores import ScoreCam
from an8flower.evaluate.explainers.masked_images import SharedStem, can_share_stem, mask_images
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.linear_stem import cut_stem
from an8flower.evaluate.models.streamlined import streamline


def make_classifier(padding: str = "zeros") -> Classifier:
    """A network whose first convolution has a wide window, whose bias counts, and whose layer has 3 x 3 cells."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 5, 7, stride=2, padding=3, padding_mode=padding)
    body = (nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, stride=4, padding=1), nn.ReLU())
    network = nn.Sequential(stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    network[1].running_mean.normal_()
    return wrap(network, "abcd", 23, "4", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).eval()


@pytest.fixture
def query() -> Query:
    generator = torch.Generator().manual_seed(1)
    return Query(torch.rand(3, 3, 23, 23, generator=generator), torch.tensor([0, 2, 1]), torch.arange(3))


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("in_flight", [2, 16])
@pytest.mark.parametrize("overwriting", [False, True])
@torch.no_grad()
def test_mixtures_are_what_the_stem_gives_for_masked_images(
    query: Query, padding: str, in_flight: int, overwriting: bool
) -> None:
    classifier = make_classifier(padding)
    masks = torch.rand(3, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    masks[2, 3] = torch.eye(3)
    rows, numbers = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([1, 2, 0, 3, 1])
    with classifier.holding(in_flight):
        network = cut_stem(streamline(classifier), overwriting)
        shared = SharedStem(network, query, masks)
        for pairs in zip(rows.split(in_flight), numbers.split(in_flight), strict=True):
            features, images = shared(*pairs), mask_images(query, masks, *pairs)
            torch.testing.assert_close(features, network.stem(images), rtol=1e-4, atol=2e-5)
            assert features.is_contiguous(memory_format=torch.channels_last)
            before = features.clone()
            torch.testing.assert_close(network(features), classifier(images), rtol=1e-4, atol=2e-5)
            assert torch.equal(features, before) != overwriting


def test_scorecam_is_the_same_whether_or_not_masks_share_the_stem(
    query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make_classifier()
    calls: list[int] = []
    respond = SharedStem.__call__
    monkeypatch.setattr(SharedStem, "__call__", lambda self, *pairs: calls.append(1) or respond(self, *pairs))
    shared = explain(classifier, ScoreCam(), query)
    assert calls
    monkeypatch.setattr(cam_scores, "can_share_stem", lambda *_: False)
    alone = explain(classifier, ScoreCam(), query)
    assert alone.maps.any()
    torch.testing.assert_close(shared.maps, alone.maps, rtol=1e-4, atol=1e-6)
    assert shared.cost.forwards == alone.cost.forwards


@pytest.mark.parametrize(
    ("arch", "layer", "precision", "in_flight", "shared"),
    [
        ("resnet18", None, "float32", 16, True),
        ("resnet18", None, "float32", 1, False),  # 5 features are too many
        ("resnet18", None, "bf16", 16, False),
        ("resnet18", "layer1", "float32", 999, False),  # 8 x 8 cells are more than half of 7 x 7 x 3 products
        ("flowernet", None, "float32", 16, False),
        ("flowervit_tiny", None, "float32", 16, False),
    ],
)
def test_where_the_stem_is_shared(arch: str, layer: str | None, precision: str, in_flight: int, shared: bool) -> None:
    classifier = build(arch, "abcd", 42, seed=0).eval()
    asked = Query(torch.rand(1, 3, 42, 42), torch.tensor([0]), torch.arange(1))
    with classifier.holding(in_flight):
        masks = activations(classifier, asked, layer).channels
        assert can_share_stem(cut_stem(streamline(classifier, precision)), masks) == shared
