"""Occlusion against its closed form, a slow second version and Captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.images import REPLACEMENTS
from an8flower.evaluate.explainers.occlusion import Occlusion
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class Weighted(nn.Module):
    """The closed form: y = w.x + b."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.maps = nn.Identity()
        self.linear = nn.Linear(3 * side**2, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.maps(images).flatten(1))


def weighted(side: int) -> Classifier:
    torch.manual_seed(0)
    return wrap(Weighted(side), "abcd", side, "maps", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def test_tiles_hold_the_sum_of_their_weighted_pixels(query: MakeQuery) -> None:
    classifier = weighted(12)
    asked = query(classifier)
    weights = classifier.network.linear.weight.detach()[asked.targets].view_as(asked.images)
    tiles = (weights * asked.images).sum(1).unflatten(2, (3, 4)).unflatten(1, (3, 4)).sum((2, 4))
    expected = tiles.repeat_interleave(4, 1).repeat_interleave(4, 2)
    maps = explain(classifier, Occlusion(window=4, stride=4), asked).maps
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def slow_baseline(name: str, image: Tensor) -> Tensor:
    if name == "blur":
        sigma = image.shape[1] / 22.4
        return torch.from_numpy(gaussian_filter(image.numpy(), (0, sigma, sigma), mode="nearest"))
    value = {"black": torch.zeros(3), "white": torch.ones(3), "mean": image.flatten(1).mean(1)}[name]
    return value[:, None, None].expand_as(image)


def slow(classifier: Classifier, query: Query, window: int, stride: int, baseline: str, aggregate: str) -> Tensor:
    """Window by window, image by image."""
    maps = []
    for image, target in zip(query.images, query.targets.tolist(), strict=True):
        side, filled = image.shape[1], slow_baseline(baseline, image)
        total, times = torch.zeros(side, side), torch.zeros(side, side)
        clean = classifier(image[None])[0, target].item()
        for top in range(0, side - window + stride, stride):
            for left in range(0, side - window + stride, stride):
                place = (..., slice(top, top + window), slice(left, left + window))
                occluded = image.clone()
                occluded[place] = filled[place]
                total[place] += clean - classifier(occluded[None])[0, target].item()
                times[place] += 1
        maps.append(total / times if aggregate == "mean" else total)
    return torch.stack(maps)


GEOMETRIES = [(4, 4), (4, 2), (5, 3), (16, 1), (7, 5), (6, 6), (3, 3), (15, 2)]  # those of the contract have 16 pixels


@pytest.mark.parametrize(("window", "stride"), GEOMETRIES)
@pytest.mark.parametrize(("baseline", "aggregate"), [("black", "mean"), ("blur", "sum")])
@torch.no_grad()
def test_the_slow_version(
    make: Make, query: MakeQuery, window: int, stride: int, baseline: str, aggregate: str
) -> None:
    classifier = make("inplace").eval()
    asked = Query(*(tensor[:2] for tensor in query(classifier)))
    maps = explain(classifier, Occlusion(window, stride, baseline, aggregate), asked).maps
    torch.testing.assert_close(maps, slow(classifier, asked, window, stride, baseline, aggregate), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("baseline", REPLACEMENTS)
@torch.no_grad()
def test_the_baselines(make: Make, query: MakeQuery, baseline: str) -> None:
    classifier = make("reuse").eval()
    asked = Query(*(tensor[:2] for tensor in query(classifier)))
    maps = explain(classifier, Occlusion(4, 2, baseline), asked).maps
    torch.testing.assert_close(maps, slow(classifier, asked, 4, 2, baseline, "mean"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "stride"), GEOMETRIES)
@pytest.mark.parametrize("kind", ["inplace", "reuse"])
def test_captum_agrees(make: Make, query: MakeQuery, kind: str, window: int, stride: int) -> None:
    from captum.attr import Occlusion as Peer

    classifier = make(kind).eval()
    asked = query(classifier)
    shapes: dict[str, Any] = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    expected = Peer(classifier).attribute(asked.images, target=asked.targets, **shapes)
    maps = explain(classifier, Occlusion(window, stride), asked).maps
    torch.testing.assert_close(maps, expected[:, 0], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert maps.any()


def test_one_pass_for_the_image_and_one_for_each_window(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    for explainer, windows in ((Occlusion(), 15), (Occlusion(4, 4), 4), (Occlusion(5, 3), 5), (Occlusion(16), 1)):
        assert explain(classifier, explainer, query(classifier)).cost.forwards == 5 * (1 + windows**2)


def test_windows_that_change_nothing_cost_nothing(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    asked.images[0] = 0  # all windows
    asked.images[1, :, :8] = 0  # the upper half
    asked.images[2] = 0
    asked.images[2, :, 3, 3] = 1  # 2 x 2 of the windows hide it, and all of them nothing else
    asked.images[3] = 1
    explanation = explain(classifier, Occlusion(4, 2), asked)
    # 7 x 7 windows; the upper half hides 3 rows of them, and rows at 6 and 8 differ from each other.
    assert explanation.cost.forwards == (1 + 0) + (1 + 4 * 7) + (1 + 1) + 2 * (1 + 49)
    assert not explanation.maps[0].any()
    with torch.no_grad():
        expected = slow(classifier.eval(), asked, 4, 2, "black", "mean")
    torch.testing.assert_close(explanation.maps, expected, rtol=1e-3, atol=1e-4)


def test_never_more_images_than_may_be_in_flight(make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, sizes, count = make("inplace"), [], Classifier.count
    monkeypatch.setattr(Classifier, "count", lambda *call: sizes.append(len(call[1])) or count(*call))
    explain(classifier, Occlusion(), query(classifier), batch=3)
    assert max(sizes) == 3
    assert sizes.count(3) > 0.9 * len(sizes)


def test_half_precision(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    exact = explain(classifier, Occlusion(8, 8), asked).maps
    for halved, explainer in ((classifier, Occlusion(8, 8, precision="bf16")), (make("inplace"), Occlusion(8, 8))):
        maps = explain(halved if halved is classifier else halved.bfloat16(), explainer, asked).maps
        torch.testing.assert_close(maps, exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))
        assert not torch.equal(maps, exact)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"window": 0}, "window is 0; expected at least 1 pixel"),
        ({"stride": -2}, "stride is -2; expected at least 1 pixel"),
        ({"baseline": "blak"}, 'unknown baseline "blak"; did you mean "black"'),
        ({"aggregate": "max"}, 'unknown aggregate "max"'),
        ({"precision": "float16"}, 'unknown precision "float16"'),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        Occlusion(**parameters)


@pytest.mark.parametrize(
    ("explainer", "says"),
    [
        (Occlusion(17), "window is 17, the image 16 pixels; use a window of at most 16"),
        (Occlusion(4, 5), "stride 5 leaves pixels between windows of 4; use at most that"),
    ],
)
def test_windows_that_do_not_suit_the_image(make: Make, query: MakeQuery, explainer: Occlusion, says: str) -> None:
    classifier = make("inplace")
    with pytest.raises(WrongUsage, match=says):
        explain(classifier, explainer, query(classifier))
