"""Layer-wise relevance against closed forms, a slow second version in dense matrices, and Zennit on whole networks."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models import vgg
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    SpecialFirstLayerMapComposite,
    layer_map_base,
)
from zennit.composites import (
    ExcitationBackprop as ZennitExcitationBackprop,
)
from zennit.rules import Epsilon, ZBox, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import Convolution, Linear

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.relevance import COMPOSITES, DeepTaylor, ExcitationBackprop, Lrp
from an8flower.evaluate.explaining.contract_networks import CLASSES, build_in_place, build_reuse, randomise_weights
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.canonical import copy_canonically
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.networks.batched_passes import logit


def query(classifier: Classifier, rows: int = 3) -> Query:
    images = torch.rand(rows, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(3))
    return Query(images, torch.arange(rows) % len(classifier.class_names), torch.arange(rows))


def logits(classifier: Classifier, asked: Query) -> Tensor:
    return logit(classifier.eval()(asked.images), asked.targets).detach()


# Closed forms: two layers with a ReLU, x = (1, 2); images end at 1, and relevance scales with the image.

W1 = [[1.0, -1.0, 0.0], [2.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]
V = [1.0, 1.0, -1.0]


def pointwise(weights: list[list[float]]) -> nn.Conv2d:
    layer = nn.Conv2d(len(weights[0]), len(weights), 1, bias=False)
    layer.weight.data = torch.tensor(weights)[:, :, None, None]
    return layer


def ending(layers: list[nn.Module], weights: list[float], mean: float = 0, std: float = 1) -> Classifier:
    """Layers, the mean over positions, and a linear layer whose second class is the first one's opposite."""
    linear = nn.Linear(len(weights), 2, bias=False)
    linear.weight.data = torch.tensor([weights, [-each for each in weights]])
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return wrap(network, "ab", 2, "0", (mean,) * 3, (std,) * 3)


def colour(*channels: float) -> Query:
    images = torch.tensor(channels).view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    return Query(images, torch.tensor([0]), torch.tensor([0]))


def by_channel(explainer: Lrp | DeepTaylor, classifier: Classifier, asked: Query) -> Tensor:
    return explainer.attribution(classifier.eval(), asked).sum((0, 2, 3))


TWO_LAYERS = [
    ("epsilon", (3, 0)),
    ("epsilon_plus", (2, 1)),
    ("alpha2_beta1", (5, 2)),
    ("epsilon_gamma_box", (8 / 3, 1 / 3)),
]


@pytest.mark.parametrize(("composite", "expected"), TWO_LAYERS)
def test_two_layers(composite: str, expected: tuple[float, float]) -> None:
    # The first layer has the box rule, which lets relevance through where every channel is seen by one neuron.
    before = [pointwise(torch.eye(3).tolist())] if composite == "epsilon_gamma_box" else []
    classifier = ending([*before, pointwise(W1), nn.ReLU(inplace=True)], V)
    found = by_channel(Lrp(composite=composite), classifier, colour(0.5, 1, 0.7))
    torch.testing.assert_close(2 * found, torch.tensor([*expected, 0.0]), rtol=1e-4, atol=1e-5)


def test_deep_taylor_of_two_layers() -> None:
    classifier = ending([pointwise(torch.eye(3).tolist()), pointwise(W1), nn.ReLU()], V)
    found = by_channel(DeepTaylor(), classifier, colour(0.5, 1, 0.7))
    torch.testing.assert_close(2 * found, torch.tensor([1.5, 1.5, 0]), rtol=1e-4, atol=1e-5)
    against = colour(0.5, 1, 0.7)._replace(targets=torch.tensor([1]))
    assert not by_channel(DeepTaylor(), classifier, against).any()


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 0.25)])
def test_the_box_is_that_of_pixels(mean: float, std: float) -> None:
    """With a normalisation, the weights that see the pixels are w / std, and what is left is a bias."""
    classifier = ending([pointwise([[std, -2 * std, 0.5 * std]]), nn.ReLU()], [1.0], mean, std)
    classifier.network[0].bias = nn.Parameter(torch.tensor([mean * (1 - 2 + 0.5)]))
    found = by_channel(DeepTaylor(), classifier, colour(0.5, 0.25, 1))
    torch.testing.assert_close(found, 0.5 * torch.tensor([0.2, 0.6, 0.2]), rtol=1e-4, atol=1e-5)


