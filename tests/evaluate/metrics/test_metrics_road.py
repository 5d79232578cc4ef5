"""ROAD against closed forms, a slow second version with dense equations, and pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pytorch_grad_cam.metrics import road as peer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.imputation import impute
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.metrics.road import blur_maps, noise_of
from an8flower.evaluate.models.classifier import Classifier, wrap

Make = Callable[[str], Classifier]
SIDE, KEY = 10, (3, 4)


class KeyNet(nn.Module):
    """Two classes; the first is there where one pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        share = (self.eye(images)[..., KEY[0], KEY[1]].mean(1) > 0.5).double()
        return torch.stack([share, 1 - share], 1).clamp(min=1e-320).log()


def case_of(classifier: Classifier, images: Tensor, targets: Tensor | None = None) -> Case:
    every = torch.arange(len(images))
    targets = every * 0 if targets is None else targets
    masks = torch.ones(len(images), *images.shape[2:], dtype=torch.uint8)
    return Case(classifier, Query(images, targets, every + 20), Truth(every, targets, masks, None))


def key_case(rows: int = 1) -> Case:
    """Black images with one white pixel, which alone the network sees."""
    images = torch.zeros(rows, 3, SIDE, SIDE)
    images[..., KEY[0], KEY[1]] = 1
    return case_of(wrap(KeyNet(), "ab", SIDE, "eye", mean=(0.0,) * 3, std=(1.0,) * 3).eval(), images)


def key_map() -> Tensor:
    maps = torch.zeros(1, SIDE, SIDE)
    maps[0][KEY] = 1
    return maps


def score(text: str, maps: Tensor, case: Case) -> Tensor:
    with torch.no_grad():
        return parse_metric(text).score(maps, case)


class TestImputation:
    def test_one_gone_pixel_is_the_mean_of_its_neighbours(self) -> None:
        images = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
        kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
        for place in ((2, 2), (0, 0), (0, 3)):
            gone = torch.zeros(1, 5, 5, dtype=torch.bool)
            gone[0][place] = True
            patch = torch.nn.functional.pad(images, (1, 1, 1, 1))[
                0, :, place[0] : place[0] + 3, place[1] : place[1] + 3
            ]
            inside = torch.nn.functional.pad(torch.ones(5, 5), (1, 1, 1, 1))
            weights = kernel * inside[place[0] : place[0] + 3, place[1] : place[1] + 3]
            expected = (patch * weights).sum((1, 2)) / weights.sum()
            torch.testing.assert_close(impute(images, gone)[0, :, place[0], place[1]], expected)

    def test_a_slope_goes_on_through_a_hole(self) -> None:
        down, right = torch.meshgrid(torch.linspace(0, 1, 12), torch.linspace(0, 1, 12), indexing="ij")
        images = torch.stack([down, right, (down + right) / 2])[None]
        gone = torch.zeros(1, 12, 12, dtype=torch.bool)
        gone[0, 3:9, 2:10] = True
        torch.testing.assert_close(impute(images, gone), images)

    def test_nothing_gone_and_everything_gone(self) -> None:
        images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
        gone = torch.zeros(2, 6, 6, dtype=torch.bool)
        gone[1] = True
        filled = impute(images, gone)
        assert torch.equal(filled[0], images[0])
        torch.testing.assert_close(filled[1], images[1].mean((1, 2), keepdim=True).expand(3, 6, 6))

    @settings(max_examples=10, deadline=None)
    @given(hnp.arrays(np.bool_, (7, 6)), st.integers(0, 9))
    def test_against_dense_equations(self, gone: np.ndarray, seed: int) -> None:
        image = np.random.default_rng(seed).random((3, 7, 6))
        filled = impute(torch.from_numpy(image)[None].float(), torch.from_numpy(gone)[None])[0].numpy()
        assert np.array_equal(filled[:, ~gone], image.astype(np.float32)[:, ~gone])
        if not gone.all():
            assert filled == pytest.approx(slow_imputation(image, gone), abs=1e-6)
            assert filled.min() >= image[:, ~gone].min() - 1e-6
            assert filled.max() <= image[:, ~gone].max() + 1e-6


