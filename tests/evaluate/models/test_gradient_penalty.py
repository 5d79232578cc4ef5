"""The penalty on input gradients: closed forms, finite differences, a slow second version, and what it leaves alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.models import training_loss
from an8flower.evaluate.models.classifier import Card, Classifier, build
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.gradient_penalty import DISTANCES, GradientPenalty
from an8flower.evaluate.models.training import train
from an8flower.evaluate.models.training_loss import loss_of
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loss, "precision", lambda device: None)


def batch(classifier: Classifier, rows: int = 3) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(7)
    images = torch.randint(256, (rows, 3, classifier.size, classifier.size), generator=source, dtype=torch.uint8)
    return images, torch.arange(rows) % len(classifier.class_names)


@pytest.mark.parametrize(
    ("name", "value"),
    # With overlap min(3, 2) + min(0, 1) = 2, and both sums 3.
    [("mae", 1.0), ("mse", 1.0), ("cosine", 1 - 6 / (3 * math.sqrt(5))), ("histogram", 1 / 3)],
)
def test_distances_have_their_closed_forms(name: str, value: float) -> None:
    distance = DISTANCES[name](torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 1.0]]))
    assert distance.item() == pytest.approx(value, abs=1e-6)
    same = torch.tensor([[0.5, -2.0]])
    assert DISTANCES[name](same, same).item() == pytest.approx(0, abs=1e-6)
    assert DISTANCES[name](torch.zeros(1, 2), torch.zeros(1, 2)).isfinite().all()


class ThreeWeights(nn.Module):
    """logit 0 = w relu(a x1 + b x2), logit 1 = 0, for the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.7, -0.4, 1.3], dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        first, second, last = self.weights
        means = images.mean((2, 3))
        hidden = F.relu(torch.stack([first * means[:, 0] + second * means[:, 1], -means[:, 2] * first], 1))
        logit = last * hidden[:, 0] - hidden[:, 1]
        return torch.stack([logit, torch.zeros_like(logit)], 1)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scalar", ["loss", "logit"])
