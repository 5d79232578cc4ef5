"""The smaller vision transformer: its size, its patches, and that every method that reads transformers reads it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.registry import explainers

ATTENTION = ("raw_attention", "rollout", "attention_flow", "tibav", "generic_attention", "legrad", "attnlrp", "cplrp")
CAMS = ("gradcam", "gradcam_pp", "xgradcam", "layercam", "hirescam", "eigencam", "ablationcam", "scorecam")


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """The network at 28 px, with a last layer that is not zero, as torchvision starts it."""
    classifier = build("flowervit_tiny", "abcd", 28, seed=0).eval()
    nn.init.normal_(classifier.network.heads.head.weight, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
    return classifier


@pytest.fixture(scope="module")
def query() -> Query:
    """Two random pictures, each with a class."""
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return Query(images, torch.tensor([1, 3]), torch.tensor([5, 6]))


def count_parameters(patch: int, classes: int) -> int:
    """The parameters by hand: two convolutions, class token and places, two blocks, norm and head."""
    width, stem, hidden = 64, 16, 128
    convolutions = (3 * 9 + 1) * stem + (stem * patch**2 + 1) * width
    tokens = width + (14 * 14 + 1) * width
    attention = 3 * width * (width + 1) + width * (width + 1)
    mlp = hidden * (width + 1) + width * (hidden + 1)
    block = attention + mlp + 4 * width
    return convolutions + tokens + 2 * block + 2 * width + classes * (width + 1)


@pytest.mark.parametrize(("size", "classes"), [(42, 6), (28, 4), (112, 12)])
def test_the_number_of_parameters_is_the_one_counted_by_hand(size: int, classes: int) -> None:
    network = build("flowervit_tiny", [str(number) for number in range(classes)], size, seed=0).network
    assert sum(weights.numel() for weights in network.parameters()) == count_parameters(size // 14, classes)


@pytest.mark.parametrize("size", [14, 28, 42, 56, 112])
def test_any_multiple_of_the_grid_gives_fourteen_patches_a_side(size: int) -> None:
    network = build("flowervit_tiny", "ab", size, seed=0).network
    assert network.conv_proj(torch.zeros(1, 3, size, size)).shape == (1, 64, 14, 14)  # type: ignore[operator]


@pytest.mark.parametrize("name", [*ATTENTION, *CAMS])
def test_methods_of_transformers_and_cams_explain_it(tiny: Classifier, query: Query, name: str) -> None:
    maps = explain(tiny, explainers[name].item(), query).maps
    assert maps.shape == (2, 28, 28)
    assert maps.isfinite().all()
    assert maps.std() > 0


@pytest.mark.parametrize("name", ["lrp", "deep_taylor", "vebi", "deconvnet", "guided_backprop", "guided_gradcam"])
def test_what_flowervit_refuses_is_refused_in_the_same_words(tiny: Classifier, query: Query, name: str) -> None:
    larger = build("flowervit", "abcd", 28, seed=0).eval()
    assert outcome(tiny, query, name) == outcome(larger, query, name)


def outcome(classifier: Classifier, query: Query, name: str) -> list[str]:
    """The words of the refusal in alphabetical order, without the architecture's name; none where there are maps."""
    try:
        explain(classifier, explainers[name].item(), query)
    except Exception as error:
        return sorted(f"{type(error).__name__} {error}".replace(classifier.arch, "ARCH").replace(";", "").split())
    return []
