"""Extremal perturbation against its closed form, slow second versions and hand-made masks."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.images import blur
from an8flower.evaluate.explainers.extremal_perturbation import (
    ExtremalPerturbation,
    SmoothMasks,
    SmoothMaximum,
    area_penalty,
    parse_areas,
)
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class Linear(nn.Module):
    """Logits that are linear functions of the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", self.features(images), self.weights)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_a_planted_square_is_found(variant: str) -> None:
    """The logit is ten times the mean of a square: of all masks of its area, the square itself keeps most of it."""
    squares = torch.zeros(2, 32, 32)
    squares[0, 6:20, 11:25], squares[1, 14:28, 4:18] = 1, 1
    weights = torch.zeros(2, 3, 32, 32)
    weights[:, 0] = squares * 10 / 14**2
    classifier = wrap(Linear(weights), "ab", 32, "features", mean=(0, 0, 0), std=(1, 1, 1))
    canvas = 35**2  # a step is 2 px, as much as sigma: 15 steps between parameters, and 2 px on each side
    explainer = ExtremalPerturbation(
        areas=str(14**2 / canvas),
        variant=variant,
        perturbation="black",
        step=14.0,
        sigma=14.0,
        iterations=500,
        flip=False,
    )
    query = Query(torch.ones(2, 3, 32, 32), torch.arange(2), torch.arange(2))
    maps = explain(classifier, explainer, query).maps
    found, planted = maps > 0.5, squares > 0
    assert ((found & planted).sum((1, 2)) / (found | planted).sum((1, 2))).min() > 0.8
    torch.testing.assert_close(maps.sum((1, 2)) / canvas, torch.full((2,), 14**2 / canvas), rtol=0, atol=0.03)


def test_no_place_is_preferred() -> None:
    """Where the network sees nothing, masks stay around the middle: order in memory is no evidence."""
    classifier = wrap(Linear(torch.zeros(1, 3, 16, 16)), "a", 16, "features")
    query = Query(torch.ones(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    (found,) = explain(classifier, ExtremalPerturbation(iterations=200), query).maps
    places = torch.arange(16.0) - 7.5
    assert found.max() > 2 * found.mean() > 0
    assert float(found.sum(1) @ places / found.sum()) == pytest.approx(0, abs=0.2)
    assert float(found.sum(0) @ places / found.sum()) == pytest.approx(0, abs=0.2)


# The parts, one by one.


def slow_canvas(parameters: Tensor, shape: SmoothMasks) -> Tensor:
    """At every pixel, the smooth maximum of all parameters around it; outside their grid they are 0."""
    weights, numbers = slow_surroundings(shape)
    weighted = weights * torch.cat([parameters.flatten(), torch.zeros(1)])[numbers]
    canvas = (weighted * (20 * weighted).softmax(1)).sum(1).clamp(0, 1)
    return canvas.unflatten(0, (math.isqrt(len(canvas)), -1))


@functools.cache
def slow_surroundings(shape: SmoothMasks) -> tuple[Tensor, Tensor]:
    """Weights and numbers of the parameters that are at most `radius` steps from each pixel; the last one is the 0."""
    ends = range(-shape.margin * shape.step, (shape.cells - 1 + shape.margin) * shape.step + 1)
    around = range(-shape.radius, shape.radius + 1)
    weights, numbers = [], []
    for y, x, down, across in itertools.product(ends, ends, around, around):
        i, j = y // shape.step + down, x // shape.step + across
        distance = math.hypot(y - i * shape.step, x - j * shape.step) / shape.sigma
        inside = 0 <= i < shape.cells and 0 <= j < shape.cells
        weights.append(math.exp(-2 * max(0.0, distance - 0.5) ** 2))
        numbers.append(i * shape.cells + j if inside else shape.cells**2)
    return torch.tensor(weights).view(len(ends) ** 2, -1), torch.tensor(numbers).view(len(ends) ** 2, -1)


@pytest.mark.parametrize("shape", [SmoothMasks(8, 2, 4.0), SmoothMasks(7, 3, 3.5), SmoothMasks(5, 1, 1.5)], ids=str)
def test_masks_equal_the_slow_version(shape: SmoothMasks) -> None:
    parameters = torch.rand(2, shape.cells, shape.cells, generator=torch.Generator().manual_seed(0)).requires_grad_()
    canvases = shape.canvases(parameters, shape.kernel())
    expected = torch.stack([slow_canvas(each, shape) for each in parameters])
    torch.testing.assert_close(canvases, expected)
    pulls = torch.rand(expected.shape, generator=torch.Generator().manual_seed(1))
    slopes, expected_slopes = (
        torch.autograd.grad((each * pulls).sum(), parameters)[0] for each in (canvases, expected)
    )
    torch.testing.assert_close(slopes, expected_slopes, rtol=1e-4, atol=1e-4)
    start = shape.margin * shape.step
    assert torch.equal(shape.crop(canvases), canvases[:, start : start + shape.side, start : start + shape.side])
    assert shape.crop(canvases).shape == (2, shape.side, shape.side)


def test_the_slopes_of_the_smooth_maximum() -> None:
    source = torch.Generator().manual_seed(0)
    values = torch.rand(2, 5, 3, generator=source, dtype=torch.float64).requires_grad_()
    kernel = torch.rand(4, 5, generator=source, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda each: SmoothMaximum.apply(each, kernel), values)


@pytest.mark.parametrize(("side", "step", "sigma"), [(224, 7, 21), (128, 4, 12), (112, 4, 12), (16, 1, 3)])
def test_lengths_follow_the_image(side: int, step: int, sigma: float) -> None:
    assert ExtremalPerturbation().shape(side) == SmoothMasks(side, step, sigma)


def slow_penalty(mask: Tensor, area: float) -> Tensor:
    """As in the paper: the sorted mask against a step."""
    count = mask.numel()
    step = torch.ones(count)
    step[: int(count * (1 - area))] = 0
    return (mask.flatten().sort().values - step).square().mean()


def test_the_penalty_equals_the_slow_version() -> None:
    masks = torch.rand(3, 400, generator=torch.Generator().manual_seed(0)).requires_grad_()
    areas = torch.tensor([0.1, 0.33, 0.999], dtype=torch.float64)
    expected = torch.stack([slow_penalty(*each) for each in zip(masks, areas.tolist(), strict=True)])
    actual = area_penalty(masks, areas)
    torch.testing.assert_close(actual, expected)
    slopes, expected_slopes = (torch.autograd.grad(each.sum(), masks)[0] for each in (actual, expected))
    torch.testing.assert_close(slopes, expected_slopes)


def test_equal_values_share_the_area() -> None:
    """Their slope is the mean of those that sorting gives in all orders."""
    mask = torch.tensor([0.9, 0.6, 0.6, 0.6, 0.6, 0.1], requires_grad=True)
    (slopes,) = torch.autograd.grad(area_penalty(mask[None], torch.tensor([0.5])).sum(), mask)
    tied = (2 * (0.6 - 1) + 2 * 0.6) / 2  # two of four should be one, the others zero
    torch.testing.assert_close(slopes * 6, torch.tensor([-0.2, tied, tied, tied, tied, 0.2]))


def test_no_area_is_smaller_than_a_pixel() -> None:
    penalty = area_penalty(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1e-30], dtype=torch.float64))
    assert penalty.tolist() == [0]


