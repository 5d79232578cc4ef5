"""Rules for the gradients of ReLUs: closed forms, every way to write a ReLU, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable
from an8flower.evaluate.explaining.contract_networks import NETWORKS, build_in_place, build_reuse
from an8flower.evaluate.models.networks.rectifiers import Rectifying, Rule, require_relus

RULES: list[Rule] = ["guided", "deconvnet"]
Function = Callable[[Tensor], Tensor]


def through(
    rule: Rule, function: Function, values: Sequence[float], arriving: Sequence[float]
) -> tuple[Tensor, list[float]]:
    """What a function gives, and what goes on of a gradient that arrives at its output."""
    leaf = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    with Rectifying(rule):
        output = function(leaf * 1)  # a leaf itself cannot be changed in place
    (gradient,) = torch.autograd.grad(output, leaf, torch.tensor(arriving, dtype=torch.float32))
    return output.detach(), gradient.tolist()


@pytest.mark.parametrize(
    ("values", "arriving", "plain", "deconvnet", "guided"),
    [
        ([1, -1], [2.0, 3], [2, 0], [2, 3], [2, 0]),
        ([1, 1], [-2.0, 3], [-2, 3], [0, 3], [0, 3]),
        ([0, -1], [1.0, -1], [0, 0], [1, 0], [0, 0]),
    ],
)
def test_one_layer_by_hand(
    values: list[float], arriving: list[float], plain: list[float], deconvnet: list[float], guided: list[float]
) -> None:
    leaf = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    assert torch.autograd.grad(leaf.relu(), leaf, torch.tensor(arriving))[0].tolist() == plain
    for rule, expected in zip(RULES, (guided, deconvnet), strict=True):
        assert through(rule, torch.relu, values, arriving)[1] == expected


@pytest.mark.parametrize(("rule", "expected"), [("guided", [2, 1]), ("deconvnet", [3, 0])])
def test_two_layers_by_hand(rule: Rule, expected: list[float]) -> None:
    first, last = torch.tensor([[1.0, -1], [2, 1], [-1, 1]]), torch.tensor([1.0, 1, -1])
    image = torch.tensor([1.0, 2], requires_grad=True)
    with Rectifying(rule):
        output = last @ torch.relu(first @ image)
    assert output == 3
    assert torch.autograd.grad(output, image)[0].tolist() == expected


WAYS: list[Function] = [
    *(nn.ReLU(), nn.ReLU(inplace=True), F.relu, lambda x: F.relu(x, inplace=True), lambda x: F.relu(x, True)),
    *(lambda x: F.relu(input=x), F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_),
    *(torch.ops.aten.relu, torch.ops.aten.relu.default, torch.fx.symbolic_trace(nn.Sequential(nn.ReLU(inplace=True)))),
]
CLIPPED: list[Function] = [
    *(nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, lambda x: F.relu6(x, inplace=True), nn.Hardtanh(0, 6)),
    *(lambda x: F.hardtanh(x, 0, 6), lambda x: F.hardtanh_(x, min_val=0, max_val=6)),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_relu_is_met(way: Function) -> None:
    output, guided = through("guided", way, [-1, 2, 3, 7], [1, 1, -1, 1])
    assert output.tolist() == [0, 2, 3, 7]
    assert guided == [0, 1, 0, 1]
    assert through("deconvnet", way, [-1, 2, 3, 7], [1, 1, -1, 1])[1] == [1, 1, 0, 1]


@pytest.mark.parametrize("way", CLIPPED)
def test_every_clipped_relu_is_met(way: Function) -> None:
    output, guided = through("guided", way, [-1, 2, 3, 7], [1, 1, -1, 1])
    assert output.tolist() == [0, 2, 3, 6]
    assert guided == [0, 1, 0, 0]
    assert through("deconvnet", way, [-1, 2, 3, 7], [1, 1, -1, 1])[1] == [1, 1, 0, 1]


def test_a_part_that_is_rectified_in_place() -> None:
    """Whoever holds the whole sees the change, forwards and backwards."""
    leaf = torch.tensor([-1.0, 2, -3], requires_grad=True)
    with Rectifying("guided"):
        whole = leaf * 2
        F.relu(whole[:2], inplace=True)
    assert whole.tolist() == [0, 4, -6]
    assert torch.autograd.grad(whole.sum(), leaf)[0].tolist() == [0, 2, 2]


def test_the_values_forwards_and_the_network_stay_as_they_are() -> None:
    for make, count in ((build_in_place, 2), (build_reuse, 4)):
        classifier = make().eval()
        images = torch.rand(2, 3, 16, 16)
        with Rectifying("guided") as relus:
            logits = classifier(images)
        assert torch.equal(logits, classifier(images))
        assert relus.count == count
        require_relus("guided_backprop", classifier.arch, relus)


def test_half_precision() -> None:
    leaf = torch.tensor([-1.0, 2], dtype=torch.bfloat16, requires_grad=True)
    with Rectifying("guided"):
        output = leaf.relu()
    assert output.dtype == torch.bfloat16
    assert torch.autograd.grad(output.sum(), leaf)[0].tolist() == [0, 1]


def test_a_gradient_that_is_no_number_is_not_hidden() -> None:
    assert through("guided", torch.relu, [1, -1], [float("nan"), float("nan")])[1] == pytest.approx(
        [torch.nan, 0], nan_ok=True
    )


OTHERS = [
    *(nn.GELU(), nn.SiLU(), nn.SiLU(inplace=True), nn.LeakyReLU(), nn.LeakyReLU(inplace=True), nn.ELU(), nn.CELU()),
    *(nn.SELU(), nn.PReLU(), nn.RReLU(), nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Tanhshrink(), nn.Softshrink()),
    *(nn.Hardshrink(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.LogSigmoid(), nn.GLU(), nn.Threshold(0, 0)),
    *(nn.Sigmoid(), nn.Tanh(), F.sigmoid, F.tanh, torch.sigmoid, torch.tanh, torch.Tensor.sigmoid, torch.Tensor.tanh_),
    torch.ops.aten.gelu.default,
]


@pytest.mark.parametrize("activation", OTHERS)
def test_networks_with_other_activations_are_refused(activation: Function) -> None:
    with Rectifying("guided") as relus, torch.no_grad():
        F.relu(activation(torch.rand(2, 4)))
    assert relus.count == 1
    (name,) = relus.others
    with pytest.raises(NotApplicable, match=f"^deconvnet needs ReLUs; InPlaceNet uses {name}; use gradient$"):
        require_relus("deconvnet", build_in_place().arch, relus)


def test_networks_without_relus_are_refused() -> None:
    with Rectifying("guided") as relus:
        nn.Linear(2, 2)(torch.rand(1, 2)).softmax(1)
    with pytest.raises(NotApplicable, match="^guided_backprop needs ReLUs; InPlaceNet has none; use gradient$"):
        require_relus("guided_backprop", build_in_place().arch, relus)
    vit = NETWORKS["vit"]().eval()
    with Rectifying("guided") as relus:
        vit(torch.rand(1, 3, vit.size, vit.size))
    assert relus.others == {"gelu"}
