"""Floating-point operations are counted as torch's own counter counts them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.costs import count_operations


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("arch", ["flowernet", "flowervit_tiny", "mobilenet_v2+ca-stream"])
def test_operations_are_those_that_torch_counts(arch: str, gradients: bool) -> None:
    classifier = build(arch, ("a", "b"), 28, seed=0).eval()
    image = classifier.probe(1)
    with torch.set_grad_enabled(gradients):
        with FlopCounterMode(display=False) as counter:
            classifier.network(image)
        assert count_operations(lambda: classifier.network(image)) == counter.get_total_flops() > 0


def test_what_is_taken_apart_and_the_formulas_of_users_count() -> None:
    """In inference mode a linear layer reaches the counter whole; an operation of a user's brings its own formula."""

    @torch.library.custom_op("doubling::twice", mutates_args=())
    def twice(values: Tensor) -> Tensor:
        return values * 2

    register_flop_formula(torch.ops.doubling.twice)(lambda shape, **rest: 7 * shape.numel())
    layer, values = nn.Linear(5, 4), torch.rand(3, 2, 5)
    with torch.inference_mode():
        assert count_operations(lambda: layer(values)) == 2 * 3 * 2 * 5 * 4
        assert count_operations(lambda: twice(values)) == 7 * 30
        assert count_operations(lambda: values + 1) == 0
