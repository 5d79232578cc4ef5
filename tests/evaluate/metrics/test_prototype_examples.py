"""Rows that are shown as examples of prototypes: which are chosen, and that what prototypes add makes the logit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from an8flower.evaluate.data.images import as_images
from an8flower.evaluate.metrics.prototypes.examples import RESEMBLED, ChosenRow, choose_rows, find_examples
from an8flower.evaluate.metrics.prototypes.judge import PrototypeJudge
from an8flower.evaluate.models.classifier import wrap
from an8flower.evaluate.models.prototypes.network import PrototypeNetwork
from an8flower.evaluate.models.prototypes.pipnet import PipNet
from an8flower.evaluate.models.prototypes.protopnet import ProtoPNet
from an8flower.evaluate.results.prototype_examples import MISTAKEN, NARROW, TYPICAL
from an8flower.evaluate.trust.by_hand.scenes import SIZE, spec_of
from an8flower.factors import PARTS
from an8flower.generate import generate
from an8flower.store import FlowerStore

CLASSES = ("red", "green", "blue")


@given(arrays(np.int8, (7, 3), elements=st.integers(0, 9)), arrays(np.int8, 7, elements=st.integers(0, 2)))
def test_examples_are_those_that_a_reader_would_find_by_hand(logits: np.ndarray, labels: np.ndarray) -> None:
    """The median, the largest and the smallest margin, by going through the rows one by one."""
    rows = []
    for place, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        first, second, _ = sorted(row, reverse=True)
        rows.append((first - second, place, row.index(first) == label))
    right = sorted((margin, place) for margin, place, is_right in rows if is_right)
    wrong = sorted((-margin, place) for margin, place, is_right in rows if not is_right)
    expected = {}
    for rule, ordered, index in ((TYPICAL, right, (len(right) - 1) // 2), (MISTAKEN, wrong, 0), (NARROW, right, 0)):
        if ordered and ordered[index][1] not in expected:
            expected[ordered[index][1]] = rule
    assert choose_rows(logits, labels) == [ChosenRow(place, rule) for place, rule in expected.items()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    """Rows of a scene in which petals and backgrounds have bright colours, and all else is grey."""
    path = tmp_path_factory.mktemp("data") / "tiny.h5"
    generate(spec_of("backdrop"), path, workers=1)
    return FlowerStore(path)


def backbone() -> nn.Sequential:
    """Untrained: 6 channels on a grid of 11 x 11 cells for 42 px."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU())


def make_network(kind: str) -> PrototypeNetwork:
    torch.manual_seed(3)
    if kind == "protopnet":
        return ProtoPNet(backbone(), 6, len(CLASSES), 4)
    return PipNet(backbone(), 6, 8, len(CLASSES))


@pytest.mark.parametrize("kind", ["protopnet", "pipnet"])
def test_what_prototypes_add_makes_the_logit(store: FlowerStore, kind: str) -> None:
    """By hand from the network itself: the sum for ProtoPNet, log(1 + s^2) of it for PIP-Net; parts from the maps."""
    network = make_network(kind).eval()
    classifier = wrap(network, CLASSES, SIZE, "backbone")
    split = store["test"]
    rows = split.take(np.arange(9))
    images = classifier.normalise(as_images(rows.images, classifier.device))
    with torch.no_grad():
        maps, logits = network.locate(images).double().numpy(), network(images).double().numpy()
    weights = network.weights.detach().double().numpy()
    examples = find_examples(PrototypeJudge(classifier, split, np.arange(9), None))
    assert examples
    for example in examples:
        predicted = int(logits[example.row].argmax())
        added = weights[predicted] * maps[example.row].max((1, 2))
        assert example.predicted == predicted
        assert example.total == pytest.approx(added.sum())
        made = np.log1p(example.total**2) if kind == "pipnet" else example.total
        assert example.logit == pytest.approx(made, abs=1e-5)
        order = sorted(range(len(added)), key=lambda number: -abs(added[number]))[:RESEMBLED]
        assert [entry.number for entry in example.resembles] == [number for number in order if added[number]]
        for entry in example.resembles:
            assert entry.contribution == pytest.approx(added[entry.number])
            assert maps[example.row, entry.number][entry.cell] == pytest.approx(entry.similarity, abs=1e-4)
            shown = rows.parts[example.row][entry.box.top : entry.box.bottom, entry.box.left : entry.box.right]
            assert entry.share == pytest.approx((shown == PARTS.index(entry.part)).mean())
        assert example.rest == pytest.approx(added.sum() - sum(entry.contribution for entry in example.resembles))
        next_best = int(np.argsort(-logits[example.row])[1])
        assert example.rival == (next_best if example.label == predicted else example.label)
