"""Infidelity and maximum sensitivity against closed forms, a slow second version and Captum, fed the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.explaining.contract_networks import InPlaceNet, randomise_weights
from an8flower.evaluate.metrics.masking import Masking
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.robustness import Noisy, Perturbed, Squared, square, uniform
from an8flower.evaluate.models.classifier import Classifier, wrap

SIDE = 8
Method = Callable[[Query], Tensor]


class Weighted(nn.Module):
    """Two classes; the logit of the first is linear in the pixels, and alike in their channels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.eye, self.weights = nn.Identity(), nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        logit = (self.eye(images).sum(1) * self.weights).sum((1, 2))
        return torch.stack([logit, logit * 0], 1)


def linear(weights: Tensor) -> Classifier:
    return wrap(Weighted(weights), "ab", SIDE, "eye", mean=(0,) * 3, std=(1,) * 3).eval()


def lively_classifier() -> Classifier:
    return wrap(randomise_weights(InPlaceNet()), ["rose", "lily", "aster", "iris"], SIDE, "features").eval()


def case_of(classifier: Classifier | None, images: Tensor, method: Method | None = None) -> Case:
    every = torch.arange(len(images))
    query = Query(images, every % 2, every + 20)
    return Case(classifier, query, Truth(every, every, torch.ones(len(images), SIDE, SIDE), None), method)