def test_what_masks_choose_from() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    strongest = blur(images, 20 * 16 / 224)
    for name, count, first in (("pyramid", 8, strongest), ("blur", 2, strongest), ("black", 2, 0 * images)):
        levels = ExtremalPerturbation(perturbation=name).levels_of(images)
        assert levels.shape == (2, count, 3, 16, 16)
        torch.testing.assert_close(levels[:, 0], first)
        assert torch.equal(levels[:, -1], images)


# The whole.


def slow_explanation(
    classifier: Classifier, query: Query, row: int, area: float, explainer: ExtremalPerturbation
) -> Tensor:
    """One image and one area, masks pixel by pixel, torch's SGD, and a loop over equal values."""
    image, target = query.images[row], int(query.targets[row])
    shape = explainer.shape(image.shape[-1])
    sigmas = [(1 - level / 3) * explainer.blur * image.shape[-1] / 224 for level in range(4)]
    levels = [torch.from_numpy(gaussian_filter(image.numpy(), each, mode="nearest", axes=(1, 2))) for each in sigmas]
    parameters = torch.ones(shape.cells, shape.cells, requires_grad=True)
    optimiser = torch.optim.SGD([parameters], lr=explainer.rate, momentum=0.9, dampening=0.9)
    for step in range(explainer.iterations):
        canvas = slow_canvas(parameters, shape)
        mask = shape.crop(canvas[None])[0]
        with torch.no_grad():
            wanted = slow_wanted(canvas.flatten(), area)
        penalty = 300 * 1.0035**step * (canvas.flatten() - wanted).square().mean()
        reward = torch.zeros(())
        if explainer.variant != "delete":
            reward = reward + slow_logit(classifier, levels, mask, target, step % 2 == 0)
        if explainer.variant != "preserve":
            reward = reward - slow_logit(classifier, levels, 1 - mask, target, step % 2 == 0)
        optimiser.zero_grad()
        (penalty - reward).backward()
        optimiser.step()
        parameters.data.clamp_(0, 1)
    return shape.crop(slow_canvas(parameters.detach(), shape)[None])[0]


def slow_wanted(values: Tensor, area: float) -> Tensor:
    """One for the largest, zero for the smallest, the same for all equal ones."""
    ones = len(values) - int(len(values) * (1 - area))
    threshold = sorted(values.tolist())[-ones]
    tied = [abs(value - threshold) <= 1e-5 for value in values.tolist()]
    above = [value > threshold + 1e-5 for value in values.tolist()]
    share = (ones - sum(above)) / sum(tied)
    return torch.tensor([1.0 if up else share if same else 0.0 for up, same in zip(above, tied, strict=True)])