def slow_imputation(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """One equation for every pixel of the image, gone or not, in a dense matrix."""
    height, width = gone.shape
    matrix, right = np.eye(height * width), image.reshape(3, -1).T.copy()
    for down in range(height):
        for across in range(width):
            if not gone[down, across]:
                continue
            line = np.zeros(height * width)
            for near in range(max(0, down - 1), min(height, down + 2)):
                for beside in range(max(0, across - 1), min(width, across + 2)):
                    apart = abs(near - down) + abs(beside - across)
                    line[near * width + beside] = (0, -1 / 6, -1 / 12)[apart]
            line[down * width + across] = -line.sum()
            matrix[down * width + across], right[down * width + across] = line, 0
    return np.linalg.solve(matrix, right).T.reshape(3, height, width)


class TestClosedForms:
    def test_the_pixel_that_counts(self) -> None:
        assert score("road", key_map(), key_case()).tolist() == [1]
        assert score("road", -key_map(), key_case()).tolist() == [-1]
        for order, right, wrong in (("most", 1, 0), ("least", 0, -1)):
            assert score(f"road:order={order}", key_map(), key_case()).tolist() == [right]
            assert score(f"road:order={order}", -key_map(), key_case()).tolist() == [wrong]

    def test_of_an_even_image_nothing_can_be_taken(self) -> None:
        case = key_case()
        even = case._replace(query=case.query._replace(images=torch.ones(1, 3, SIDE, SIDE) * 0.7))
        for order in ("both", "most", "least"):
            assert score(f"road:order={order}", key_map(), even).tolist() == [0]

    def test_random_maps_score_nothing_on_average(self) -> None:
        rows = 100
        maps = torch.rand(rows, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
        values = score("road:steps=1", maps, key_case(rows))  # half of the pixels go: 1, or -1
        assert set(values.tolist()) == {-1.0, 1.0}
        assert abs(float(values.mean())) < 4 / rows**0.5
        metric = parse_metric("road")
        assert metric.chance is not None
        assert metric.chance(torch.ones(2, 3, 3)).tolist() == [0, 0]

    def test_constant_maps_are_put_in_an_order_by_chance(self) -> None:
        for name in ("road", "road_blurred"):
            values = score(f"{name}:steps=1", torch.full((12, SIDE, SIDE), 0.3), key_case(12))
            assert set(values.tolist()) == {-1.0, 1.0}


def slow_road(classifier: Classifier, image: Tensor, one_map: Tensor, target: int, noise: Tensor) -> float:
    """One image at a time, each pixel that goes in a plain loop."""
    places = sorted((float(one_map[down, right]), down, right) for down in range(16) for right in range(16))
    means = {}
    for end, order in (("least", places), ("most", places[::-1])):
        shares = []
        for count in (64, 128, 192):  # a quarter, a half, three quarters of 16 x 16
            gone = np.zeros((16, 16), bool)
            for _, down, right in order[:count]:
                gone[down, right] = True
            filled = slow_imputation(image.double().numpy(), gone)
            filled[:, gone] = np.clip(filled[:, gone] + 0.05 * noise.numpy()[:, gone], 0, 1)
            logits = classifier(torch.from_numpy(filled)[None].float())[0].double()
            shares.append(float(logits.softmax(0)[target]))
        means[end] = np.mean(shares)
    return float(means["least"] - means["most"])


@torch.no_grad()
def test_the_slow_version_gives_the_same(make: Make) -> None:
    classifier = make("inplace").eval()
    source = torch.Generator().manual_seed(4)
    images, maps = torch.rand(3, 3, 16, 16, generator=source), torch.randn(3, 16, 16, generator=source)
    case = case_of(classifier, images, torch.tensor([0, 2, 3]))
    noise = noise_of(case.query.seeds.tolist(), images)
    expected = [
        slow_road(classifier, images[row], maps[row], int(case.query.targets[row]), noise[row]) for row in (0, 1, 2)
    ]
    assert score("road:steps=3,noise=0.05", maps, case).tolist() == pytest.approx(expected, abs=2e-5)
    assert max(map(abs, expected)) > 1e-3


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # it gives tensors to NumPy
class TestPytorchGradCam:
    """Fed our classifier, which normalises inside, it fills in pixels of images in [0, 1], as we do."""

    SHARES = (25, 50, 75)  # where a percentile of 256 pixels is no pixel's value, so that as many go

    def case(self, make: Make) -> tuple[Case, Tensor]:
        source = torch.Generator().manual_seed(5)
        images = torch.rand(3, 3, 16, 16, generator=source)
        maps = torch.stack([torch.randperm(256, generator=source).view(16, 16) / 256 for _ in images])
        return case_of(make("inplace").eval(), images, torch.arange(3)), maps

    def score_theirs(self, case: Case, maps: Tensor, noise: float) -> np.ndarray:
        targets = [ClassifierOutputSoftmaxTarget(int(target)) for target in case.query.targets]
        inputs = (case.query.images, maps.numpy(), targets, case.classifier)
        imputer = peer.NoisyLinearImputer(noise)
        least, most = (
            [peer.PerturbationConfidenceMetric(kind(100 - share, imputer))(*inputs) for share in self.SHARES]
            for kind in (peer.RemoveLeastRelevantFirst, peer.RemoveMostRelevantFirst)
        )
        return np.mean(least, axis=0) - np.mean(most, axis=0)

    def test_without_noise(self, make: Make) -> None:
        case, maps = self.case(make)
        theirs = self.score_theirs(case, maps, 0.0)
        assert score("road:steps=3,noise=0", maps, case).numpy() == pytest.approx(theirs, abs=1e-5)
        assert np.abs(theirs).max() > 0.01

    def test_with_noise_within_its_spread(self, make: Make) -> None:
        case, maps = self.case(make)
        torch.manual_seed(0)
        theirs = np.stack([self.score_theirs(case, maps, 0.01) for _ in range(6)])
        ours = score("road:steps=3", maps, case).numpy()
        exact = score("road:steps=3,noise=0", maps, case).numpy()
        assert np.abs(ours - theirs.mean(0)).max() < 5 * theirs.std(0).max()
        assert 0 < np.abs(ours - exact).max() < 5 * theirs.std(0).max()


class TestBlurredCopy:
    def test_it_is_what_the_blurred_map_scores(self, make: Make) -> None:
        source = torch.Generator().manual_seed(6)
        case = case_of(make("inplace").eval(), torch.rand(3, 3, 16, 16, generator=source))
        maps = torch.randn(3, 16, 16, generator=source)
        blurred = torch.from_numpy(gaussian_filter(maps.double().numpy(), (0, 1.6, 1.6), mode="nearest")).float()
        torch.testing.assert_close(blur_maps(maps, 0.1), blurred, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(score("road_blurred:sigma=0.1", maps, case), score("road", blurred, case))

    def test_it_is_always_scored_beside_road(self) -> None:
        assert [metric.name for metric in parse_metrics(["road"])] == ["road", "road_blurred"]
        texts = ["road:steps=2,order=most", "iou"]
        expected = ["road:steps=2,order=most", "road_blurred:steps=2,order=most", "iou"]
        assert [metric.name for metric in parse_metrics(texts)] == expected

    def test_road_prefers_it_to_a_grainy_map(self) -> None:
        """Pixels left between pixels that are gone tell what those were: a map of every other pixel takes nothing."""
        side = 16
        images = torch.zeros(1, 3, side, side)
        images[:, :, 4:12, 4:12] = 1
        classifier = wrap(MeanNet(), "ab", side, "eye", mean=(0.0,) * 3, std=(1.0,) * 3).eval()
        down, right = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        grainy = (images[:, 0] * ((down + right) % 2)).float()
        values = [
            float(score(f"{name}:order=most,noise=0", grainy, case_of(classifier, images)))
            for name in ("road", "road_blurred")
        ]
        assert values[1] > values[0] + 0.05


class MeanNet(nn.Module):
    """Two classes; the probability of the first is twice the brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        share = (2 * self.eye(images).double().mean((1, 2, 3))).clamp(0, 1)
        return torch.stack([share, 1 - share], 1).clamp(min=1e-320).log()


def test_batches_change_nothing(make: Make) -> None:
    source = torch.Generator().manual_seed(7)
    case = case_of(make("reuse").eval(), torch.rand(4, 3, 16, 16, generator=source))
    maps = torch.randn(4, 16, 16, generator=source)
    metrics = parse_metrics(["road:steps=2"])
    with torch.no_grad():
        together = score_all(metrics, maps, case)
        query = Query(*(values[2:3] for values in case.query))
        alone = score_all(metrics, maps[2:3], case._replace(query=query))
    for name, values in alone.items():
        torch.testing.assert_close(values, together[name][2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("road:order=first", "order"),
        ("road:steps=0", "at least 1"),
        ("road:noise=-1", "at least 0"),
        ("road:output=logit", "output"),
        ("road_blurred:sigma=0", "more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(WrongUsage, match=why):
        parse_metric(text)
