"""Copies of a network are kept while it stays, and made anew as soon as anything of it changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from an8flower.evaluate.models import streamlined
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.kept_copies import KeptCopies
from an8flower.evaluate.models.streamlined import streamline


@pytest.fixture
def classifier() -> Classifier:
    return build("flowernet", ("a", "b"), 32, 0).eval()


def test_outside_a_block_every_copy_is_new(classifier: Classifier) -> None:
    assert streamline(classifier).network is not streamline(classifier).network
    with classifier.keeping():
        inside = streamline(classifier).network
        assert streamline(classifier).network is inside
        assert streamline(classifier, "bf16").network is not inside
        with classifier.keeping():  # an inner block uses what the outer one keeps
            assert streamline(classifier).network is inside
        with classifier.keeping_nothing():
            assert streamline(classifier).network is not inside
    assert streamline(classifier).network is not inside


def scale(classifier: Classifier) -> None:
    with torch.no_grad():
        next(classifier.network.parameters()).mul_(2)


def replace_data(classifier: Classifier) -> None:
    weights = next(classifier.network.parameters())
    weights.data = weights.data * 2


def replace_module(classifier: Classifier) -> None:
    name, module = next((name, module) for name, module in classifier.named_modules() if isinstance(module, nn.Conv2d))
    owner, _, last = name.rpartition(".")
    replacement = copy.deepcopy(module)
    replacement.weight = nn.Parameter(module.weight.detach() * 2)
    setattr(classifier.get_submodule(owner), last, replacement)


def load(classifier: Classifier) -> None:
    classifier.load_state_dict(build("flowernet", ("a", "b"), 32, 1).state_dict())


@pytest.mark.parametrize("change", [scale, replace_data, replace_module, load])
def test_a_change_is_seen(classifier: Classifier, change: Callable[[Classifier], None]) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), classifier.keeping():
        before, digest = streamline(classifier)(images), classifier.digest
        change(classifier)
        after, expected = streamline(classifier)(images), classifier(images)
        assert classifier.digest != digest
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before, after, atol=1e-3)


def test_blocks_share_what_they_are_given_and_work_is_done_once(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, fold = [], streamlined.fold
    monkeypatch.setattr(streamlined, "fold", lambda *args: made.append(args) or fold(*args))
    kept = KeptCopies()
    for _ in range(3):
        with classifier.keeping(kept):
            streamline(classifier)
    assert len(made) == 1
    assert copy.deepcopy(classifier)._kept is None


def test_the_oldest_makes_room(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.models.kept_copies.MEMORY", 1)
    with classifier.keeping():
        first = streamline(classifier).network
        second = streamline(classifier, "bf16").network
        assert streamline(classifier, "bf16").network is second  # the last one is kept whatever it takes
        assert streamline(classifier).network is not first


def test_copies_of_inference_mode_are_not_used_for_gradients(classifier: Classifier) -> None:
    with classifier.keeping():
        with torch.inference_mode():
            streamline(classifier)
        image = torch.rand(1, 3, 32, 32).requires_grad_()
        streamline(classifier)(image).sum().backward()
    assert image.grad is not None
