"""Blur and perturbation pyramids against scipy and against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from an8flower.evaluate.data.images import blur, blur_matrix, interpolate_levels, pyramid


@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0, 20.0])
@pytest.mark.parametrize(("continued", "mode"), [(True, "nearest"), (False, "constant")])
def test_scipy_agrees(sigma: float, continued: bool, mode: str) -> None:
    images = torch.rand(2, 3, 16, 11, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(images.double().numpy(), sigma, mode=mode, axes=(2, 3))
    actual = blur(images, sigma, continued).double()
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


def test_no_blur_is_the_identity() -> None:
    assert torch.equal(blur_matrix(7, 0.0), torch.eye(7))


def test_levels_of_a_pyramid() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    levels = pyramid(images, 7.0, levels=8)
    assert torch.equal(levels[:, 7], images)
    for level, sigma in enumerate((7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)):
        torch.testing.assert_close(levels[:, level], blur(images, sigma))


def slow_between_levels(levels: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
    """Every pixel by itself: each level has a weight that falls with its distance from where the mask points."""
    _, count, channels, height, width = levels.shape
    images = torch.zeros(len(rows), channels, height, width)
    for number, row in enumerate(rows.tolist()):
        for y in range(height):
            for x in range(width):
                for level in range(count):
                    weight = max(0.0, 1 - abs(float(masks[number, y, x]) * (count - 1) - level))
                    images[number, :, y, x] += weight * levels[row, level, :, y, x]
    return images


@pytest.mark.parametrize("count", [2, 5])
def test_between_levels_equals_the_slow_version(count: int) -> None:
    source = torch.Generator().manual_seed(0)
    levels, masks = torch.rand(2, count, 3, 4, 6, generator=source), torch.rand(3, 4, 6, generator=source)
    masks[0, 0], masks[1, 0], masks[2, 0] = 0, 1, 0.5
    rows = torch.tensor([1, 0, 1])
    expected = slow_between_levels(levels, rows, masks)
    torch.testing.assert_close(interpolate_levels(levels, rows, masks), expected, rtol=1e-5, atol=1e-6)


def test_the_slope_between_levels_is_their_difference() -> None:
    source = torch.Generator().manual_seed(0)
    levels, masks = torch.rand(1, 3, 3, 4, 4, generator=source), torch.full((1, 4, 4), 0.75)
    masks[0, 0] = 1  # has the slope that leads there
    masks.requires_grad_()
    (slopes,) = torch.autograd.grad(interpolate_levels(levels, torch.tensor([0]), masks).sum(), masks)
    torch.testing.assert_close(slopes[0], 2 * (levels[0, 2] - levels[0, 1]).sum(0))
