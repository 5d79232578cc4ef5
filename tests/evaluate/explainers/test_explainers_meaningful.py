"""Meaningful perturbation against its closed form, a slow second version and hand-made masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.meaningful_perturbation import (
    MeaningfulPerturbation,
    cut_windows,
    draw_shifts,
    first_sufficient,
    total_variation,
)
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]
PLAIN = {"tv": 0.0, "mask_blur": 0.0, "jitter": 0.0}


class Linear(nn.Module):
    """The probability of class 0 is a linear function of the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        p = 0.05 + torch.einsum("bchw,chw->b", self.features(images), self.weights)
        return torch.stack([p, 1 - p], 1).log()


def linear(weights: Tensor) -> Classifier:
    return wrap(Linear(weights), "ab", weights.shape[-1], "features", mean=(0, 0, 0), std=(1, 1, 1))


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def slow_blur(values: Tensor, sigma: float) -> Tensor:
    """scipy's Gaussian, which blurs each channel by itself."""
    return torch.from_numpy(gaussian_filter(values.double().numpy(), sigma, mode="nearest", axes=(1, 2)))


@pytest.mark.parametrize(("perturbation", "l1"), [("blur", 5e-4), ("black", 4e-3)])
def test_what_is_deleted_is_what_gains_more_than_it_costs(perturbation: str, l1: float) -> None:
    """Where the probability is linear, the optimum deletes just the pixels whose deletion takes more away than l1."""
    images = random_images(3, 8)
    weights = random_images(1, 8, seed=1)[0] / 200
    backdrops = {"blur": lambda image: slow_blur(image, 1.0), "black": torch.zeros_like}
    gains = [(weights * (image - backdrops[perturbation](image))).sum(0) for image in images]
    explainer = MeaningfulPerturbation(
        perturbation, 100, grid=8, blur=28.0, l1=l1, **PLAIN
    )  # 28 px of 224 are one of 8
    query = Query(images, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    maps = explain(linear(weights), explainer, query).maps
    expected = (torch.stack(gains) > l1).float()
    assert 0.1 < expected.mean() < 0.9
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-3)


def slow_total_variation(mask: Tensor, beta: float) -> float:
    total, side = 0.0, len(mask)
    for y in range(side):
        for x in range(side):
            down = float(mask[y + 1, x] - mask[y, x]) if y + 1 < side else 0.0
            across = float(mask[y, x + 1] - mask[y, x]) if x + 1 < side else 0.0
            total += (down**2 + across**2) ** (beta / 2)
    return total


@pytest.mark.parametrize("beta", [3.0, 2.0, 1.0])
def test_total_variation_equals_the_slow_version(beta: float) -> None:
    masks = random_images(1, 7)[0]
    expected = sum(slow_total_variation(mask, beta) for mask in masks)
    assert float(total_variation(masks, beta)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [3.0, 1.0, 0.5])
def test_the_total_variation_of_a_flat_mask_has_no_slope(beta: float) -> None:
    mask = torch.full((1, 5, 5), 0.5, requires_grad=True)
    (slopes,) = torch.autograd.grad(total_variation(mask, beta), mask)
    assert not slopes.any()