def test_the_gradient_of_the_penalty_equals_finite_differences(distance: str, scalar: str) -> None:
    network = ThreeWeights()
    penalty = GradientPenalty(distance, 0.5, scalar)  # type: ignore[arg-type]
    images = torch.rand(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.3
    labels = torch.tensor([0, 1, 0, 1])
    target = 0.1 * torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def value() -> Tensor:
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(penalty.total(network(leaf), labels), leaf, create_graph=True)
        return penalty.strength * penalty.measure(gradient, target)

    (gradient,) = torch.autograd.grad(value(), network.weights)
    for index in range(3):
        ends = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                network.weights[index] += step
            ends.append(value().item())
            with torch.no_grad():
                network.weights[index] -= step
        assert gradient[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=2e-2, abs=2e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_without_a_relu_that_blocks_there_is_no_penalty(distance: str) -> None:
    """Guided backpropagation of a linear network is backpropagation."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    classifier = Classifier(network, Card("linear", ("a", "b"), 2), "0")
    images, labels = batch(classifier)
    plain = loss_of(classifier, images, labels)
    penalised = loss_of(classifier, images, labels, GradientPenalty(distance, 1.0))  # type: ignore[arg-type]
    assert penalised.item() == pytest.approx(plain.item(), abs=1e-5)


def guided_by_hooks(classifier: Classifier, normalised: Tensor, labels: Tensor) -> Tensor:
    """Guided backpropagation as it is mostly written: hooks on ReLU modules that clamp what goes back."""
    hooks = [
        module.register_full_backward_hook(lambda _module, inputs, _outputs: (inputs[0].clamp(min=0),))
        for module in classifier.network.modules()
        if isinstance(module, nn.ReLU)
    ]
    leaf = normalised.clone().requires_grad_()
    try:
        F.cross_entropy(classifier.network(leaf), labels, reduction="sum").backward()
    finally:
        for hook in hooks:
            hook.remove()
    assert leaf.grad is not None
    return leaf.grad


def test_a_row_at_a_time_gives_the_same_penalty() -> None:
    classifier = build("resnet18", ("a", "b", "c"), 32, 0)
    classifier.eval()  # so that rows do not depend on each other
    for module in classifier.network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    images, labels = batch(classifier)
    penalty = GradientPenalty("cosine", 2.0)
    distances = []
    for i in range(len(images)):
        normalised = classifier.normalise(images[i : i + 1].float() / 255)
        leaf = normalised.clone().requires_grad_()
        (plain,) = torch.autograd.grad(F.cross_entropy(classifier.network(leaf), labels[i : i + 1]), leaf)
        guided = guided_by_hooks(classifier, normalised, labels[i : i + 1])
        distances.append(1 - F.cosine_similarity(plain.flatten(), guided.flatten(), dim=0).item())
    whole = loss_of(classifier, images, labels, penalty) - loss_of(classifier, images, labels)
    assert whole.item() == pytest.approx(2.0 * sum(distances) / 3, abs=1e-4)
    assert whole.item() / 2 > 0.05  # it is a penalty


def test_running_statistics_are_updated_once_and_dropout_is_drawn_once() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    network.append(nn.Linear(4 * 36, 2))
    classifier = Classifier(network, Card("small", ("a", "b"), 8), "0")
    images, labels = batch(classifier)
    states = []
    for penalty in (None, GradientPenalty("mae", 0.0)):
        classifier.train()
        network[1].reset_running_stats()  # type: ignore[operator]
        torch.manual_seed(3)
        loss = loss_of(classifier, images, labels, penalty)
        states.append(
            (loss.item(), network[1].running_mean.clone(), network[1].num_batches_tracked.item(), torch.rand(1))
        )  # type: ignore[union-attr, operator]
    (plain, plain_mean, *plain_rest), (penalised, mean, *rest) = states
    assert plain == pytest.approx(penalised, abs=1e-6)
    assert torch.equal(plain_mean, mean)
    assert plain_rest == rest
    assert rest[0] == 1


@pytest.mark.parametrize("distance", DISTANCES)
def test_it_trains_in_mixed_precision(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = build("flowernet", ("a", "b"), 24, 0).train()
    images, labels = batch(classifier)
    penalty = GradientPenalty(distance, 0.1)  # type: ignore[arg-type]
    exact = loss_of(classifier, images, labels, penalty)
    monkeypatch.setattr(training_loss, "precision", lambda device: torch.bfloat16)
    loss = loss_of(classifier, images, labels, penalty)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)
    gradients = [parameter.grad for parameter in classifier.network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_training_makes_the_gradients_agree() -> None:
    penalty = GradientPenalty("cosine", 1.0)
    classifier = build("flowernet", ("a", "b", "c"), 32, 0).train()
    images, labels = batch(classifier, 12)
    optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
    values = []
    for _ in range(30):
        loss = loss_of(classifier, images, labels, penalty)
        values.append((loss - loss_of(classifier, images, labels)).item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert values[-1] < values[0] - 0.3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cosines",), 'gradient penalty "cosines": expected one of cosine, mae, mse, histogram'),
        (("cosine", -1.0), "strength -1: expected a number of at least 0"),
        (("cosine", math.nan), "strength nan: expected a number of at least 0"),
        (("cosine", 1.0, "label"), 'gradient of "label": expected one of loss, logit'),
    ],
)
def test_what_is_no_penalty_is_refused(arguments: tuple[object, ...], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        GradientPenalty(*arguments)  # type: ignore[arg-type]


def test_networks_without_relus_are_refused_before_they_train(small_file: Path) -> None:
    with pytest.raises(Refusal, match="a gradient penalty needs ReLUs alone, and convnext_tiny uses gelu; leave"):
        train(FlowerStore(small_file), "convnext_tiny", penalty=GradientPenalty())


def test_the_command_trains_with_it(run: Run, small_file: Path, tmp_path: Path) -> None:
    words = ["train", "--data", small_file, "--epochs", 1, "--device", "cpu", "-o", "m.safetensors"]
    told = json.loads(run(*words, "--gradient-penalty", "mse", "--strength", 0.5, "--json").stdout)
    assert told["epochs"] == 1
    assert load(tmp_path / "m.safetensors").card.data["gradient_penalty"].startswith("mse, strength 0.5")
    done = run(*words, "--strength", 0.5, check=False)
    assert done.returncode == 2
    assert "--strength goes with --gradient-penalty" in done.stderr
