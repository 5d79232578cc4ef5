"""A network in two: its first convolution, which is affine in the images, and the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.linear_stem import cut_stem
from an8flower.evaluate.models.networks.batched_passes import input_gradient
from an8flower.evaluate.models.streamlined import streamline


@pytest.fixture(params=["resnet18", "inplace", "reuse", "untraceable", "vit"])
def classifier(request: pytest.FixtureRequest, make: Callable[[str], Classifier]) -> Classifier:
    if request.param == "resnet18":
        return build("resnet18", "abcd", 32, seed=0).eval()
    return make(request.param).eval()


def test_both_parts_give_what_the_whole_gives(classifier: Classifier) -> None:
    images, targets = torch.rand(3, 3, classifier.size, classifier.size), torch.tensor([0, 2, 1])
    network = cut_stem(streamline(classifier))
    features = network.stem(images)
    before = features.clone()
    torch.testing.assert_close(network(features), classifier(images), rtol=1e-4, atol=1e-4)
    assert torch.equal(features, before)  # an activation in place may follow
    leaves = features.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaves).gather(1, targets[:, None]).sum(), leaves)
    expected = input_gradient(classifier, images, targets)
    torch.testing.assert_close(network.pull_back(gradient, images), expected, rtol=1e-3, atol=1e-5)


def test_the_stem_is_affine(classifier: Classifier) -> None:
    first, second = torch.rand(2, 2, 3, classifier.size, classifier.size)
    stem = cut_stem(streamline(classifier)).stem
    expected = torch.lerp(stem(first), stem(second), 0.3)
    torch.testing.assert_close(stem(torch.lerp(first, second, 0.3)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "flowernet", "flowervit_tiny"])
def test_which_networks_begin_with_a_convolution_that_alone_sees_the_images(arch: str) -> None:
    network = cut_stem(streamline(build(arch, "abcd", 28, seed=0).eval()))
    assert (network.convolution is not None) == (arch != "flowervit_tiny")


def test_a_streamlined_copy_shares_weights_that_it_does_not_change() -> None:
    classifier = build("resnet18", "abcd", 32, seed=0).eval()
    before = [(weights.requires_grad, weights.clone()) for weights in classifier.network.parameters()]
    weights = next(streamline(classifier).network.get_submodule("fc").parameters())
    assert weights.data_ptr() == classifier.network.fc.weight.data_ptr()
    assert not weights.requires_grad
    for now, (wanted, values) in zip(classifier.network.parameters(), before, strict=True):
        assert now.requires_grad == wanted
        assert torch.equal(now, values)
