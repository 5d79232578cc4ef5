"""RISE against its closed form and the authors' loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from skimage.transform import resize
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.rise import Masks, Rise, evidence
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.networks.batched_passes import logit

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class Weighted(NamedTuple):
    """The closed form: y = w.x + b, on the first channel."""

    weights: Tensor
    bias: float
    in_flight: int = 5

    def __call__(self, images: Tensor) -> Tensor:
        return (images[:, 0].flatten(1) @ self.weights)[:, None] + self.bias


def test_all_masks_of_four_pixels() -> None:
    grids = torch.tensor([[number >> bit & 1 for bit in range(4)] for number in range(16)]).view(16, 2, 2).float()
    as_it_is = torch.eye(2)[None]
    masks = Masks(grids, torch.zeros(16, 2, dtype=torch.int64), torch.ones(16), as_it_is, as_it_is)
    image = torch.tensor([1, 2, -1, 0.5]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    query = Query(image, torch.tensor([0]), torch.tensor([0]))
    total = evidence(Weighted(torch.tensor([1.0, -1, 2, 3]), 0.3), query, masks, logit)
    torch.testing.assert_close(total / (16 * 0.5), torch.tensor([[[0.05, -1.45], [-1.45, 0.3]]]))


def slow_masks(masks: Masks, cells: int, side: int) -> np.ndarray:
    """As the authors make them, from the same grids and shifts; as often as they were drawn."""
    cell = math.ceil(side / cells)
    made = []
    for grid, (top, left), times in zip(masks.grids, masks.shifts.tolist(), masks.times.tolist(), strict=True):
        large = resize(grid.numpy(), ((cells + 1) * cell,) * 2, order=1, mode="reflect", anti_aliasing=False)
        made += [large[top : top + side, left : left + side]] * times
    return np.stack(made)


@pytest.mark.parametrize(("cells", "side"), [(7, 112), (7, 16), (2, 9), (3, 28), (5, 5), (8, 224)])
def test_masks_are_the_authors(cells: int, side: int) -> None:
    masks = Rise(masks=20, cells=cells).draw_masks(side, side)
    expected = torch.from_numpy(slow_masks(masks, cells, side)).float()
    made = masks.enlarge(torch.arange(len(masks.times))).repeat_interleave(masks.times, 0)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert expected.shape == (20, side, side)


def test_images_need_not_be_square() -> None:
    masks = Rise(masks=3, cells=4).draw_masks(20, 30)
    assert masks.enlarge(torch.arange(3)).shape == (3, 20, 30)


@torch.no_grad()
def slow(classifier: Classifier, query: Query, rise: Rise) -> Tensor:
    """Mask by mask, image by image."""
    side = query.images.shape[2]
    masks = torch.from_numpy(slow_masks(rise.draw_masks(side, side), rise.cells, side)).float()
    total = torch.zeros_like(query.images[:, 0])
    for row, (image, target) in enumerate(zip(query.images, query.targets.tolist(), strict=True)):
        for mask in masks:
            total[row] += classifier((image * mask)[None]).softmax(1)[0, target] * mask
    return total / len(masks) / rise.probability


PARAMETERS = [("inplace", Rise(50)), ("reuse", Rise(40, cells=3, probability=0.2)), ("inplace", Rise(90, cells=2))]


@pytest.mark.parametrize(("kind", "rise"), PARAMETERS)
def test_the_authors_loop(make: Make, query: MakeQuery, kind: str, rise: Rise) -> None:
    classifier = make(kind).eval()
    asked = query(classifier)
    maps = explain(classifier, rise, asked, batch=7).maps
    torch.testing.assert_close(maps, slow(classifier, asked, rise), rtol=1e-4, atol=1e-5)
    assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()


def test_one_pass_for_each_mask_of_each_row(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    assert explain(classifier, Rise(50), query(classifier), batch=2).cost.forwards == 5 * 50


def test_a_mask_that_is_drawn_twice_costs_once(make: Make, query: MakeQuery) -> None:
    classifier, rise = make("inplace"), Rise(400, cells=2)
    masks = rise.draw_masks(16, 16)
    assert masks.times.sum() == 400
    assert len(masks.times) < 400
    assert explain(classifier, rise, query(classifier)).cost.forwards == 5 * len(masks.times)


def test_grids_and_shifts_are_drawn_evenly() -> None:
    masks = Rise(4000, probability=0.3).draw_masks(112, 112)
    assert masks.grids.unique().tolist() == [0, 1]
    assert masks.grids.mean().item() == pytest.approx(0.3, abs=0.01)
    assert masks.grids.mean(0).sub(0.3).abs().max() < 0.04
    for axis in masks.shifts.T:
        counts = axis.bincount()
        assert len(counts) == 16
        assert counts.min() > 180


def test_one_set_of_masks_serves_all(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    maps = explain(classifier, Rise(30), asked).maps
    assert torch.equal(explain(classifier, Rise(30), asked._replace(seeds=asked.seeds + 1)).maps, maps)
    assert not torch.equal(explain(classifier, Rise(31), asked).maps, maps)


def test_never_more_images_than_may_be_in_flight(make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, sizes, shown = make("inplace"), [], []
    count, enlarged = Classifier.count, Masks.enlarge
    monkeypatch.setattr(Classifier, "count", lambda *call: sizes.append(len(call[1])) or count(*call))
    monkeypatch.setattr(Masks, "enlarge", lambda *call: shown.append(len(call[1])) or enlarged(*call))
    explain(classifier, Rise(50), query(classifier), batch=3)
    assert max(sizes) == max(shown) == 3


def test_half_precision(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    exact = explain(classifier, Rise(50), asked).maps
    coarse = explain(classifier, Rise(50, precision="bf16"), asked).maps
    halved = explain(classifier.bfloat16(), Rise(50), asked).maps
    for maps in (coarse, halved):
        torch.testing.assert_close(maps, exact, rtol=0.1, atol=0.02)
        assert not torch.equal(maps, exact)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"masks": 0}, "masks is 0; expected at least 1"),
        ({"masks": -5}, "masks is -5"),
        ({"cells": 1}, "cells is 1; expected at least 2 a side"),
        ({"probability": 0.0}, "probability is 0.0; expected more than 0 and less than 1"),
        ({"probability": 1.0}, "probability is 1.0"),
        ({"probability": math.nan}, "probability is nan"),
        ({"precision": "bf61"}, 'unknown precision "bf61"; did you mean "bf16"'),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        Rise(**parameters)


def test_more_cells_than_pixels(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    with pytest.raises(WrongUsage, match="cells is 17; expected at most 16, the image's pixels"):
        explain(classifier, Rise(4, cells=17), query(classifier))
