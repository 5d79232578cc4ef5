"""What filters see, what they look for, and what is left without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.evaluate.explainers.filters.filter_roles import (
    Ablation,
    ablation_curve,
    average_images,
    crop,
    mean_class_accuracy,
)
from an8flower.evaluate.explainers.filters.receptive_fields import AxisField, ReceptiveField, receptive_fields
from an8flower.evaluate.explainers.filters.relevant_filters import Filter, Relevance
from an8flower.evaluate.explainers.filters.responses import Listening
from an8flower.evaluate.models.classifier import Classifier, build, wrap


def classifier_of(network: nn.Module, size: int = 32) -> Classifier:
    return wrap(network, "abcd", size, "0", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def sequential(*layers: nn.Module) -> Classifier:
    return classifier_of(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4)))


# Receptive fields


def test_the_recursion() -> None:
    """Two convolutions of 3 pixels, a pooling of 2, another convolution: 10 pixels, in steps of 2."""
    classifier = sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(inplace=True),
    )
    first, last = receptive_fields(classifier)
    assert first == ReceptiveField(AxisField(-1, 2, 1), AxisField(-1, 2, 1))
    assert last.size == (10, 10)
    assert last.vertical.jump == 2
    assert (last.vertical.low + last.vertical.high) / 2 == 1  # the centre of the upper left pooled cell


class Block(nn.Module):
    """A residual block whose branches see differently much, joined by addition or by concatenation."""

    def __init__(self, joined: str) -> None:
        super().__init__()
        self.joined = joined
        self.wide = nn.Conv2d(3, 3, (5, 3), (2, 1), padding=(2, 1), dilation=(1, 3))
        self.narrow = nn.Conv2d(3, 3, 1, (2, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide, narrow = self.wide(x)[..., :28], self.narrow(x)[..., 2:-2]
        return F.relu(wide + narrow if self.joined == "add" else torch.cat([wide, narrow], 1))


NETWORKS = [
    lambda: sequential(
        nn.Conv2d(3, 4, 5, 2, 1), nn.ReLU(), nn.AvgPool2d(3, 2), nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()
    ),
    lambda: sequential(nn.Conv2d(3, 4, 3, padding="valid", dilation=2), nn.ReLU6(), nn.MaxPool2d(3, 1, 1), nn.ReLU()),
    lambda: sequential(nn.Conv2d(3, 4, (1, 5), (2, 3), (0, 2)), nn.MaxPool2d((3, 1)), nn.ReLU()),
    lambda: build("resnet18", "abcd", 128, seed=0).eval(),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_gradients_reach_as_far_as_the_field(make: Callable[[], Classifier]) -> None:
    """Weights that are all positive let the gradient of a unit in the middle show what it sees."""
    classifier = make()
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.constant_(module.weight, 0.1)
    for module in [*classifier.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # whose gradient reaches one pixel alone
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    kept: list[Tensor] = []
    leaves = torch.full((1, 3, classifier.size, classifier.size), 0.5, requires_grad=True)
    with Listening(lambda number, maps: kept.append(maps)):
        classifier(leaves)
    for maps, field in zip(kept[:8], receptive_fields(classifier), strict=False):
        unit = [size // 2 for size in maps.shape[2:]]
        (gradient,) = torch.autograd.grad(maps[0, 0, unit[0], unit[1]], leaves, retain_graph=True)
        for axis, span in enumerate(field):
            reached = gradient[0].abs().sum(0).sum(1 - axis).nonzero().flatten()
            start, stop = span.low + unit[axis] * span.jump, span.high + unit[axis] * span.jump
            assert reached.min() == max(start, 0)
            assert reached.max() == min(stop, classifier.size) - 1


@pytest.mark.parametrize("joined", ["add", "cat"])
def test_branches_are_joined(joined: str) -> None:
    (field,) = receptive_fields(sequential(Block(joined)))
    assert field == ReceptiveField(AxisField(-2, 3, 2), AxisField(-1, 6, 1))


# Average images


def test_crops_at_the_border() -> None:
    image = torch.arange(16.0).view(1, 4, 4)
    seen = crop(image, ReceptiveField(AxisField(-1, 2, 1), AxisField(-1, 2, 2)), torch.tensor([0, 1]))
    assert seen[0, 0].isnan().all()
    assert seen[0, 1:].tolist() == [[1, 2, 3], [5, 6, 7]]


def test_average_images_show_what_a_filter_looks_for() -> None:
    """A filter that answers to a bright red spot, in noise: the mean of many crops is the spot."""
    classifier = sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    convolution = classifier.network[0]
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[0, 0, 1, 1], convolution.bias.data = torch.tensor(1.0), torch.tensor([-0.6, -1.0])
    source = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 32, 32, generator=source) * 0.5
    rows, columns = torch.randint(0, 32, (2, 39), generator=source)
    images[torch.arange(39), 0, rows, columns] = 1.0  # not in the last one
    average, silent = average_images(classifier, images, [Filter(0, 0), Filter(0, 1)], count=100)
    assert average.shape == (3, 3, 3)
    assert average[0, 1, 1] == 1
    ring = [average[0, i, j] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    torch.testing.assert_close(torch.stack([*ring, *average[1:].flatten()]), torch.full((26,), 0.25), rtol=0, atol=0.12)
    assert not silent.any()


def test_average_images_take_the_strongest() -> None:
    classifier = sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU())
    nn.init.ones_(classifier.network[0].weight)
    images = torch.linspace(0.1, 0.9, 9)[:, None, None, None].expand(9, 3, 32, 32)
    (average,) = average_images(classifier, images, [Filter(0, 0)], count=2)
    torch.testing.assert_close(average, torch.full((3, 1, 1), 0.85))


# Ablation


class FourColours(nn.Module):
    """Four filters, each of which alone decides for its class, and four that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 8, 1), nn.Linear(8, 4, bias=False)
        weight = torch.cat([torch.eye(3), -torch.ones(5, 3)])[:, :, None, None]
        self.convolution.weight.data, self.convolution.bias.data = weight, torch.tensor([0.0] * 3 + [0.5] * 5)
        self.linear.weight.data = torch.eye(4, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.relu(self.convolution(images), inplace=True).mean((2, 3)))