def slow_first_mask(score: Callable[[Tensor], float], image: Tensor, backdrop: Tensor, grid: int) -> Tensor:
    """Circle by circle."""
    side = image.shape[-1]
    keeps, scores = [], []
    for radius in range(0, 175, 5):
        circle = np.zeros((side, side))
        for y in range(side):
            for x in range(side):
                circle[y, x] = (y - side // 2) ** 2 + (x - side // 2) ** 2 <= (radius * side / 224) ** 2
        keeps.append(torch.tensor(1 - gaussian_filter(circle, 10 * side / 224, mode="nearest")).float())
        scores.append(score(torch.lerp(backdrop, image, keeps[-1])))
    fall = score(image) - scores[-1]
    found = [i for i, each in enumerate(scores) if abs(fall) > 1e-6 and (each - scores[-1]) / fall < 0.01]
    keep = keeps[found[0] if found else -1]
    centres = [int((cell + 0.5) * side / grid) for cell in range(grid)]
    return keep[centres][:, centres]


def slow_explanation(classifier: Classifier, query: Query, row: int, explainer: MeaningfulPerturbation) -> Tensor:
    """One image, torch's Adam, and the objective as the paper writes it."""
    image, target = query.images[row], int(query.targets[row])
    side = image.shape[-1]
    grid, scale = min(explainer.grid, side), side / 224
    backdrop = slow_blur(image, explainer.blur * scale).float()

    def score(perturbed: Tensor) -> Tensor:
        return classifier(perturbed[None]).softmax(1)[0, target]

    def upsampled(mask: Tensor) -> Tensor:
        """Nearest neighbours, then a convolution with the Gaussian along both axes."""
        cells = [int((pixel + 0.5) * grid / side) for pixel in range(side)]
        sigma = explainer.mask_blur * scale
        radius = int(4 * sigma + 0.5)
        bell = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
        padded = F.pad(mask[cells][:, cells][None, None], (radius,) * 4, mode="replicate")
        bell = (bell / bell.sum())[None, None, None]
        return F.conv2d(F.conv2d(padded, bell), bell.mT)[0, 0]

    with torch.no_grad():
        mask = slow_first_mask(lambda perturbed: float(score(perturbed)), image, backdrop, grid)
    mask.requires_grad_()
    optimiser = torch.optim.Adam([mask], lr=explainer.rate)
    reach = int(explainer.jitter * scale + 0.5)
    source = torch.Generator().manual_seed(int(query.seeds[row]))
    shifts = torch.randint(0, reach + 1, (explainer.iterations, 2), generator=source)
    for y, x in (shifts - reach // 2).tolist():
        down = [min(max(each + y, 0), side - 1) for each in range(side)]
        across = [min(max(each + x, 0), side - 1) for each in range(side)]
        wide = upsampled(mask)
        perturbed = image[:, down][:, :, across] * wide + backdrop[:, down][:, :, across] * (1 - wide)
        steps = F.pad(mask.diff(dim=0), (0, 0, 0, 1)) ** 2 + F.pad(mask.diff(dim=1), (0, 1)) ** 2
        loss = score(perturbed) + explainer.l1 * (1 - mask).sum() + explainer.tv * ((steps + 1e-12) ** 1.5).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mask.data.clamp_(0, 1)
    return 1 - upsampled(mask.detach())


@pytest.mark.parametrize("kind", ["inplace", "reuse"])
def test_the_slow_version_agrees(make: Make, query: MakeQuery, kind: str) -> None:
    classifier = make(kind).eval()
    asked = query(classifier)
    explainer = MeaningfulPerturbation(iterations=12, grid=6, jitter=30.0, blur=60.0, mask_blur=20.0)
    maps = explain(classifier, explainer, asked).maps
    for row in (0, 4):
        expected = slow_explanation(classifier, asked, row, explainer)
        torch.testing.assert_close(maps[row], expected, rtol=0, atol=2e-3)
        assert expected.max() - expected.min() > 0.1


def test_the_smallest_circle_that_drops_the_score() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.101, 0.1], [0.9, 0.5, 0.2, 0.1], [0.9, 0.05, 0.2, 0.1], [0.7, 0.7, 0.7, 0.7]])
    assert first_sufficient(scores, torch.tensor([0.9, 0.9, 0.9, 0.7])).tolist() == [2, 3, 1, 3]


def test_windows_show_what_lies_at_their_corners() -> None:
    images = torch.arange(50.0).view(2, 1, 5, 5)
    shown = cut_windows(images, torch.tensor([[0, 2], [1, 0]]), 3)
    assert torch.equal(shown[0], images[0, :, 0:3, 2:5])
    assert torch.equal(shown[1], images[1, :, 1:4, 0:3])


def test_shifts_are_each_rows_own() -> None:
    shifts = draw_shifts(torch.tensor([3, 8, 3]), 200, 3)
    assert torch.equal(shifts[0], shifts[2])
    assert not torch.equal(shifts[0], shifts[1])
    assert shifts.unique().tolist() == [0, 1, 2, 3]


def test_seeds_matter_where_there_is_jitter(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    other = asked._replace(seeds=asked.seeds + 1)
    for jitter in (0.0, 40.0):
        explainer = MeaningfulPerturbation(iterations=5, jitter=jitter)
        same = torch.equal(explain(classifier, explainer, asked).maps, explain(classifier, explainer, other).maps)
        assert same == (jitter == 0)


def test_costs_and_images_in_flight(make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make("reuse")
    sizes, normalise = [], classifier.normalise
    monkeypatch.setattr(classifier, "normalise", lambda images: sizes.append(len(images)) or normalise(images))
    cost = explain(classifier, MeaningfulPerturbation(iterations=7), query(classifier), batch=3).cost
    assert (cost.forwards, cost.backwards) == (5 * (36 + 7), 5 * 7)
    assert max(sizes) == 3


def test_bfloat16(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked, explainer = query(classifier), MeaningfulPerturbation(iterations=3)
    expected = explain(classifier, explainer, asked).maps
    faster = explain(classifier, MeaningfulPerturbation(iterations=3, precision="bf16"), asked).maps
    coarse = explain(classifier.bfloat16(), explainer, asked).maps
    assert 0 < (faster - expected).abs().mean() < 0.1
    assert 0 < (coarse - expected).abs().mean() < 0.1


def test_a_probability_that_nothing_changes() -> None:
    """Then blur only costs: from the largest circle on, the whole mask returns to one."""
    query = Query(random_images(2, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    maps = explain(linear(torch.full((3, 8, 8), 1e-9)), MeaningfulPerturbation(iterations=60), query).maps
    assert maps.max() < 1e-3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"iterations": -1}, "meaningful_perturbation: iterations is -1; expected 0 or more"),
    ({"l1": -0.1}, "l1 is -0.1; expected 0 or more"),
    ({"jitter": float("nan")}, "jitter is nan; expected 0 or more"),
    ({"grid": 0}, "grid is 0; expected more than 0"),
    ({"blur": 0.0}, "blur is 0.0; expected more than 0"),
    ({"beta": 0.0}, "beta is 0.0; expected more than 0"),
    ({"perturbation": "blak"}, 'did you mean "black"'),
    ({"precision": "bf61"}, 'did you mean "bf16"'),
]


@pytest.mark.parametrize(("parameters", "says"), BAD)
def test_bad_parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        MeaningfulPerturbation(**parameters)
