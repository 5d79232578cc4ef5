"""Baselines against closed forms and scikit-image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import filters

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.baselines import Center, Edges, FakeCam, Intensity, Random
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


@pytest.fixture
def model(make: Make) -> Classifier:
    return make("inplace")


def test_random_is_uniform_and_follows_its_seeds(model: Classifier, query: MakeQuery) -> None:
    asked = query(model)
    maps = explain(model, Random(), asked).maps
    assert abs(maps.mean() - 0.5) < 0.03
    assert 0 <= maps.min() < 0.01 < 0.99 < maps.max() < 1
    assert not torch.equal(maps[0], maps[1])
    same = explain(model, Random(), asked._replace(seeds=torch.full((5,), 8))).maps
    assert all(torch.equal(each, maps[1]) for each in same)


def test_center_is_a_bell_around_the_middle(model: Classifier, query: MakeQuery) -> None:
    one = explain(model, Center(width=0.25), query(model)).maps[0]
    torch.testing.assert_close(one, one.flip(0).flip(1).T)
    # Columns 8 and 12 of 16 lie 0.5 and 4.5 pixels off the middle; the bell is 4 pixels wide.
    expected = np.exp(-0.5 * (4.5**2 - 0.5**2) / 4**2)
    assert one[8, 12] / one[8, 8] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(WrongUsage, match="expected a positive share"):
        Center(width=-1)


def test_edges_are_the_sobel_magnitude(model: Classifier, query: MakeQuery) -> None:
    asked = query(model)
    maps = explain(model, Edges(), asked).maps.numpy()
    luma = np.einsum("bchw,c->bhw", asked.images.numpy(), [0.299, 0.587, 0.114])
    for ours, image in zip(maps, luma, strict=True):
        # scikit-image repeats edges too, and divides each kernel by 4.
        across, down = filters.sobel_v(image), filters.sobel_h(image)
        np.testing.assert_allclose(ours, 4 * np.hypot(across, down), atol=1e-5)


def test_intensity_is_the_luma(model: Classifier, query: MakeQuery) -> None:
    images = torch.zeros(5, 3, 16, 16)
    images[0], images[1, 0], images[2, 1], images[3, 2] = 1, 1, 1, 1
    maps = explain(model, Intensity(), query(model)._replace(images=images)).maps
    torch.testing.assert_close(maps[:, 3, 3], torch.tensor([1.0, 0.299, 0.587, 0.114, 0.0]))


def test_fakecam_is_one_but_for_a_corner(model: Classifier, query: MakeQuery) -> None:
    maps = explain(model, FakeCam(), query(model)).maps
    assert maps.sum() == 5 * (16 * 16 - 1)
    assert not maps[:, 0, 0].any()