def noise(rows: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.rand(rows, 3, SIDE, SIDE, generator=source), torch.randn(rows, SIDE, SIDE, generator=source)


@torch.no_grad()
def score(text: str, maps: Tensor, case: Case) -> list[float]:
    found = parse_metric(text).score(maps, case)
    assert found.dtype == torch.float32
    return found.tolist()


class TestInfidelity:
    WEIGHTS = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    GREY = torch.full((2, 3, SIDE, SIDE), 0.5)
    NOISE = "infidelity:samples=8,perturbation=noise"  # of a spread at which no noise is cut off
    SQUARE = "infidelity:samples=8,baseline=black"

    @pytest.mark.parametrize(("text", "factor"), [(NOISE, 3), (SQUARE, 1.5)])
    def test_a_linear_network_has_a_faithful_map(self, text: str, factor: float) -> None:
        """The gradient, summed over the channels, for noise; times the image for the removal of pixels."""
        case = case_of(linear(self.WEIGHTS), self.GREY)
        case = case._replace(query=case.query._replace(targets=torch.zeros(2, dtype=torch.int64)))
        maps = (factor * self.WEIGHTS).expand(2, -1, -1)
        assert score(f"{text},scaled=false", maps, case) == pytest.approx([0, 0], abs=1e-8)
        assert min(score(f"{text},scaled=false", maps * 2, case)) > 1e-3
        for scale in (1, 7, -0.01):
            assert score(text, scale * maps, case) == pytest.approx([0, 0], abs=1e-8)
        assert min(score(text, maps + 1, case)) > 1e-5

    def test_a_map_of_zeros_leaves_all_unsaid(self) -> None:
        images, _ = noise(3)
        case, maps = case_of(lively_classifier(), images), torch.zeros(3, SIDE, SIDE)
        drops = slow_drops(Masking.of(maps, case), [Squared(number, "mean") for number in range(5)])
        for scaled in ("true", "false"):
            found = score(f"infidelity:samples=5,scaled={scaled}", maps, case)
            assert found == pytest.approx((drops**2).mean(1).tolist(), rel=1e-3)

    @pytest.mark.parametrize("scaled", [True, False])
    @pytest.mark.parametrize("output", ["logit", "probability"])
    @pytest.mark.parametrize(
        "options", ["perturbation=noise,spread=0.2", "perturbation=noise,spread=1.5", "baseline=blur"]
    )
    def test_is_captums(self, scaled: bool, output: str, options: str) -> None:
        classifier, (images, maps) = lively_classifier(), noise(4)
        case = case_of(classifier, images)
        masking, every = Masking.of(maps, case), torch.arange(4)
        text = f"infidelity:samples=6,{options},output={output},scaled={scaled}"
        kinds = parse_metric(text).options.perturbations()
        noisy = torch.stack([kind.images(masking, every) for kind in kinds], 1).flatten(0, 1)
        taken = torch.stack([kind.amounts(masking, every) for kind in kinds], 1).flatten(0, 1)

        def perturbed(repeated: Tensor) -> tuple[Tensor, Tensor]:
            differ = repeated - noisy
            return taken[:, None].expand_as(noisy) if "baseline" in options else differ, noisy

        # A third of the map for each channel
        thirds = (maps / 3)[:, None].expand_as(images)
        forward = classifier if output == "logit" else lambda asked: classifier(asked).softmax(1)
        expected = infidelity(
            forward, perturbed, images, thirds, target=case.query.targets, n_perturb_samples=6, normalize=scaled
        )
        found = score(text, maps, case)
        assert found == pytest.approx(expected.tolist(), rel=1e-3)
        assert min(found) > 0

    def test_the_noise_is_alike_in_the_channels(self) -> None:
        case = case_of(None, self.GREY)
        taken = Noisy(3, 0.1).images(Masking.of(torch.zeros(2, SIDE, SIDE), case), torch.arange(2)) - 0.5
        assert torch.equal(taken[:, 0], taken[:, 2])
        assert float(taken[:, 0].std()) == pytest.approx(0.1, rel=0.3)
        assert not torch.equal(taken[0], taken[1])

    def test_a_square_is_removed_and_nothing_else(self) -> None:
        images, maps = noise(6)
        masking, every = Masking.of(maps, case_of(None, images)), torch.arange(6)
        for number in range(20):
            kind = Squared(number, "mean")
            taken, changed = kind.amounts(masking, every), kind.images(masking, every)
            for row in range(6):
                down, across = taken[row].nonzero().unbind(1)
                side = int(down.max() - down.min()) + 1
                assert side <= 3  # 10 / 28 of eight pixels
                assert int(across.max() - across.min()) + 1 == side
                assert taken[row].sum() == side**2
            expected = torch.where(taken[:, None] > 0, images.mean((2, 3), keepdim=True), images)
            torch.testing.assert_close(changed, expected)

    def test_all_squares_are_as_likely(self) -> None:
        drawn = square(list(range(6000)), 5, 7)  # of 35 pixels and 24 squares of four
        squares, times = drawn.unique(dim=0, return_counts=True)
        assert len(squares) == 35 + 24
        assert float((times - 6000 / 59).abs().max()) < 4.5 * (6000 / 59) ** 0.5

    def test_bounds_and_batches(self) -> None:
        images, maps = noise(5)
        case = case_of(lively_classifier(), images)
        alone = case._replace(query=Query(*(each[2:3] for each in case.query)))
        for text in ("infidelity:samples=3", "infidelity:samples=3,perturbation=noise"):
            together = score(text, maps, case)
            assert score(text, maps[2:3], alone) == pytest.approx(together[2:3], rel=1e-2, abs=1e-8)
            assert score(text, maps * 8, case) == pytest.approx(together, rel=1e-4)
            assert min(together) >= 0


@torch.no_grad()
def slow_drops(masking: Masking, kinds: list[Perturbed]) -> np.ndarray:
    """The drop (B, samples) of each row's logit, one image at a time."""
    classifier, query = masking.case.classifier, masking.query
    drops = np.zeros((len(query.images), len(kinds)))
    for row, target in enumerate(query.targets.tolist()):
        for number, kind in enumerate(kinds):
            changed = kind.images(masking, torch.tensor([row]))
            drops[row, number] = float((classifier(query.images[row : row + 1]) - classifier(changed))[0, target])
    return drops


def squares(query: Query) -> Tensor:
    """A method that asks no network."""
    return (query.images.square() - query.images / 2).sum(1)


class TestMaxSensitivity:
    @pytest.mark.parametrize("radius", [0.02, 0.3])
    def test_is_captums(self, radius: float) -> None:
        images, _ = noise(4)
        case = case_of(None, images, squares)

        def perturbed(repeated: Tensor) -> Tensor:
            seeds = case.query.seeds.tolist()
            drawn = torch.stack([uniform(number, seeds, images) for number in range(5)], 1)
            return (repeated + radius * drawn.flatten(0, 1)).clamp(0, 1)

        def method(asked: Any) -> Any:  # Captum packs the images, but not the perturbed ones
            if isinstance(asked, tuple):
                return (method(asked[0]),)
            return squares(case.query._replace(images=asked))

        expected = sensitivity_max(method, images, perturbed, n_perturb_samples=5)
        found = score(f"max_sensitivity:samples=5,radius={radius}", squares(case.query), case)
        assert found == pytest.approx(expected.tolist(), rel=1e-5)
        assert min(found) > 0

    def test_noise_fills_the_ball(self) -> None:
        drawn = uniform(0, [1, 2], torch.zeros(2, 3, 40, 40))
        assert drawn.abs().max() <= 1
        assert float(drawn.std()) == pytest.approx(3**-0.5, rel=0.03)
        assert not torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn, uniform(1, [1, 2], torch.zeros(2, 3, 40, 40)))

    def test_a_method_that_does_not_look_is_insensitive(self) -> None:
        images, maps = noise(3)
        assert score("max_sensitivity", maps, case_of(None, images, lambda query: maps)) == [0, 0, 0]

    def test_the_worst_of_the_samples_counts(self) -> None:
        images, maps = noise(2)
        asked = []

        def fickle(query: Query) -> Tensor:
            asked.append(float((query.images - images).abs().max()))
            return maps * (1 + len(asked) % 4)

        found = score("max_sensitivity", maps, case_of(None, images, fickle))
        assert found == pytest.approx([3, 3])
        assert len(asked) == 10
        assert 0.01 < max(asked) <= 0.0201

    def test_a_zero_map_is_undefined(self) -> None:
        images, maps = noise(3)
        maps[1] = 0
        case = case_of(None, images, lambda query: maps + 1)
        assert [math.isnan(value) for value in score("max_sensitivity", maps, case)] == [False, True, False]

    @settings(max_examples=20, deadline=None)
    @given(hnp.arrays(np.float32, (2, SIDE, SIDE), elements=st.floats(-10, 10, width=32)), st.integers(-3, 3))
    def test_positive_scale_and_bounds(self, values: np.ndarray, power: int) -> None:
        images, maps = noise(2)[0], torch.from_numpy(values)
        scale = 2.0**power
        first = score("max_sensitivity:samples=2", maps, case_of(None, images, squares))
        second = score(
            "max_sensitivity:samples=2", maps * scale, case_of(None, images, lambda query: squares(query) * scale)
        )
        assert second == pytest.approx(first, rel=1e-4, nan_ok=True)
        assert all(math.isnan(value) or value >= 0 for value in first)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("infidelity:samples=0", "at least 1"),
        ("infidelity:spread=0", "more than 0"),
        ("infidelity:spread=nan", "more than 0"),
        ("infidelity:output=logits", "logit"),
        ("infidelity:perturbation=squares", "square"),
        ("infidelity:baseline=white", "baseline"),
        ("max_sensitivity:samples=0", "at least 1"),
        ("max_sensitivity:radius=-1", "more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, told: str) -> None:
    with pytest.raises(WrongUsage, match=told):
        parse_metric(text)
