"""Input gradients that are differentiated once more: beside torch's own way, and beside finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.evaluate.models import training_loss
from an8flower.evaluate.models.classifier import Card, Classifier, build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.networks.rectifiers import Rectifying
from an8flower.evaluate.models.networks.twice_differentiable import TwiceDifferentiable
from an8flower.evaluate.models.training_loss import loss_of

PENALTY = GradientPenalty("cosine", 0.7)


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loss, "precision", lambda device: None)


def slow_loss(classifier: Classifier, images: Tensor, labels: Tensor, penalty: GradientPenalty) -> Tensor:
    """The loss by torch alone: one pass for the guided gradient, another whose gradient torch differentiates."""
    leaf = classifier.normalise(images.float() / 255).requires_grad_()
    state = {name: values.clone() for name, values in classifier.network.state_dict().items()}
    with Rectifying("guided"):
        total = F.cross_entropy(classifier.network(leaf), labels, reduction="sum")
    (guided,) = torch.autograd.grad(total, leaf)
    classifier.network.load_state_dict(state)
    logits = classifier.network(leaf)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), leaf, create_graph=True)
    return F.cross_entropy(logits, labels) + penalty.strength * penalty.measure(gradient, guided)


def mixed(classes: int, size: int) -> nn.Module:
    """What the shipped networks lack: groups, dilation, a bias, a norm without weights, reflected padding."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, groups=3, bias=True),
        nn.BatchNorm2d(6, affine=False),
        nn.ReLU6(),
        nn.Conv2d(6, 8, 3, dilation=2, groups=2, padding="same", padding_mode="reflect"),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding="same"),
        nn.Hardtanh(0, 2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(classes),
    )


def prepare(arch: str, size: int) -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(5)
    if arch == "mixed":
        network = mixed(3, size)
        network(torch.zeros(2, 3, size, size))
        classifier = Classifier(network, Card("mixed", ("a", "b", "c"), size), "0")
    else:
        classifier = build(arch, ("a", "b", "c"), size, 0)
    images = torch.randint(256, (4, 3, size, size), dtype=torch.uint8)
    return classifier.train().double(), images, torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("arch", "size"),
    [("flowernet", 24), ("resnet18", 32), ("mobilenet_v2", 32), ("flowernet+ca-stream", 24), ("mixed", 24)],
)
def test_loss_gradients_and_statistics_are_those_of_torch(arch: str, size: int) -> None:
    outcomes = []
    for loss_function in (slow_loss, loss_of):
        classifier, images, labels = prepare(arch, size)
        for module in classifier.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loss = loss_function(classifier, images, labels, PENALTY)
        loss.backward()
        gradients = {name: values.grad for name, values in classifier.network.named_parameters()}
        outcomes.append((loss.item(), gradients, classifier.state_dict()))
    (slow, slow_gradients, slow_state), (fast, gradients, state) = outcomes
    assert fast == pytest.approx(slow, rel=1e-6)
    largest = max(values.abs().max().item() for values in slow_gradients.values() if values is not None)
    for name, values in slow_gradients.items():
        assert values is not None
        torch.testing.assert_close(gradients[name], values, rtol=1e-4, atol=1e-5 * largest, msg=name)
    for name, values in slow_state.items():
        torch.testing.assert_close(state[name], values, msg=name)


def small_network() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 4, 3, 2, groups=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4)]
    network = nn.Sequential(*layers, nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 9, 2)).double()
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    return network


def test_the_second_derivative_equals_finite_differences() -> None:
    """Of sum(dx * direction) by each weight; dx comes from torch alone on the side of the differences."""
    network = small_network()
    source = torch.Generator().manual_seed(1)
    images, direction = (torch.randn(5, 3, 8, 8, dtype=torch.float64, generator=source) for _ in range(2))

    def score() -> Tensor:
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf).square().sum(), leaf)
        return (gradient * direction).sum()

    leaf = images.clone().requires_grad_()
    with TwiceDifferentiable() as ways:
        total = network(leaf).square().sum()
    with ways.towards_inputs():
        (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
    (gradient * direction).sum().backward()
    assert leaf.grad is None  # which would cost, and nobody wants
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        for index in range(0, parameter.numel(), 7):
            ends = [_moved(score, parameter, index, step) for step in (1e-6, -1e-6)]
            assert parameter.grad.view(-1)[index].item() == pytest.approx(
                (ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-5
            )


def _moved(score: Callable[[], Tensor], parameter: Tensor, index: int, step: float) -> float:
    with torch.no_grad():
        parameter.view(-1)[index] += step
    value = score().item()
    with torch.no_grad():
        parameter.view(-1)[index] -= step
    return value


def test_a_guided_pass_is_guided_backpropagation() -> None:
    network = small_network()
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    gradients = []
    for rule in (Rectifying("guided"), TwiceDifferentiable()):
        leaf = images.clone().requires_grad_()
        with rule:
            total = network(leaf).square().sum()
        ways = rule if isinstance(rule, TwiceDifferentiable) else TwiceDifferentiable()
        with ways.towards_inputs(guided=True):
            gradients.append(torch.autograd.grad(total, leaf)[0])
    torch.testing.assert_close(gradients[1], gradients[0])
