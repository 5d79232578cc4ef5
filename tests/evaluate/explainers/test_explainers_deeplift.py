"""DeepLift against a closed form, a slow second version, and Captum where Captum can be asked."""

from __future__ import annotations

from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.images import REPLACEMENTS
from an8flower.evaluate.explainers.deeplift import DeepLift
from an8flower.evaluate.explaining.contract_networks import (
    CLASSES,
    ReuseNet,
    build_in_place,
    build_reuse,
    build_vit,
    randomise_weights,
)
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.networks.batched_passes import logit


def query(classifier: Classifier, rows: int = 3) -> Query:
    images = torch.rand(rows, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(3))
    return Query(images, torch.arange(rows) % len(classifier.class_names), torch.arange(rows))


def gain(classifier: Classifier, asked: Query, baseline: str) -> Tensor:
    """What the logit gains over that of the baseline."""
    both = (asked.images, REPLACEMENTS[baseline](asked.images))
    ours, theirs = (logit(classifier.eval()(images), asked.targets).detach() for images in both)
    return ours - theirs


def test_two_layers() -> None:
    """x = (1, 2) / 2: units that rise to 4 and 1 pass their weights on, one that stays off passes none."""
    convolution, linear = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 2, bias=False)
    convolution.weight.data = torch.tensor([[1.0, -1, 0], [2, 1, 0], [-1, 1, 0]])[:, :, None, None]
    linear.weight.data = torch.tensor([[1.0, 1, -1], [0, 0, 0]])
    network = nn.Sequential(convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    classifier = wrap(network, "ab", 2, "0", (0, 0, 0), (1, 1, 1)).eval()
    images = torch.tensor([0.5, 1, 0.7]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    found = DeepLift().attribution(classifier, Query(images, torch.tensor([0]), torch.tensor([0])))
    torch.testing.assert_close(found.sum((0, 2, 3)), torch.tensor([1.5, 0, 0]))


class Overlapping(nn.Module):
    """A capped ReLU, which Captum does not know, and windows that overlap, where it loses contributions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 3, 1, 1), nn.Linear(64, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.max_pool2d(F.relu6(8 * self.convolution(x) / 2), 3, 2, 1).flatten(1))


def overlapping() -> Classifier:
    return wrap(randomise_weights(Overlapping()), CLASSES, 8, "convolution").eval()


def windows(before: Tensor, i: int, j: int) -> tuple[int, int]:
    """The position of the maximum in the window (i, j)."""
    places = [(y, x) for y in range(2 * i - 1, 2 * i + 2) for x in range(2 * j - 1, 2 * j + 2)]
    return max((at for at in places if min(at) >= 0 and max(at) < 8), key=lambda at: float(before[at]))


def slowly(classifier: Classifier, image: Tensor, begin: Tensor, target: int) -> Tensor:
    """Multipliers layer by layer, position by position."""
    net = classifier.network
    pixels, reference = (classifier.normalise(each[None])[0] for each in (image, begin))
    wide, base = (4 * net.convolution(each[None])[0].detach() for each in (pixels, reference))
    high, low = wide.clamp(0, 6), base.clamp(0, 6)
    weights = net.linear.weight[target].detach().view(4, 4, 4)
    owed = torch.zeros_like(high)
    for k, i, j in torch.cartesian_prod(*[torch.arange(4)] * 3).tolist():
        here, there = windows(high[k], i, j), windows(low[k], i, j)
        top = max(high[k][here], low[k][there])
        owed[k][here] += weights[k, i, j] * (top - low[k][there])
        owed[k][there] += weights[k, i, j] * (high[k][here] - top)
    # What a position is owed, by the difference of what enters the activation; the slope of the activation cancels.
    multipliers = torch.where(wide != base, owed / (wide - base), 0.0)
    back = F.conv_transpose2d(4 * multipliers[None], net.convolution.weight.detach(), padding=1)[0]
    return (pixels - reference) * back


@pytest.mark.parametrize("baseline", ["black", "blur"])
def test_the_slow_version_agrees(baseline: str) -> None:
    classifier = overlapping()
    asked = query(classifier)
    begin = REPLACEMENTS[baseline](asked.images)
    rows = [slowly(classifier, *some) for some in zip(asked.images, begin, asked.targets.tolist(), strict=True)]
    found = DeepLift(baseline=baseline).attribution(classifier, asked)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("baseline", REPLACEMENTS)
@pytest.mark.parametrize("make", [build_in_place, build_reuse, overlapping])
def test_contributions_add_up_to_the_gain(make: Any, baseline: str) -> None:
    classifier = make()
    asked = query(classifier)
    total = explain(classifier, DeepLift(baseline=baseline), asked).maps.sum((1, 2))
    torch.testing.assert_close(total, gain(classifier, asked, baseline), rtol=1e-3, atol=1e-4)


def captums(network: nn.Module, classifier: Classifier, asked: Query, begin: Tensor) -> Tensor:
    """Captum on a network that it can take."""
    pixels, reference = (classifier.normalise(each) for each in (asked.images, begin))
    with pytest.warns(UserWarning, match="Setting forward, backward hooks"):
        found = captum.attr.DeepLift(network.eval()).attribute(pixels.requires_grad_(), reference, target=asked.targets)
    return found.detach()


class Apart(nn.Module):
    """A new tensor between two layers: where none is, Captum's hooks run in the wrong order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def test_captum_agrees_on_a_plain_network() -> None:
    body = nn.Conv2d(3, 6, 3), nn.ReLU(), Apart(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.Tanh(), nn.AvgPool2d(2)
    network = randomise_weights(
        nn.Sequential(*body, nn.Flatten(), nn.Linear(32, 8), nn.ELU(), nn.Linear(8, len(CLASSES)))
    )
    classifier = wrap(network, CLASSES, 14, "4").double().eval()
    asked = query(classifier)
    for baseline in ("black", "blur"):
        expected = captums(network, classifier, asked, REPLACEMENTS[baseline](asked.images))
        found = DeepLift(baseline=baseline).attribution(classifier, asked)
        torch.testing.assert_close(found, expected)


class WithoutReuse(nn.Module):
    """The network that reuses a module, written out for Captum."""

    def __init__(self, network: ReuseNet) -> None:
        super().__init__()
        self.body = nn.Sequential(network.conv1, network.bn1, nn.ReLU(), network.conv2, network.bn2)
        self.stem = nn.Sequential(network.stem, nn.ReLU())
        self.first, self.second = nn.ReLU(), nn.ReLU()
        self.linear = network.linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.linear(self.second(self.first(self.body(x) + x) - 0.1).mean((2, 3)))


def test_captum_agrees_on_a_network_written_out_for_it() -> None:
    classifier = build_reuse().double().eval()
    asked = query(classifier)
    expected = captums(WithoutReuse(classifier.network), classifier, asked, torch.zeros_like(asked.images))
    found = DeepLift().attribution(classifier, asked)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("batch", [2, 4])
def test_costs(batch: int) -> None:
    classifier = build_reuse()
    cost = explain(classifier, DeepLift(), query(classifier), batch=batch).cost
    assert (cost.forwards, cost.backwards) == (6, 6)


def test_no_more_images_at_once_than_allowed() -> None:
    classifier = build_in_place().eval()
    sizes: list[int] = []
    classifier.network.linear.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    classifier.in_flight = 4
    DeepLift()(classifier, query(classifier, rows=5))
    assert max(sizes) == 4


def test_what_does_not_apply() -> None:
    with pytest.raises(NotApplicable, match=r"deeplift has no rule for .* in VisionTransformer; use tibav"):
        explain(build_vit(), DeepLift(), query(build_vit()))
    with pytest.raises(WrongUsage, match='unknown baseline "blak"; did you mean "black"'):
        DeepLift(baseline="blak")
