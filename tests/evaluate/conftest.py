"""The small networks that the tests of classifiers and explainers share, and queries for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower import spec as specs
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.world import Photographs, World
from an8flower.evaluate.explaining.contract_networks import CLASSES, InPlaceNet, ReuseNet, randomise_weights
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.factors import PARTS
from an8flower.generate import generate
from an8flower.store import FlowerStore

MakeQuery = Callable[[Classifier], Query]
MakeCase = Callable[..., Case]

collect_ignore = ["audits/faulty_explainers.py"]  # it registers metrics: only tests that want them import it


class UntraceableNet(InPlaceNet):
    """A network whose path depends on the data, so that torch.fx cannot follow it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else x + 1)


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
    return wrap(randomise_weights(network()), CLASSES, 16, layer)


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


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads cost more than they save on networks and images as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class MeanLinear(nn.Module):
    """A network whose explanations are known in closed form: A_k = relu(x_k), y = W mean(A) + b."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(self.relu(images.clone()), 1).flatten(1))


@pytest.fixture
def closed() -> Classifier:
    """That network, with weights of both signs."""
    network = MeanLinear()
    with torch.no_grad():
        network.linear.weight.copy_(torch.randn(4, 3, generator=torch.Generator().manual_seed(2)))
        network.linear.bias.copy_(torch.randn(4, generator=torch.Generator().manual_seed(3)))
    return wrap(network, "abcd", 8, "relu", mean=(0.5, 0.5, 0.5), std=(1, 1, 1)).eval()


class Coded(World):
    """A world whose pictures say nothing but which part each pixel is: its id, in eighths, in every channel."""

    def photograph(self, table: np.ndarray) -> Photographs:
        parts = super().photograph(table).parts
        return Photographs((parts / 8)[:, None].expand(-1, 3, -1, -1).contiguous(), parts)


class PartReader(nn.Module):
    """Additive in the parts that are seen in such pictures: logits = weights (C, P) @ seen (P,) + bias (C,)."""

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.eyes = nn.Identity()
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        ids = (self.eyes(images)[:, 0] * 8).round().flatten(1)
        seen = torch.stack([(ids == part).any(1) for part in range(len(PARTS))], 1)
        return seen.float() @ self.weights.T + self.bias


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> MakeCase:
    """Rows of a preset at 32 px in a coded world, with a reader of weights {(class, part): weight} and biases by class.

    `rows` are taken from the 24 of the test split.
    """

    @cache
    def store(preset: str) -> FlowerStore:
        path: Path = tmp_path_factory.mktemp("coded") / f"{preset}.h5"
        generate(specs.load(preset).with_changes(rows=120, size=32), path, workers=1)
        return FlowerStore(path)

    def make(
        preset: str,
        weights: dict[tuple[int, str], float],
        bias: dict[int, float] | None = None,
        rows: range = range(24),
        split: str = "test",
    ) -> Case:
        table, offset = torch.zeros(len(store(preset).class_names), len(PARTS)), torch.zeros(12)
        for (label, part), weight in weights.items():
            table[label, PARTS.index(part)] = weight
        for label, value in (bias or {}).items():
            offset[label] = value
        reader = PartReader(table, offset[: len(table)])
        names = store(preset).class_names
        classifier = wrap(reader, names, 32, "eyes", mean=(0, 0, 0), std=(1, 1, 1)).eval()
        half = store(preset)[split]
        found, indices = half.take(np.array(rows)), torch.tensor(list(rows))
        labels, masks, parts = (torch.from_numpy(each) for each in (found.labels, found.masks, found.parts))
        world = Coded(half.store.spec, half, torch.device("cpu"))
        query = Query(world.photograph(found.factors).images, labels, indices + 7)
        return Case(classifier, query, Truth(indices, labels, masks, parts), None, world)

    return make