def test_the_flat_rule_is_even_over_what_a_layer_sees() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    classifier = wrap(randomise_weights(network), "ab", 4, "0").eval()
    asked = query(classifier, rows=2)
    maps = Lrp()(classifier, asked)
    total = maps.sum((1, 2), keepdim=True)
    assert total.all()
    torch.testing.assert_close(maps[maps != 0].view(2, 4), (total / 4).expand(2, 1, 4)[:, 0])


# The slow second version: every layer as a dense matrix, every rule as it is written.


class Residual(nn.Module):
    """A convolution with batch norm, a residual one, a batch norm on its own, maximum and mean pooling, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, 1, 1, groups=2, bias=False), nn.BatchNorm2d(4)
        self.lone = nn.BatchNorm2d(4)
        self.dense, self.linear = nn.Linear(4, 5), nn.Linear(5, len(CLASSES))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.bn1(self.conv1(x))), 3, 1, padding=1)
        inner = self.bn2(self.conv2(x))
        inner += x
        x = self.relu(self.lone(self.relu(inner))).mean(3).mean(2)
        return self.linear(self.relu(self.dense(x)))


def residual() -> Classifier:
    return wrap(randomise_weights(Residual(), seed=1), CLASSES, 8, "lone").eval()


Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x (n,), w (n, m), b (m,), R (m,)) -> (n,)


def divide(top: Tensor, bottom: Tensor, eps: float = 1e-6) -> Tensor:
    return top / torch.where(bottom >= 0, bottom + eps, bottom - eps)


def epsilon(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    return (x[:, None] * w * divide(r, x @ w + b)).sum(1)


def alpha_beta(alpha: float, beta: float, bias: bool = True, eps: float = 1e-6) -> Rule:
    def rule(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
        parts = x[:, None] * w
        plus, minus = parts.clamp(min=0), parts.clamp(max=0)
        excited, inhibited = plus.sum(0) + bias * b.clamp(min=0), minus.sum(0) + bias * b.clamp(max=0)
        return (alpha * plus * divide(r, excited, eps) - beta * minus * divide(r, inhibited, eps)).sum(1)

    return rule


def gamma(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """For x >= 0, and then for outputs of either sign, the parts of which are favoured that have the output's sign."""
    total = torch.zeros_like(x)
    for j in range(len(r)):
        sign = torch.sign(x @ w[:, j] + b[j])
        favoured = w[:, j] + 0.25 * sign * (sign * w[:, j]).clamp(min=0)
        offset = b[j] + 0.25 * sign * (sign * b[j]).clamp(min=0)
        total += x * favoured * divide(r[j], x @ favoured + offset)
    return total


