"""The small networks that the tests of classifiers and explainers share, and queries for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.evaluate.case import Query
from an8flower.evaluate.classifier import Classifier, build, wrap

CLASSES = ("rose", "lily", "aster", "iris")
MakeQuery = Callable[[Classifier], Query]


class InPlaceNet(nn.Module):
    """Convolutions with in-place ReLUs, then the mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 6, 3, 2, 1)
        self.features = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
        self.linear = nn.Linear(6, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean((2, 3)))


class ReuseNet(nn.Module):
    """A residual block with batch norm, dropout, one ReLU module that is used three times, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        x = F.relu(self.relu(inner + x) - 0.1)
        return self.linear(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class UntraceableNet(InPlaceNet):
    """A network whose path depends on the data, so that torch.fx cannot follow it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else x + 1)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, and running statistics, that let every class and channel matter."""
    source = torch.Generator().manual_seed(seed)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=source) - 0.4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.data.abs_().add_(0.5)  # type: ignore[union-attr]
    return network


def make_classifier(kind: str) -> Classifier:
    if kind == "vit":
        classifier = build("flowervit", CLASSES, 28, seed=0)
        # torchvision starts the last layer at zero, which would leave every gradient zero.
        nn.init.normal_(classifier.network.heads.head.weight, generator=torch.Generator().manual_seed(1))
        return classifier
    kinds = {
        "inplace": (InPlaceNet, "features"),
        "reuse": (ReuseNet, "bn2"),
        "untraceable": (UntraceableNet, "features"),
    }
    network, layer = kinds[kind]
    return wrap(lively(network()), CLASSES, 16, layer)


@pytest.fixture(params=["inplace", "reuse", "vit"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """A CNN with in-place ReLUs, one with batch norm and reused modules, a vision transformer; all in training mode."""
    return make_classifier(request.param).train()


@pytest.fixture
def make() -> Callable[[str], Classifier]:
    """One of these classifiers by its name."""
    return make_classifier


@pytest.fixture
def query() -> MakeQuery:
    """Five random images for a classifier."""

    def make(classifier: Classifier) -> Query:
        source = torch.Generator().manual_seed(5)
        images = torch.rand(5, 3, classifier.size, classifier.size, generator=source)
        return Query(images, torch.tensor([0, 1, 2, 3, 1]), torch.arange(5) + 7)

    return make
