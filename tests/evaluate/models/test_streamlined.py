"""The faster copy of a classifier, and passes in portions: the same answers, whatever the copy and the portions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.networks.batched_passes import (
    every_pair,
    input_gradient,
    logit,
    predict_perturbed,
    probability,
)
from an8flower.evaluate.models.streamlined import deviation, streamline

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


@pytest.mark.parametrize("kind", ["inplace", "reuse", "untraceable", "vit"])
def test_the_copy_gives_what_the_classifier_gives(kind: str, make: Make, query: MakeQuery) -> None:
    classifier = make(kind).eval()
    images = query(classifier).images
    before = classifier.digest
    torch.testing.assert_close(streamline(classifier)(images), classifier(images), rtol=1e-4, atol=1e-5)
    assert classifier.digest == before
    assert all(parameter.requires_grad for parameter in classifier.parameters())


@pytest.mark.parametrize("arch", ["flowernet", "resnet18", "mobilenet_v2"])
def test_no_batch_norm_is_left(arch: str) -> None:
    copy = streamline(build(arch, "abcd", 64, seed=0).eval()).network
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_the_copy_is_made_of_the_weights_as_they_are(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace").eval()
    images = query(classifier).images
    before = streamline(classifier)(images)
    with torch.no_grad():
        classifier.network.linear.bias += 1
        torch.testing.assert_close(streamline(classifier)(images), classifier(images))
        torch.testing.assert_close(before + 1, classifier(images))


class Wayward(nn.Module):
    """What torch.fx writes down of it is what it does at its first call only."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        factor = 1.0 if isinstance(images, torch.fx.Proxy) else 2.0
        return factor * self.features(images).mean((2, 3))


def test_a_graph_that_misses_something_is_not_used(query: MakeQuery) -> None:

    classifier = wrap(Wayward(), "abcd", 16, "features").eval()
    images = query(classifier).images
    torch.testing.assert_close(streamline(classifier)(images), classifier(images))


def test_passes_are_booked_on_the_classifier(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    asked = query(classifier)
    with classifier.counting() as cost:
        input_gradient(streamline(classifier), asked.images, asked.targets)
    assert (cost.forwards, cost.backwards) == (5, 5)


def test_half_precision_is_near_and_its_error_is_known(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    images = query(classifier).images
    coarse = streamline(classifier, "bf16")(images)
    assert coarse.dtype == torch.float32
    expected = (coarse.softmax(1) - classifier(images).softmax(1)).abs().amax(1).detach()
    found = deviation(classifier, images, "bf16")
    torch.testing.assert_close(found, expected)
    assert 0 < found.max() < 0.1
    assert deviation(classifier, images, "float32").max() < 1e-5
    with pytest.raises(WrongUsage, match='did you mean "bf16"'):
        streamline(classifier, "bf61")


@pytest.mark.parametrize("in_flight", [1, 3, 100])
def test_portions_do_not_change_answers(in_flight: int, make: Make, query: MakeQuery) -> None:
    classifier = make("inplace").eval()
    asked = query(classifier)
    classifier.in_flight = in_flight
    sizes = []

    def dimmed(rows: Tensor, numbers: Tensor) -> Tensor:
        sizes.append(len(rows))
        return asked.images[rows] * (numbers / 4).view(-1, 1, 1, 1)

    rows, numbers = every_pair(5, 4, torch.device("cpu"))
    for read in (logit, probability):
        found = predict_perturbed(classifier, asked.targets, rows, numbers, dimmed, read).view(5, 4)
        for row in range(5):
            for number in range(4):
                logits = classifier(asked.images[row : row + 1] * number / 4)[0].detach()
                slow = (logits.softmax(0) if read is probability else logits)[asked.targets[row]]
                torch.testing.assert_close(found[row, number], slow)
    assert max(sizes) <= in_flight


def test_gradients_in_portions_are_those_of_each_image_alone(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    asked = query(classifier)
    classifier.in_flight = 2
    found = input_gradient(classifier, asked.images, asked.targets, probability)
    for row in range(5):
        image = asked.images[row : row + 1].clone().requires_grad_()
        classifier(image).softmax(1)[0, asked.targets[row]].backward()
        torch.testing.assert_close(found[row], image.grad[0], rtol=1e-4, atol=1e-7)