def flat(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    seen = (w != 0).double()
    return (seen * r / seen.sum(0)).sum(1)


def box(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    low, high = ((bound - mean) / std for bound in (0, 1))
    low, high = (bound.repeat_interleave(64)[:, None] for bound in (low, high))
    q = x[:, None] * w - low * w.clamp(min=0) - high * w.clamp(max=0)
    return (q * divide(r, q.sum(0))).sum(1)


plus = alpha_beta(1, 0)
excite = alpha_beta(1, 0, bias=False, eps=1e-20)
SLOW: dict[str, tuple[Rule, Rule, Rule, Rule]] = {  # first, convolution, dense, means and sums
    "epsilon_plus_flat": (flat, plus, epsilon, epsilon),
    "epsilon": (epsilon, epsilon, epsilon, epsilon),
    "epsilon_plus": (plus, plus, epsilon, epsilon),
    "epsilon_gamma_box": (box, gamma, epsilon, epsilon),
    "alpha2_beta1": (alpha_beta(2, 1), alpha_beta(2, 1), epsilon, epsilon),
    "deep_taylor": (box, excite, excite, excite),
    "excitation_backprop": (excite, excite, excite, excite),
}


def dense(layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The matrix and the offset of an affine layer, column by column."""
    size = int(torch.tensor(shape).prod())
    offset = layer(torch.zeros(1, *shape).double()).flatten()
    columns = [layer(unit.view(1, *shape)).flatten() - offset for unit in torch.eye(size).double()]
    matrix = torch.stack(columns)
    return torch.where(matrix.abs() < 1e-12, 0.0, matrix), offset


def winners(before: Tensor, after: Tensor, r: Tensor) -> Tensor:
    """Give each output's relevance to the position of the maximum in its window of three by three."""
    found = torch.zeros_like(before)
    for k, i, j in torch.cartesian_prod(*map(torch.arange, after.shape)).tolist():
        rows, columns = range(max(i - 1, 0), min(i + 2, 4)), range(max(j - 1, 0), min(j + 2, 4))
        best = max(((y, x) for y in rows for x in columns), key=lambda at: float(before[(k, *at)]))
        found[(k, *best)] += r[k, i, j]
    return found


def slowly(name: str, classifier: Classifier, asked: Query, row: int) -> tuple[Tensor, Tensor]:
    """The relevance of one image: at the pixels (3, 8, 8), and at the lone batch norm (4, 4, 4)."""
    first, convolution, linear, mean = SLOW[name]
    net = copy.deepcopy(classifier.network).double()
    pixels = ((asked.images - classifier.mean) / classifier.std).double()[row]
    w1, b1 = dense(lambda x: net.bn1(net.conv1(x)), (3, 8, 8))
    w2, b2 = dense(lambda x: net.bn2(net.conv2(x)), (4, 4, 4))
    w3, b3 = dense(lambda x: x.mean(3), (4, 4, 4))
    w4, b4 = dense(lambda x: x.mean(2), (4, 4))
    with torch.no_grad():
        one = (pixels.flatten() @ w1 + b1).relu()
        pooled = F.max_pool2d(one.view(4, 4, 4), 3, 1, 1).flatten()
        inner = pooled @ w2 + b2
        two = net.lone((inner + pooled).relu().view(1, 4, 4, 4)).relu().flatten()
        three, hidden = two @ w3, net.dense((two @ w3 @ w4)[None])[0].relu()
        target = int(asked.targets[row])
        y = net.linear(hidden)[target]
        begin = {"deep_taylor": y.relu(), "excitation_backprop": torch.tensor(1.0)}.get(name, y)
        r = F.one_hot(torch.tensor(target), 4) * begin
        r = linear(hidden, net.linear.weight.T, net.linear.bias, r)
        r = linear(three @ w4, net.dense.weight.T, net.dense.bias, r)
        at_lone = r = mean(two, w3, b3, mean(three, w4, b4, r))
        both, ones = torch.cat([inner, pooled]), torch.cat([torch.eye(64)] * 2).double()
        from_inner, from_pooled = mean(both, ones, torch.zeros(64), r).chunk(2)
        r = from_pooled + convolution(pooled, w2, b2, from_inner)
        r = winners(one.view(4, 4, 4), pooled.view(4, 4, 4), r.view(4, 4, 4)).flatten()
        return first(pixels.flatten(), w1, b1, r).view(3, 8, 8), at_lone.view(4, 4, 4)


@pytest.mark.parametrize("name", [*COMPOSITES, "deep_taylor"])
def test_the_slow_version_agrees(name: str) -> None:
    classifier = residual()
    asked = query(classifier)
    explainer = DeepTaylor() if name == "deep_taylor" else Lrp(composite=name)
    expected = torch.stack([slowly(name, classifier, asked, row)[0] for row in range(3)])
    assert all(row.any() for row in expected[:2])
    torch.testing.assert_close(explainer.attribution(classifier.double(), asked), expected, rtol=1e-5, atol=1e-7)
    found = explainer.attribution(classifier.float(), asked)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_the_slow_excitation_backprop_agrees() -> None:
    classifier = residual()
    asked = query(classifier)
    slow = torch.stack([slowly("excitation_backprop", classifier, asked, row)[1].sum(0) for row in range(3)])
    expected = F.interpolate(slow[:, None], (8, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(ExcitationBackprop()(classifier.double(), asked), expected, rtol=1e-5, atol=1e-8)


# Zennit on whole networks.


def settled(network: nn.Module, size: int) -> nn.Module:
    """Batch norms with the statistics of random images, and weights of their own."""
    source = torch.Generator().manual_seed(7)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.data.uniform_(0.5, 1.5, generator=source)
        norm.bias.data.uniform_(-0.3, 0.3, generator=source)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, size, size, generator=source))
    for norm in norms:
        norm.eps = 1e-12  # Zennit leaves it in what it makes of a batch norm that it has folded
    return network.eval()


@cache
def resnet() -> Classifier:
    classifier = build("resnet18", CLASSES, 32, seed=0)
    settled(classifier.network, 64)
    return classifier.double().eval()


@cache
def small_vgg() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = vgg.VGG(vgg.make_layers([8, "M", 12, 12, "M", 16], batch_norm=True), len(CLASSES))
        dense = nn.Linear(16 * 49, 20), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(20, len(CLASSES))
    network.classifier = nn.Sequential(*dense)
    return wrap(settled(network, 32), CLASSES, 32, "features.9").double().eval()


def bounds(classifier: Classifier) -> dict[str, Tensor]:
    return {"low": classifier.normalise(classifier.mean * 0), "high": classifier.normalise(classifier.mean * 0 + 1)}


def zennit_composite(name: str, classifier: Classifier, **options: Any) -> Any:
    if name == "epsilon":
        return LayerMapComposite([*layer_map_base(), (Linear, Epsilon(epsilon=1e-6))], **options)
    if name == "deep_taylor":
        rules = [*layer_map_base(1e-20), (Linear, ZPlus(stabilizer=1e-20, zero_params="bias"))]
        return SpecialFirstLayerMapComposite(rules, [(Convolution, ZBox(**bounds(classifier)))], **options)
    if name == "epsilon_gamma_box":
        return EpsilonGammaBox(**bounds(classifier), **options)
    kinds = {"epsilon_plus": EpsilonPlus, "epsilon_plus_flat": EpsilonPlusFlat, "alpha2_beta1": EpsilonAlpha2Beta1}
    return kinds[name](**options)


def zennit_relevance(classifier: Classifier, asked: Query, composite: Any, begin: Callable[[Tensor], Tensor]) -> Tensor:
    network = copy.deepcopy(classifier.network)
    # The very same pixels: the epsilon rule turns the last digit into the sixth.
    pixels = classifier.normalise(asked.images).requires_grad_()
    hot = F.one_hot(asked.targets, len(CLASSES))
    with Gradient(network, composite) as attributor:
        return attributor(pixels, lambda output: hot * begin(output))[1].detach()


CASES = [("resnet18", name) for name in ("epsilon_plus_flat", "epsilon")]
CASES += [("vgg", name) for name in (*COMPOSITES, "deep_taylor")]


@pytest.mark.parametrize(("network", "name"), CASES)
def test_zennit_agrees(network: str, name: str) -> None:
    classifier = resnet() if network == "resnet18" else small_vgg()
    canonizer = ResNetCanonizer() if network == "resnet18" else SequentialMergeBatchNorm()
    asked = query(classifier, rows=2)
    asked = asked._replace(targets=classifier(asked.images).argmax(1))
    composite = zennit_composite(name, classifier, canonizers=[canonizer])
    explainer, begin = (DeepTaylor(), torch.relu) if name == "deep_taylor" else (Lrp(composite=name), lambda y: y)
    expected = zennit_relevance(classifier, asked, composite, begin)
    assert expected.any()
    found = explainer.attribution(classifier, asked)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_zennit_agrees_on_excitation_backprop() -> None:
    classifier = small_vgg()
    asked = query(classifier, rows=2)
    network, seen = copy.deepcopy(classifier.network), []
    options = {"stabilizer": 1e-20, "zero_params": "bias", "canonizers": [SequentialMergeBatchNorm()]}
    with ZennitExcitationBackprop(**options).context(network):
        network.features[9].inplace = False
        network.features[9].register_forward_hook(lambda module, inputs, output: seen.append(output))
        output = network(classifier.normalise(asked.images).requires_grad_())
        (found,) = torch.autograd.grad(output, seen[0], F.one_hot(asked.targets, len(CLASSES)).double())
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(2).double())
    expected = F.interpolate(found.sum(1, keepdim=True), (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(ExcitationBackprop()(classifier, asked), expected, rtol=1e-6, atol=1e-10)


# What is conserved.


def without_biases() -> Classifier:
    network = randomise_weights(Residual(), seed=1)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith(("bias", "running_mean")):
            tensor.data.zero_()
    return wrap(network, CLASSES, 8, "lone").eval()


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon", "epsilon_plus"])
def test_relevance_is_conserved_without_biases(composite: str) -> None:
    classifier = without_biases()
    asked = query(classifier)
    maps = explain(classifier, Lrp(composite=composite), asked).maps
    torch.testing.assert_close(maps.sum((1, 2)), logits(classifier, asked), rtol=1e-3, atol=1e-4)


def test_deep_taylor_is_positive_and_conserves_the_logit() -> None:
    classifier = build_in_place()
    asked = query(classifier)
    maps = explain(classifier, DeepTaylor(), asked).maps
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), logits(classifier, asked).relu(), rtol=1e-3, atol=1e-4)


def test_excitation_backprop_is_a_probability() -> None:
    classifier = build_in_place()
    maps = explain(classifier, ExcitationBackprop(), query(classifier)).maps
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.mean((1, 2)), torch.full((3,), 1 / 16), rtol=1e-3, atol=1e-5)  # 4 x 4 positions


# The rest of the promises.


def test_excitation_backprop_at_other_layers() -> None:
    classifier = build_reuse()
    asked = query(classifier)
    maps = {layer: ExcitationBackprop(layer=layer)(classifier.eval(), asked) for layer in ("conv2", "bn2", "stem")}
    torch.testing.assert_close(maps["conv2"], maps["bn2"])  # a batch norm that is folded passes relevance on
    assert not torch.allclose(maps["stem"], maps["bn2"], atol=1e-3)
    with pytest.raises(WrongUsage, match='unknown layer "bn3"'):
        explain(classifier, ExcitationBackprop(layer="bn3"), asked)


@pytest.mark.parametrize(
    ("explainer", "passes"),
    [*((Lrp(composite=name), n) for name, n in zip(COMPOSITES, (2, 1, 2, 5, 4), strict=True)), (DeepTaylor(), 2)],
)
def test_costs(explainer: Lrp | DeepTaylor, passes: int) -> None:
    classifier = build_reuse()
    cost = explain(classifier, explainer, query(classifier), batch=2).cost
    assert (cost.forwards, cost.backwards) == pytest.approx((3 * (1 + passes), 3 * passes))


def test_excitation_backprop_costs_a_pass_and_the_tail_twice() -> None:
    classifier = residual()
    tail = classifier.share("conv2").tail
    assert tail > 0
    cost = explain(classifier, ExcitationBackprop(layer="conv2"), query(classifier)).cost
    assert (cost.forwards, cost.backwards) == pytest.approx((3 * (1 + 2 * tail), 3 * 2 * tail))


def test_no_more_images_at_once_than_allowed() -> None:
    classifier = build_in_place().eval()
    sizes: list[int] = []
    classifier.network.linear.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    classifier.in_flight = 8
    Lrp()(classifier, query(classifier, rows=5))
    assert max(sizes) == 2  # a quarter: the rules keep several tensors of every layer


def test_weights_that_have_changed_count() -> None:
    classifier = build_in_place().eval()
    asked = query(classifier)
    before = Lrp()(classifier, asked)
    with torch.no_grad():
        classifier.network.linear.weight.mul_(2)
        classifier.network.linear.bias.mul_(2)
    torch.testing.assert_close(Lrp()(classifier, asked), 2 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("explainer", [Lrp(), Lrp(composite="epsilon_gamma_box"), DeepTaylor(), ExcitationBackprop()])
def test_the_copy_is_given_back_without_hooks(explainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from an8flower.evaluate.explainers import relevance

    made: list[nn.Module] = []

    def kept(*arguments: Any) -> nn.Module:
        made.append(copy_canonically(*arguments))
        return made[-1]

    monkeypatch.setattr(relevance, "copy_canonically", kept)
    classifier = build_reuse().eval()
    explainer(classifier, query(classifier))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made[0].modules())


SMALL: dict[str, Callable[[], nn.Module]] = {
    "mobilenet": lambda: models.MobileNetV2(len(CLASSES), width_mult=0.1),
    "densenet": lambda: models.DenseNet(8, (2, 2), 8, num_classes=len(CLASSES)),
    "shufflenet": lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 16, 32, 32], num_classes=len(CLASSES)),
}


