"""The in-domain single deletion score against closed forms and a slow second version."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.idsds import PatchRemoval, average_patches, number_patches
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import Classifier, wrap

Make = Callable[[str], Classifier]
SIDE = 12


class PatchSum(nn.Module):
    """The logit of the first class is a weighted sum of the brightness of 4 x 4 patches, of the second its negative."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.eye = nn.Identity()
        self.weights = weights

    def forward(self, images: Tensor) -> Tensor:
        bright = torch.nn.functional.avg_pool2d(self.eye(images).mean(1), SIDE // 4).flatten(1)
        logit = bright @ self.weights
        return torch.stack([logit, -logit], 1)


def weights() -> Tensor:
    return torch.randperm(16, generator=torch.Generator().manual_seed(1)).float() - 7.5


def classifier_of(network: nn.Module) -> Classifier:
    return wrap(network, "ab", SIDE, "eye", mean=(0.0,) * 3, std=(1.0,) * 3).eval()


def case_of(classifier: Classifier, tuned: Classifier | None, images: Tensor, targets: Tensor) -> Case:
    every = torch.arange(len(images))
    masks = torch.ones(len(images), *images.shape[2:], dtype=torch.uint8)
    case = Case(classifier, Query(images, targets, every + 20), Truth(every, targets, masks, None))
    return case if tuned is None else case._replace(tune=lambda removal: tuned)


def score(text: str, maps: Tensor, case: Case) -> Tensor:
    with torch.no_grad():
        return parse_metric(text).score(maps, case)


def as_map(values: Tensor) -> Tensor:
    """A map (1, SIDE, SIDE) with a value for each patch."""
    return values.view(1, 4, 4).repeat_interleave(SIDE // 4, 1).repeat_interleave(SIDE // 4, 2)


class TestClosedForms:
    """White images lose black patches, so that the logit falls by a patch's weight."""

    def case(self, target: int = 0) -> Case:
        tuned, original = classifier_of(PatchSum(weights())), classifier_of(PatchSum(-weights()))
        return case_of(original, tuned, torch.ones(1, 3, SIDE, SIDE), torch.tensor([target]))

    def test_the_weights_are_the_right_map_for_the_fine_tuned_network(self) -> None:
        for text, sign in (("idsds:baseline=black", 1), ("idsds:baseline=black,tuned=false", -1)):
            assert score(text, as_map(weights()), self.case()).tolist() == pytest.approx([sign])
            assert score(text, -as_map(weights()).exp(), self.case()).tolist() == pytest.approx([-sign])
            assert score(text, as_map(weights()), self.case(target=1)).tolist() == pytest.approx([-sign])

    def test_two_places_changed(self) -> None:
        """Two neighbouring ranks exchanged: 1 - 6 * 2 / (16 (16^2 - 1))."""
        values = weights()
        low, high = int((values == 0.5).nonzero()), int((values == 1.5).nonzero())
        values[[low, high]] = values[[high, low]]
        assert score("idsds:baseline=black", as_map(values), self.case()).tolist() == pytest.approx([1 - 12 / 4080])

    def test_undefined_where_the_card_says_so(self) -> None:
        assert score("idsds:baseline=black", torch.full((1, SIDE, SIDE), 0.3), self.case()).isnan().all()
        even = self.case()
        even = even._replace(query=even.query._replace(images=torch.zeros(1, 3, SIDE, SIDE)))
        assert score("idsds:baseline=black", as_map(weights()), even).isnan().all()

    def test_random_maps_score_nothing_on_average(self) -> None:
        maps = torch.rand(400, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
        tuned = classifier_of(PatchSum(weights()))
        case = case_of(tuned, tuned, torch.ones(400, 3, SIDE, SIDE), torch.zeros(400, dtype=torch.int64))
        values = score("idsds:baseline=black", maps, case)
        # The correlation of random ranks has the variance 1 / (n - 1).
        assert float(values.std()) == pytest.approx(15**-0.5, rel=0.15)
        assert abs(float(values.mean())) < 4 * 15**-0.5 / 20
        metric = parse_metric("idsds")
        assert metric.chance is not None
        assert metric.chance(torch.ones(2, 3, 3)).tolist() == [0, 0]


@torch.no_grad()
def test_the_slow_version_gives_the_same(make: Make) -> None:
    """Image by image and patch by patch, with slices and SciPy; 16 px are four patches of four."""
    tuned, original = make("inplace").eval(), make("reuse").eval()
    source = torch.Generator().manual_seed(3)
    images, maps = torch.rand(3, 3, 16, 16, generator=source), torch.randn(3, 16, 16, generator=source)
    targets = torch.tensor([1, 0, 3])
    expected = []
    for image, values, target in zip(images, maps, targets.tolist(), strict=True):
        sums, drops = [], []
        for down in range(0, 16, 4):
            for right in range(0, 16, 4):
                changed = image.clone()
                changed[:, down : down + 4, right : right + 4] = image.mean((1, 2))[:, None, None]
                sums.append(float(values[down : down + 4, right : right + 4].sum()))
                drops.append(float(tuned(image[None])[0, target] - tuned(changed[None])[0, target]))
        expected.append(spearmanr(sums, drops)[0])
    case = case_of(original, tuned, images, targets)
    assert score("idsds", maps, case).tolist() == pytest.approx(expected, abs=1e-6)
    assert score("idsds:tuned=false", maps, case).tolist() != pytest.approx(expected, abs=1e-2)


class TestPatches:
    @settings(max_examples=8, deadline=None)
    @given(st.integers(2, 6), st.integers(6, 23), st.integers(6, 23))
    def test_every_patch_is_there_and_they_are_even(self, grid: int, height: int, width: int) -> None:
        patches = number_patches(grid, torch.zeros(height, width))
        sizes = patches.flatten().bincount(minlength=grid**2)
        assert len(sizes) == grid**2
        assert int(sizes.min()) >= (height // grid) * (width // grid) > 0
        maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(4))
        means = average_patches(maps, grid)
        expected = [[float(one[patches == number].double().mean()) for number in range(grid**2)] for one in maps]
        torch.testing.assert_close(means, torch.tensor(expected, dtype=torch.float64))

    def test_half_of_the_images_lose_one_patch(self) -> None:
        images = torch.randint(256, (400, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
        changed = PatchRemoval(4, "mean")(images, torch.Generator().manual_seed(6))
        assert changed.dtype == torch.uint8
        gone = (changed != images).any(1)
        lacking = gone.flatten(1).any(1)
        assert float(lacking.float().mean()) == pytest.approx(0.5, abs=0.1)
        assert len({tuple(one.flatten().tolist()) for one in gone}) == 17
        for one, image, before in zip(gone[lacking][:20], changed[lacking], images[lacking], strict=False):
            (number,) = number_patches(4, images)[one].unique().tolist()
            place = number_patches(4, images) == number
            colour = before.double().mean((1, 2)).round()
            np.testing.assert_array_equal(image[:, place].numpy(), colour[:, None].expand(3, 9).numpy())


@pytest.mark.parametrize(
    ("text", "why"), [("idsds:grid=1", "at least 2"), ("idsds:baseline=grey", "baseline"), ("idsds:steps=3", "steps")]
)
def test_what_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(WrongUsage, match=why):
        parse_metric(text)


def test_a_case_without_training_rows_and_a_grid_that_is_too_fine_are_refused() -> None:
    network = classifier_of(PatchSum(weights()))
    case = case_of(network, None, torch.ones(1, 3, SIDE, SIDE), torch.tensor([0]))
    with pytest.raises(WrongUsage, match="no training rows"):
        score("idsds", as_map(weights()), case)
    with pytest.raises(WrongUsage, match="at most 12"):
        score("idsds:grid=13,tuned=false", as_map(weights()), case)
