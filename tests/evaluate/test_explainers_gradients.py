"""Gradients against closed forms, finite differences and captum."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.classifier import Classifier, wrap
from an8flower.evaluate.explain import explain
from an8flower.evaluate.explainers.gradients import Gradient, input_gradient
from an8flower.evaluate.pooling import POOLINGS

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


def unnormalised(network: nn.Module, names: str, size: int) -> Classifier:
    """A network behind an identity, to have a layer with spatial extent, without normalisation."""
    whole = nn.Sequential(OrderedDict(inner=nn.Identity(), rest=network))
    return wrap(whole, names, size, "inner", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def test_of_a_linear_network_it_is_the_weights() -> None:
    linear = nn.Linear(12, 3)
    classifier = unnormalised(nn.Sequential(nn.Flatten(), linear), "abc", 2)
    gradient = input_gradient(classifier, torch.rand(2, 3, 2, 2), torch.tensor([2, 0]))
    torch.testing.assert_close(gradient, linear.weight[[2, 0]].detach().view(2, 3, 2, 2))


def test_of_two_relu_layers_it_is_the_closed_form() -> None:
    first, second = nn.Linear(12, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.zero_()[:, :2] = torch.tensor([[1.0, -1], [2, 1], [-1, 1]])
        second.weight.copy_(torch.tensor([[1.0, 1, -1], [-1, -1, 1]]))
    classifier = unnormalised(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), "ab", 2)
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0, 0] = torch.tensor([0.5, 1.0])  # half of x = (1, 2): the same units are active
    assert classifier(images)[0, 0] == 1.5
    gradient = input_gradient(classifier, images, torch.tensor([0]))
    assert gradient.flatten()[:2].tolist() == [3, 0]
    assert not gradient.flatten()[2:].any()


def test_captum_agrees(classifier: Classifier, query: MakeQuery) -> None:
    asked = query(classifier)
    ours = explain(classifier, Gradient(), asked).maps
    classifier.eval()
    theirs = Saliency(classifier).attribute(asked.images.clone().requires_grad_(), target=asked.targets, abs=True)
    torch.testing.assert_close(ours, theirs.amax(1))


def test_finite_differences_agree(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval().double()
    images, targets = query(classifier).images.double(), query(classifier).targets
    gradient, step = input_gradient(classifier, images, targets), torch.zeros_like(images)
    step[:, 1, 5, 7] = 1e-6
    rise = (classifier(images + step) - classifier(images - step)).gather(1, targets[:, None])[:, 0] / 2e-6
    torch.testing.assert_close(gradient[:, 1, 5, 7], rise, rtol=1e-4, atol=1e-7)


HAND = torch.tensor([3.0, -4.0, 0.0]).view(1, 3, 1, 1)  # one pixel
POOLED = {"abs_max": 4, "abs_sum": 7, "sum": -1, "pos_l2": 3, "l2": 5, "l2_sq": 25, "abs_sum99": 0}


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_hand(name: str) -> None:
    assert POOLINGS[name](HAND).item() == pytest.approx(POOLED[name])


def test_the_99th_percentile_cuts_outliers() -> None:
    attribution = torch.zeros(2, 3, 10, 20)
    attribution[:, 0] = torch.arange(200.0).view(10, 20)
    attribution[1] *= -5
    maps = POOLINGS["abs_sum99"](attribution)
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0].flatten(), (torch.arange(200.0) / 197.01).clamp(max=1))


def test_the_pooling_is_a_parameter(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    gradient: Tensor = input_gradient(classifier.eval(), asked.images, asked.targets)
    torch.testing.assert_close(explain(classifier, Gradient(pooling="sum"), asked).maps, gradient.sum(1))
    with pytest.raises(WrongUsage, match='unknown pooling "max"'):
        Gradient(pooling="max")
