"""Two derivations of what a model uses: they agree wherever a model is linear, and say why where they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.images import as_images
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.interventions.effect_map import WHY_UNDEFINED
from an8flower.evaluate.models.classifier import wrap
from an8flower.evaluate.trust.derivations import NO_EVIDENCE, NO_GRADIENT, compare_derivations, most_passes
from an8flower.store import FlowerStore

ROWS = 3


class Linear(nn.Module):
    """Logits that are weighted sums of the pixels, times a factor."""

    def __init__(self, size: int, classes: int, factor: float = 1.0) -> None:
        super().__init__()
        weights = torch.randn(classes, 3, size, size, generator=torch.Generator().manual_seed(0))
        self.eyes, self.weights = nn.Identity(), nn.Parameter(factor * weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", self.eyes(images), self.weights)


class BlackBox(Linear):
    """The same without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


def case_of(store: FlowerStore, network: nn.Module) -> Case:
    stored = store["test"].take(np.arange(ROWS))
    labels, masks, parts = map(torch.from_numpy, (stored.labels, stored.masks, stored.parts))
    model = wrap(network, store.class_names, store.size, "eyes", mean=(0, 0, 0), std=(1, 1, 1)).eval()
    query = Query(as_images(stored.images, torch.device("cpu")), labels, torch.arange(ROWS))
    world = World(store.spec, store["test"], torch.device("cpu"))
    return Case(model, query, Truth(torch.arange(ROWS), labels, masks, parts), None, world)


def test_a_linear_model_uses_what_both_derivations_say(store: FlowerStore) -> None:
    """A region's Shapley value is then the sum of its effects, whatever the orders."""
    case = case_of(store, Linear(store.size, len(store.class_names)))
    document = compare_derivations(case, seed=0, orders=1)
    assert document["mean"] == pytest.approx(1, abs=1e-6)
    assert document["lowest"] == pytest.approx(1, abs=1e-6)
    assert (document["n"], document["rows"], document["undefined"]) == (ROWS, ROWS, {})
    assert 0 < document["forwards"] <= most_passes(orders=1, regions=49, twins=5)
    assert 0 < document["backwards"] <= 32


def test_what_cannot_be_compared_has_its_reason(store: FlowerStore) -> None:
    classes = len(store.class_names)
    linear = case_of(store, Linear(store.size, classes))
    bare = linear._replace(truth=linear.truth._replace(masks=torch.zeros_like(linear.truth.masks)))
    cases = {
        NO_GRADIENT: case_of(store, BlackBox(store.size, classes)),
        WHY_UNDEFINED: case_of(store, Linear(store.size, classes, factor=0)),
        NO_EVIDENCE: bare,
    }
    for reason, case in cases.items():
        document = compare_derivations(case, seed=0, orders=1)
        assert document["undefined"] == {reason: ROWS}
        assert [document[key] for key in ("mean", "low", "high", "lowest", "n")] == [None, None, None, None, 0]