@pytest.mark.parametrize("arch", SMALL)
def test_architectures_need_no_table(arch: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = settled(SMALL[arch](), 64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.zero_()
            module.running_mean.zero_()
    (linear,) = (module for module in network.modules() if isinstance(module, nn.Linear))
    linear.bias.data.zero_()
    classifier = wrap(network, CLASSES, 64, "features" if hasattr(network, "features") else "conv1").double().eval()
    asked = query(classifier, rows=1)
    total = Lrp(composite="epsilon", epsilon=1e-12).attribution(classifier, asked).sum((1, 2, 3))
    torch.testing.assert_close(total, logits(classifier, asked), rtol=1e-4, atol=1e-8)


REFUSED = [
    ("flowervit", Lrp(), "lrp has no rule for add and LayerNorm and MultiheadAttention in flowervit; use tibav"),
    (
        "flowervit_tiny",
        Lrp(),
        "lrp has no rule for .* MultiheadAttention in flowervit_tiny; use tibav",
    ),
    ("convnext_tiny", DeepTaylor(), "deep_taylor has no rule for layer_norm and .* in convnext_tiny; use gradcam"),
]


@pytest.mark.parametrize(("arch", "explainer", "says"), REFUSED)
def test_others_are_refused(arch: str, explainer: Any, says: str) -> None:
    classifier = build(arch, CLASSES, 28 if arch.startswith("flowervit") else 64, seed=0)
    with pytest.raises(NotApplicable, match=says):
        explain(classifier, explainer, query(classifier))


@pytest.mark.parametrize("explainer", [DeepTaylor(), ExcitationBackprop()])
def test_activations_that_let_negative_values_through(explainer: Any) -> None:
    classifier = ending([pointwise(W1), nn.LeakyReLU()], V)
    with pytest.raises(NotApplicable, match="has no rule for LeakyReLU in Sequential"):
        explain(classifier, explainer, colour(0.5, 1, 0))
    assert explain(classifier, Lrp(), colour(0.5, 1, 0)).maps.any()


@pytest.mark.parametrize("explainer", [DeepTaylor(), Lrp(composite="epsilon_gamma_box")])
def test_a_box_whose_bounds_are_not_known(explainer: Any) -> None:
    classifier = ending([nn.MaxPool2d(1), pointwise(W1), nn.ReLU()], V)
    with pytest.raises(NotApplicable, match="something precedes the first layer of Sequential"):
        explain(classifier, explainer, colour(0.5, 1, 0))
    assert explain(classifier, Lrp(), colour(0.5, 1, 0)).maps.any()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"composite": "epsilon_plu"}, 'unknown composite "epsilon_plu"; did you mean "epsilon_plus"'),
        ({"epsilon": -1.0}, "lrp: epsilon is -1.0; expected a number that is not negative"),
        ({"gamma": float("inf")}, "lrp: gamma is inf"),
        ({"pooling": "none"}, 'unknown pooling "none"'),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        Lrp(**parameters)


def test_parameters_reach_the_rules() -> None:
    classifier = residual()
    asked = query(classifier)
    for composite, changed in (("epsilon", {"epsilon": 0.5}), ("epsilon_gamma_box", {"gamma": 2.0})):
        default, other = (Lrp(composite=composite, **each)(classifier, asked) for each in ({}, changed))
        assert not torch.allclose(default, other, rtol=1e-2)


def test_zennit_is_imported_only_when_it_is_used() -> None:
    code = "import sys, an8flower.evaluate.explainers.relevance; sys.exit('zennit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