def slow_logit(classifier: Classifier, levels: list[Tensor], mask: Tensor, target: int, flipped: bool) -> Tensor:
    weights = [(1 - (mask * 3 - level).abs()).clamp(min=0) for level in range(4)]
    image = sum(weight * level for weight, level in zip(weights, levels, strict=True))
    return classifier((image.flip(2) if flipped else image)[None])[0, target]


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_the_slow_version_agrees(make: Make, query: MakeQuery, variant: str) -> None:
    classifier = make("inplace").eval()
    asked = query(classifier)
    explainer = ExtremalPerturbation(
        areas="0.1+0.3", variant=variant, levels=4, step=28.0, sigma=56.0, blur=60.0, rate=0.05, iterations=6
    )
    maps = explain(classifier, explainer, asked).maps
    for row in (0, 3):
        expected = sum(slow_explanation(classifier, asked, row, area, explainer) for area in (0.1, 0.3))
        torch.testing.assert_close(maps[row], expected, rtol=0, atol=1e-3)
        assert expected.max() - expected.min() > 0.1


def test_areas_are_summed_and_do_not_touch_each_other(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    both, one, other = (
        explain(classifier, ExtremalPerturbation(areas=areas, rate=0.1, iterations=8), asked).maps
        for areas in ("0.05+0.4", "0.05", "0.4")
    )
    torch.testing.assert_close(both, one + other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one, other, atol=0.05)


def test_smoothing(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    sharp, smooth = (
        explain(classifier, ExtremalPerturbation(smooth=smooth, rate=0.1, iterations=8), query(classifier)).maps
        for smooth in (0.0, 0.09)
    )
    expected = gaussian_filter(sharp.double().numpy(), 0.09 * 16, mode="constant", axes=(1, 2))
    torch.testing.assert_close(smooth.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def test_flips_show_the_mirror_image(make: Make, query: MakeQuery) -> None:
    """After one iteration, which is flipped, masks are those of the mirrored image without flipping, mirrored."""
    classifier = make("inplace")
    asked = query(classifier)
    mirrored = asked._replace(images=asked.images.flip(3))
    fields: dict[str, Any] = {"iterations": 1, "rate": 0.1, "perturbation": "black", "step": 14.0, "sigma": 42.0}
    flipped = explain(classifier, ExtremalPerturbation(**fields), asked).maps
    assert not torch.allclose(flipped, explain(classifier, ExtremalPerturbation(**fields, flip=False), asked).maps)
    expected = explain(classifier, ExtremalPerturbation(**fields, flip=False), mirrored).maps.flip(2)
    torch.testing.assert_close(flipped, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("variant", "images"), [("preserve", 1), ("delete", 1), ("dual", 2)])
def test_costs_and_images_in_flight(
    make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch, variant: str, images: int
) -> None:
    classifier = make("reuse")
    sizes, normalise = [], classifier.normalise
    monkeypatch.setattr(classifier, "normalise", lambda images: sizes.append(len(images)) or normalise(images))
    explainer = ExtremalPerturbation(areas="0.1+0.2+0.3", variant=variant, iterations=4)
    cost = explain(classifier, explainer, query(classifier), batch=3).cost
    assert (cost.forwards, cost.backwards) == (5 * 3 * 4 * images, 5 * 3 * 4 * images)
    assert max(sizes) == 3


def test_bfloat16(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    quick = ExtremalPerturbation(**ExtremalPerturbation.quick)
    expected = explain(classifier, quick, asked).maps
    faster = explain(classifier, ExtremalPerturbation(**ExtremalPerturbation.quick, precision="bf16"), asked).maps
    coarse = explain(classifier.bfloat16(), quick, asked).maps
    assert 0 < (faster - expected).abs().mean() < 0.05
    assert 0 < (coarse - expected).abs().mean() < 0.05


def test_no_iteration_keeps_everything(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    assert explain(classifier, ExtremalPerturbation(iterations=0), query(classifier)).maps.min() > 0.8


def test_areas_are_parsed() -> None:
    assert parse_areas("0.025+0.05+0.1+0.2") == [0.025, 0.05, 0.1, 0.2]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"areas": "0"}, 'extremal_perturbation: areas is "0"; expected numbers between 0 and 1, such as 0.05+0.1'),
    ({"areas": "0.1+1"}, 'areas is "0.1+1"; expected'),
    ({"areas": "0.1++0.2"}, 'areas is "0.1++0.2"; expected'),
    ({"areas": "nan"}, 'areas is "nan"; expected'),
    ({"areas": ""}, 'areas is ""; expected'),
    ({"variant": "preserv"}, 'did you mean "preserve"'),
    ({"perturbation": "blak"}, 'did you mean "black"'),
    ({"precision": "bf61"}, 'did you mean "bf16"'),
    ({"iterations": -1}, "extremal_perturbation: iterations is -1; expected 0 or more"),
    ({"levels": 1}, "levels is 1; expected 2 or more"),
    ({"smooth": -0.1}, "smooth is -0.1; expected 0 or more"),
    ({"step": 0.0}, "step is 0.0; expected more than 0"),
    ({"sigma": float("nan")}, "sigma is nan; expected more than 0"),
]


@pytest.mark.parametrize(("parameters", "says"), BAD)
def test_bad_parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        ExtremalPerturbation(**parameters)
