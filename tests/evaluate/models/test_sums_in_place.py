"""Sums that lie where a convolution wrote one of their terms are the same sums, and nothing else is written over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.networks.sums_in_place import add_over, write_sums_over_convolutions
from an8flower.evaluate.models.networks.unrolled import unroll
from an8flower.evaluate.models.streamlined import streamline

Forward = Callable[["Branches", Tensor, Tensor], Tensor]


class Branches(nn.Module):
    """Two convolutions behind a first one, and whatever is made of them."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.narrow = nn.Conv2d(3, 3, 4, stride=4)
        self.join = forward

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        return self.join(self, features, self.left(features.relu()))


WRITTEN_OVER: dict[str, Forward] = {
    "first term": lambda net, features, left: left + features,
    "second term": lambda net, features, left: features + left,
    "both terms": lambda net, features, left: left + net.right(features),
    "with itself": lambda net, features, left: left + left,
    "a number": lambda net, features, left: left + 2,
}
LEFT: dict[str, Forward] = {
    "read again": lambda net, features, left: (left + features) * left,
    "no convolution": lambda net, features, left: left.relu() + features,
    "weighted": lambda net, features, left: torch.add(left, features, alpha=2),
}


def sums_of(network: fx.GraphModule) -> list[fx.Node]:
    return [node for node in network.graph.nodes if node.op == "call_function" and node.target is add_over]


def check_equal(network: Branches, changed: fx.GraphModule) -> None:
    """Outputs and gradients are the same to the bit, again and again."""
    images = torch.rand(2, 3, 4, 4)
    for _ in range(2):
        leaves = [images.clone().requires_grad_() for _ in range(2)]
        outputs = [net(leaf) for net, leaf in zip((network, changed), leaves, strict=True)]
        assert torch.equal(*outputs)
        gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out, x in zip(outputs, leaves, strict=True)]
        assert torch.equal(*gradients)


@pytest.mark.parametrize("name", [*WRITTEN_OVER, *LEFT])
def test_sums_are_the_same_where_they_are_written_over_a_term(name: str) -> None:
    torch.manual_seed(0)
    network = Branches((WRITTEN_OVER | LEFT)[name]).eval()
    changed = write_sums_over_convolutions(unroll(network, sharing=True))
    assert len(sums_of(changed)) == (name in WRITTEN_OVER)
    check_equal(network, changed)


def test_a_term_that_is_smaller_than_the_sum_is_not_written_over() -> None:
    torch.manual_seed(0)
    network = Branches(lambda net, features, left: net.narrow(features) + features).eval()
    changed = write_sums_over_convolutions(unroll(network, sharing=True))
    assert len(sums_of(changed)) == 1
    check_equal(network, changed)


def test_the_first_convolution_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1)).eval()

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images) + 1

    assert not sums_of(write_sums_over_convolutions(unroll(Shifted().eval(), sharing=True)))


def test_terms_of_another_dtype_give_the_wider_one() -> None:
    term = torch.ones(2)
    assert add_over(term, torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert torch.equal(term, torch.ones(2))


def test_every_residual_sum_of_a_resnet_is_in_place() -> None:
    network = streamline(build("resnet18", "abc", 32, seed=0).eval()).network
    assert isinstance(network, fx.GraphModule)
    assert len(sums_of(network)) == 8
