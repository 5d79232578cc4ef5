"""F-Fidelity against closed forms and a slow second version."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.ffidelity import PixelRemoval, SampleGone
from an8flower.evaluate.metrics.masking import Masking
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.fine_tuning import RandomRemoval
from an8flower.evaluate.seeds import generator, seed_of

Make = Callable[[str], Classifier]
SIDE, KEY = 10, (3, 4)


class BrightKey(nn.Module):
    """Two classes; the first is there where one pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        share = (self.eye(images)[..., KEY[0], KEY[1]].mean(1) > 0.5).double()
        return torch.stack([share, 1 - share], 1).clamp(min=1e-320).log()


def case_of(classifier: Classifier, tuned: Classifier, images: Tensor, targets: Tensor | None = None) -> Case:
    every = torch.arange(len(images))
    targets = every * 0 if targets is None else targets
    masks = torch.ones(len(images), *images.shape[2:], dtype=torch.uint8)
    truth = Truth(every, targets, masks, None)
    return Case(classifier, Query(images, targets, every + 20), truth, tune=lambda removal: tuned)


def key_case(rows: int) -> Case:
    """White images, of which the network sees one pixel."""
    network = wrap(BrightKey(), "ab", SIDE, "eye", mean=(0.0,) * 3, std=(1.0,) * 3).eval()
    return case_of(network, network, torch.ones(rows, 3, SIDE, SIDE))


def key_maps(rows: int) -> Tensor:
    maps = torch.zeros(rows, SIDE, SIDE)
    maps[:, KEY[0], KEY[1]] = 1
    return maps


def score(text: str, maps: Tensor, case: Case) -> Tensor:
    with torch.no_grad():
        return parse_metric(text).score(maps, case)


class TestClosedForms:
    def test_where_all_of_the_share_goes(self) -> None:
        text = "ffidelity:alpha=1,beta=1,baseline=black,samples=1"
        assert score(text, key_maps(1), key_case(1)).tolist() == [1]
        assert score(text, -key_maps(1), key_case(1)).tolist() == [-1]

    @pytest.mark.parametrize(("alpha", "beta", "expected"), [(0.5, 1.0, 0.5), (1.0, 0.1, 0.1 / 0.5), (0.5, 0.4, 0.5)])
    def test_the_pixel_that_counts_goes_as_often_as_its_share_allows(
        self, alpha: float, beta: float, expected: float
    ) -> None:
        """Of half of the pixels min(alpha, beta / 0.5) go, and the key is among the largest half."""
        text = f"ffidelity:alpha={alpha},beta={beta},baseline=black,steps=1,samples=8"
        values = score(text, key_maps(30), key_case(30))
        assert float(values.mean()) == pytest.approx(expected, abs=4 * 0.5 / 240**0.5)
        upside_down = score(f"{text},order=least", -key_maps(30), key_case(30))
        assert float(upside_down.mean()) == pytest.approx(-expected, abs=4 * 0.5 / 240**0.5)

    def test_random_maps_score_nothing_on_average(self) -> None:
        maps = torch.rand(60, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        values = score("ffidelity:alpha=1,beta=1,baseline=black,steps=1,samples=1", maps, key_case(60))
        assert set(values.tolist()) == {-1.0, 1.0}
        assert abs(float(values.mean())) < 4 / 60**0.5
        metric = parse_metric("ffidelity")
        assert metric.chance is not None
        assert metric.chance(torch.ones(2, 3, 3)).tolist() == [0, 0]


def slow(tuned: Classifier, image: Tensor, one_map: Tensor, target: int, seed: int) -> float:
    """One image at a time: the pixels of each share, and of those the ones with the least of the seed's numbers."""
    places = sorted((float(one_map[down, right]), down, right) for down in range(16) for right in range(16))
    means = {}
    for end, order in (("least", places), ("most", places[::-1])):
        outputs = []
        for count in (85, 170):  # a third and two thirds of 256
            for number in range(3):
                draws = torch.rand(16, 16, generator=generator(seed_of("ffidelity", number, seed)))
                chosen = sorted((float(draws[down, right]), down, right) for _, down, right in order[:count])
                changed = image.clone()
                for _, down, right in chosen[: int(min(0.5 * count, 0.2 * 256))]:
                    changed[:, down, right] = image.mean((1, 2))
                outputs.append(float(tuned(changed[None])[0].double().softmax(0)[target]))
        means[end] = np.mean(outputs)
    return float(means["least"] - means["most"])


@torch.no_grad()
def test_the_slow_version_gives_the_same(make: Make) -> None:
    tuned, original = make("inplace").eval(), make("reuse").eval()
    source = torch.Generator().manual_seed(2)
    images, maps = torch.rand(3, 3, 16, 16, generator=source), torch.randn(3, 16, 16, generator=source)
    case = case_of(original, tuned, images, torch.tensor([1, 0, 3]))
    rows = zip(images, maps, case.query.targets.tolist(), case.query.seeds.tolist(), strict=True)
    expected = [slow(tuned, *row) for row in rows]
    assert score("ffidelity:steps=2,samples=3,beta=0.2", maps, case).tolist() == pytest.approx(expected, abs=2e-5)
    assert max(map(abs, expected)) > 1e-4


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 80), st.integers(1, 20), st.integers(0, 5))
def test_what_goes_is_of_the_share_and_no_more(start: int, length: int, number: int) -> None:
    maps = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    masking = Masking.of(maps, key_case(3))
    gone = SampleGone(start, start + length, length // 2, number, "black")
    together = gone.choose(masking, torch.arange(3))
    assert together.flatten(1).sum(1).tolist() == [length // 2] * 3
    assert ((masking.ranks >= start) & (masking.ranks < start + length))[together].all()
    assert torch.equal(gone.choose(masking, torch.tensor([2]))[0], together[2])


def test_training_images_lose_up_to_a_share_of_their_pixels() -> None:
    images = torch.full((300, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    changed = PixelRemoval(0.1, "black")(images, torch.Generator().manual_seed(4))
    counts = (changed == 0).all(1).flatten(1).sum(1)
    assert set(counts.tolist()) == set(range(11))
    assert float(counts.float().mean()) == pytest.approx(5, abs=4 * 3.2 / 300**0.5)
    assert (changed == 0).all(1).flatten(1).sum(0).min() > 0


def test_the_network_is_fine_tuned_on_what_the_metric_takes_away() -> None:
    removals: list[RandomRemoval] = []
    case = key_case(1)

    def tune(removal: RandomRemoval) -> Classifier:
        removals.append(removal)
        return case.classifier

    score("ffidelity:beta=0.3,baseline=blur,samples=1", key_maps(1), case._replace(tune=tune))
    assert removals == [PixelRemoval(0.3, "blur")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ffidelity:alpha=0", "alpha is 0"),
        ("ffidelity:beta=1.5", "at most 1"),
        ("ffidelity:samples=0", "at least 1"),
        ("ffidelity:baseline=grey", "baseline"),
        ("ffidelity:order=last", "order"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(WrongUsage, match=why):
        parse_metric(text)
