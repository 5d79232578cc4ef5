"""The way out that a refusal names is one: the method that it sends to does explain the network."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.registry import explainers


class Mixed(nn.Module):
    """A convolution, then attention among its positions, without a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.conv(images).flatten(2).mT
        return self.last((tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(1))


def mixed() -> Classifier:
    return wrap(Mixed(), "abcd", 16, "conv").eval()


def vit() -> Classifier:
    return build("flowervit_tiny", "abcd", 28, seed=0).eval()


@pytest.mark.parametrize("make", [mixed, vit])
@pytest.mark.parametrize("name", ["lrp", "deep_taylor", "excitation_backprop", "rollout", "tibav"])
def test_the_method_that_a_refusal_names_applies(name: str, make: Callable[[], Classifier]) -> None:
    classifier = make()
    images = torch.rand(1, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(0))
    query = Query(images, torch.tensor([1]), torch.tensor([5]))
    try:
        explain(classifier, explainers[name].item(), query)
    except NotApplicable as reason:
        other = re.search(r"use (\w+)$", str(reason))
        assert other, reason
        assert explain(classifier, explainers[other[1]].item(), query).maps.isfinite().all()
