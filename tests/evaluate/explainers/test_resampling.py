"""Strided convolutions without a grid in their gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.evaluate.explainers.filters.resampling import Resampling


def gradient(convolution: nn.Module, images: Tensor, start: Tensor | None = None) -> Tensor:
    leaves = images.clone().requires_grad_()
    with Resampling():
        output = convolution(leaves)
    return torch.autograd.grad(output, leaves, torch.ones_like(output) if start is None else start)[0]


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1), (5, 2)])
def test_a_constant_gradient_stays_constant_inside(kernel: int, padding: int) -> None:
    convolution = nn.Conv2d(1, 1, kernel, 2, padding, bias=False)
    nn.init.ones_(convolution.weight)
    images = torch.zeros(1, 1, 16, 16)
    inner = gradient(convolution, images)[0, 0, kernel:-kernel, kernel:-kernel]
    assert (inner == kernel**2).all()
    plain = torch.nn.grad.conv2d_input(
        (1, 1, 16, 16), convolution.weight, torch.ones_like(convolution(images)), 2, padding
    )
    assert kernel == 2 or plain[0, 0, kernel:-kernel, kernel:-kernel].std() > 0.5  # the grid


def nearest_cells(small: int, large: int) -> list[int]:
    """Of `small` cells, the one around the centre of each of `large` cells over the same stretch."""
    return [int((place + 0.5) * small / large) for place in range(large)]


def slow_gradient(convolution: nn.Conv2d, images: Tensor, start: Tensor) -> Tensor:
    """The gradient of the same convolution without stride, from a start that is enlarged pixel by pixel."""
    unstrided = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        padding=convolution.padding,
        dilation=convolution.dilation,
        groups=convolution.groups,
    )
    unstrided.load_state_dict(convolution.state_dict())
    leaves = images.clone().requires_grad_()
    output = unstrided(leaves)
    rows, columns = map(nearest_cells, start.shape[2:], output.shape[2:])
    enlarged = start[:, :, rows][:, :, :, columns]
    return torch.autograd.grad(output, leaves, enlarged)[0]


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 7, "stride": 3, "padding": 2},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (3, 5), "stride": (1, 2), "padding": (0, 3), "dilation": (2, 1)},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
]


@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
def test_the_slow_version_agrees(how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 6, **how)
    images = torch.rand(2, 4, 17, 20)
    with torch.no_grad():
        plain = convolution(images)
    with torch.no_grad(), Resampling():
        torch.testing.assert_close(convolution(images), plain)
    start = torch.randn(plain.shape)
    torch.testing.assert_close(gradient(convolution, images, start), slow_gradient(convolution, images, start))


def test_every_layer_goes_by_its_own_size() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 2, 1)
    images, start = torch.rand(1, 3, 19, 19), torch.randn(1, 5, 5, 5)
    inner = slow_gradient(second, first(images).detach(), start)
    torch.testing.assert_close(
        gradient(nn.Sequential(first, second), images, start), slow_gradient(first, images, inner)
    )


def test_convolutions_as_functions() -> None:
    weight, images = torch.rand(2, 3, 3, 3), torch.rand(1, 3, 9, 9)
    calls = [
        lambda x: F.conv2d(x, weight, None, 2),
        lambda x: F.conv2d(x, weight, stride=(2, 2), padding="valid"),
        lambda x: torch.conv2d(input=x, weight=weight, stride=[2]),
    ]
    found = [gradient(call, images) for call in calls]
    assert all(torch.equal(each, found[0]) for each in found)
    assert not torch.equal(found[0], torch.nn.grad.conv2d_input(images.shape, weight, torch.ones(1, 2, 4, 4), 2))


def test_weights_need_no_gradient_and_get_none() -> None:
    convolution = nn.Conv2d(3, 2, 3, 2)
    gradient(convolution, torch.rand(1, 3, 9, 9))
    assert convolution.weight.grad is None
    convolution.requires_grad_(False)
    assert gradient(convolution, torch.rand(1, 3, 9, 9)).any()
