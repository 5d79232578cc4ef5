"""The copy that rules run on: every operation a module, and what has no rule found by its name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable
from an8flower.evaluate.explaining.contract_networks import CLASSES, build_reuse, build_vit, randomise_weights
from an8flower.evaluate.models.canonical import copy_canonically
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.networks.modules import first_linear_layers, sees_pixels, tap, unknown_operations

KNOWN = (nn.Conv2d, nn.Linear)


class Around(nn.Module):
    """A convolution, an operation under test, the mean, and a linear layer."""

    def __init__(self, operation: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(channels, len(CLASSES))
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.operation(self.convolution(x)).mean((2, 3)))


def around(operation: Callable[[Tensor], Tensor], channels: int = 4) -> Classifier:
    return wrap(randomise_weights(Around(operation, channels)), CLASSES, 12, "convolution").eval()


def kinds(network: nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.children()]


def grown(x: Tensor) -> Tensor:
    x = x + 0
    x += x * 2
    return x


OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True), ["MaxPool2d"]),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 2, stride=1), ["MaxPool2d"]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, padding=1, count_include_pad=False), ["AvgPool2d"]),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(F.adaptive_max_pool2d(x, 6), (2, 3)), ["MaxPool2d", "AvgPool2d"]),
    "mean": (lambda x: torch.mean(x, dim=-1, keepdim=True), ["Mean"]),
    "relu": (lambda x: torch.relu_(F.relu(x.relu(), inplace=True) + 0), ["ReLU", "ReLU", "Constant", "ReLU"]),
    "others": (lambda x: F.leaky_relu(F.elu(x, 0.5), 0.3).tanh(), ["ELU", "LeakyReLU", "Tanh"]),
    "dropout": (lambda x: F.dropout(x, training=False), ["Identity"]),
    "numbers": (lambda x: (1 + 2 * x - 0.5).div(4) / 2, ["Constant"] * 5),
    "sum": (lambda x: x + x.mean(1, keepdim=True), ["Mean", "Sum"]),
    "in place": (grown, ["Constant", "Constant", "Sum"]),
    "moves": (lambda x: torch.cat(x.permute(0, 2, 1, 3).transpose(1, 2).chunk(2, 1)[::-1], 1).view(x.shape), []),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_become_modules(name: str) -> None:
    operation, expected = OPERATIONS[name]
    classifier = around(operation)
    known = tuple(fx_kinds(classifier))
    network = copy_canonically(classifier, "it", known)
    images = classifier.probe(2)
    torch.testing.assert_close(network(images), classifier.network(images), rtol=1e-4, atol=1e-4)
    found = [kind.removeprefix("Adaptive") for kind in kinds(network)]
    assert sorted(found) == sorted([*expected, "Conv2d", "Linear", "Mean"])
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def fx_kinds(classifier: Classifier) -> list[type[nn.Module]]:
    """All modules that there may be: whatever no module stands for is refused all the same."""
    from an8flower.evaluate.models.networks import modules as place

    ours = (*place.LINEAR, *place.NORMS, *place.MEANS, *place.MAXIMA, place.Constant)
    return [*ours, nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Identity]


STRANGERS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "gate": (lambda x: x * x.sigmoid(), "mul"),
    "square": (lambda x: x * x, "mul"),
    "difference": (lambda x: x - x.flip(1), "flip and sub"),
    "reciprocal": (lambda x: 2 / x, "truediv"),
    "from a number": (lambda x: 2 - x, "sub"),
    "clamp": (lambda x: x.clamp(min=0), "clamp"),
    "detached": (lambda x: x.detach(), "detach"),
    "attribute": (lambda x: x.mT, "getattr"),
    "method without dim": (lambda x: x + x.mean(), "mean"),
    "tensor as a number": (lambda x: x / x.shape[0] + x.numel() * x, "truediv and mul"),
    "alpha": (lambda x: torch.add(x, x, alpha=2), "add"),
    "pool of a size": (lambda x: F.avg_pool2d(x, x.size(3)), "avg_pool2d"),
    "active dropout": (lambda x: F.dropout(x, 0.0), "dropout"),
    "activation": (lambda x: F.gelu(x), "GELU"),
    "norm": (lambda x: F.layer_norm(x, (12,)), "layer_norm"),
    "batch statistics": (nn.BatchNorm2d(4, track_running_stats=False), "BatchNorm2d without running statistics"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_operations_without_a_rule_are_named(name: str) -> None:
    operation, expected = STRANGERS[name]
    classifier = around(operation)
    known = [*fx_kinds(classifier), nn.Sigmoid]
    with pytest.raises(NotApplicable, match=f"^it has no rule for {expected} in Around; use gradcam$"):
        copy_canonically(classifier, "it", known)


def test_transformers_are_sent_to_their_own_method() -> None:
    with pytest.raises(NotApplicable, match=r"LayerNorm.*MultiheadAttention.* in VisionTransformer; use tibav"):
        copy_canonically(build_vit(), "it", KNOWN)


def test_shapes_may_be_computed_with() -> None:
    classifier = around(lambda x: x.reshape(x.size(0), x.shape[1] // 2 * 2, -1, x.shape[3] + 0))
    assert not unknown_operations(copy_canonically(classifier, "it", fx_kinds(classifier)), {*fx_kinds(classifier)})


def test_a_graph_that_misses_something_is_refused() -> None:
    class Aliased(Around):
        """Changes in place what is read later by another name."""

        def forward(self, x: Tensor) -> Tensor:
            x = self.convolution(x)
            same = x
            F.relu(x, inplace=True)
            return self.linear(same.mean((2, 3)))

    classifier = wrap(randomise_weights(Aliased(nn.Identity())), CLASSES, 12, "convolution")
    with pytest.raises(NotApplicable, match="Aliased computes something that torch.fx does not see"):
        copy_canonically(classifier, "it", fx_kinds(classifier))


def test_weights_are_as_they_are_now_in_single_precision() -> None:
    classifier = build_reuse().eval()
    for change in (lambda c: c, lambda c: nn.init.ones_(c.network.linear.weight), lambda c: c.bfloat16()):
        change(classifier)
        network = copy_canonically(classifier, "it", fx_kinds(classifier))
        assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
        assert not any(tensor.requires_grad for tensor in network.parameters())
        expected = copy.deepcopy(classifier.network).float()(classifier.probe(2).float())
        torch.testing.assert_close(network(classifier.probe(2).float()), expected, rtol=1e-4, atol=1e-4)


# Places in the graph.


class TwoStems(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.left, self.right, self.late = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1)
        self.linear = nn.Linear(4, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        both = self.left(self.drop(x)) + self.right(F.max_pool2d(x, 1))
        return self.linear(self.late(torch.cat([both, x], 1)).mean((2, 3)))


def stems() -> tuple[Classifier, fx.GraphModule]:
    classifier = wrap(randomise_weights(TwoStems()), CLASSES, 12, "late").eval()
    return classifier, copy_canonically(classifier, "it", fx_kinds(classifier))


def test_entrances_are_the_layers_that_no_other_precedes() -> None:
    _, network = stems()
    first = first_linear_layers(network)
    assert sorted(first) == ["left", "right"]
    assert {name: sees_pixels(network, node) for name, node in first.items()} == {"left": True, "right": False}


def test_a_tap_gives_the_layer_besides_the_logits() -> None:
    classifier, network = stems()
    images = classifier.probe(2)
    seen: list[Any] = []
    with classifier.network.late.register_forward_hook(lambda module, inputs, output: seen.append(output)):
        logits = classifier.network(images)
    for found, expected in zip(tap(network, "late")(images), (logits, seen[0]), strict=True):
        torch.testing.assert_close(found, expected)
    with pytest.raises(NotApplicable, match='the layer "nowhere" does not show in the graph'):
        tap(network, "nowhere")


def test_a_tap_without_a_layer_gives_the_input() -> None:
    classifier, network = stems()
    images = classifier.probe(2)
    assert tap(network, None)(images)[1] is images