@pytest.fixture
def colours() -> Classifier:
    return wrap(FourColours(), "rgbk", 8, "convolution", mean=(0, 0, 0), std=(1, 1, 1)).train()


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    """Red, green, blue and black images; more of the first."""
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 2, 3])
    return F.one_hot(labels, 4)[:, :3, None, None].expand(8, 3, 8, 8).float(), labels


def relevance_of(order: list[int]) -> Relevance:
    """Eight filters that are relevant in this order, the others not at all."""
    weights = torch.zeros(8, 4, dtype=torch.float64)
    for rank, channel in enumerate(order):
        weights[channel, rank % 4] = 10 - rank
    return Relevance(torch.tensor([0]), torch.tensor([8]), weights, torch.tensor(1.0))


def test_accuracy_counts_classes_alike(colours: Classifier, pictures: tuple[Tensor, Tensor]) -> None:
    assert mean_class_accuracy(colours, *pictures, []) == 1
    assert mean_class_accuracy(colours, *pictures, [Filter(0, 3)]) == pytest.approx(0.75)
    assert mean_class_accuracy(colours, *pictures, [Filter(0, 1), Filter(0, 2)]) == pytest.approx(0.5)
    assert colours.training


def test_relevant_filters_are_missed_and_others_are_not(colours: Classifier, pictures: tuple[Tensor, Tensor]) -> None:
    found = ablation_curve(colours, *pictures, relevance_of([1, 3, 2]), [0, 1, 2, 3], seeds=6)
    assert isinstance(found, Ablation)
    # Without its filter a class has no evidence, and the first class wins the tie.
    assert found.relevant.tolist() == [1.0, 0.75, 0.5, 0.25]
    assert found.random.shape == (6, 4)
    assert (found.random[:, 0] == 1).all()
    assert found.random[:, 3].mean() > 0.4
    again = ablation_curve(colours, *pictures, relevance_of([1, 3, 2]), [0, 1, 2, 3], seeds=6)
    assert torch.equal(found.random, again.random)
    assert found.random.unique(dim=0).shape[0] > 1


def test_no_more_are_silenced_than_are_relevant(colours: Classifier, pictures: tuple[Tensor, Tensor]) -> None:
    found = ablation_curve(colours, *pictures, relevance_of([1]), [1, 8], seeds=1)
    assert found.relevant.tolist() == [0.75, 0.75]
