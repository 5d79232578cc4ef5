"""Gradients, at an image and around it, against closed forms, slow second versions, finite differences and captum."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from captum.attr import InputXGradient, NoiseTunnel, Saliency
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.counted_noise import standard_normal
from an8flower.evaluate.data.images import REPLACEMENTS
from an8flower.evaluate.explainers.attribution.pixels import PixelAttribution
from an8flower.evaluate.explainers.gradients import (
    Gradient,
    GradientXInput,
    IntegratedGradients,
    SmoothGrad,
    SmoothGradSquared,
    VarGrad,
    completeness,
)
from an8flower.evaluate.explaining.contract_networks import NETWORKS, build_in_place, build_reuse
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.maps import POOLINGS
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.networks.batched_passes import input_gradient
from an8flower.evaluate.registry import explainers

MakeQuery = Callable[[Classifier], Query]


@pytest.fixture(params=NETWORKS)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """Every kind of network, small, in training mode."""
    return NETWORKS[request.param]()


def unnormalised(network: nn.Module, names: str, size: int) -> Classifier:
    """A network behind an identity, to have a layer with spatial extent, without normalisation."""
    whole = nn.Sequential(OrderedDict(inner=nn.Identity(), rest=network))
    return wrap(whole, names, size, "inner", mean=(0, 0, 0), std=(1, 1, 1)).eval()


class Linear(nn.Module):
    """y_c = w_c x + b_c."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(3, 12, generator=source))
        self.bias = nn.Parameter(torch.randn(3, generator=source))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias


class Squares(nn.Module):
    """y = sum of x^2, and twice that."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.square().sum((1, 2, 3))
        return torch.stack([total, 2 * total], 1)


class Hinge(nn.Module):
    """y = relu(w x + b) on the first three values, and its negative."""

    def __init__(self, weights: list[float], bias: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        value = (images.flatten(1)[:, :3] @ self.weights + self.bias).relu()
        return torch.stack([value, -value], 1)


def one(values: list[float], seed: int = 0) -> Query:
    """A query of one 2 x 2 image whose first values are these, the others zero."""
    images = torch.zeros(1, 12)
    images[0, : len(values)] = torch.tensor(values)
    return Query(images.view(1, 3, 2, 2), torch.tensor([0]), torch.tensor([seed]))


def attributed(explainer: PixelAttribution, classifier: Classifier, query: Query) -> Tensor:
    return explainer.attribution(classifier.eval(), query).detach()


@pytest.fixture
def linear() -> Classifier:
    return unnormalised(Linear(), "abc", 2)


@pytest.fixture
def pair() -> Query:
    images = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(4))
    return Query(images, torch.tensor([2, 0]), torch.tensor([8, 9]))


def test_of_a_linear_network(linear: Classifier, pair: Query) -> None:
    weights = linear.network.rest.weight.detach()[pair.targets].view(2, 3, 2, 2)
    torch.testing.assert_close(attributed(Gradient(), linear, pair), weights)
    product = attributed(GradientXInput(), linear, pair)
    torch.testing.assert_close(product, weights * pair.images)
    gain = (linear(pair.images) - linear.network.rest.bias).gather(1, pair.targets[:, None])[:, 0]
    torch.testing.assert_close(product.sum((1, 2, 3)), gain.detach())
    torch.testing.assert_close(attributed(SmoothGrad(samples=3), linear, pair), weights)
    torch.testing.assert_close(attributed(SmoothGradSquared(samples=3), linear, pair), weights.square())
    assert attributed(VarGrad(samples=3), linear, pair).abs().max() < 1e-9


@pytest.mark.parametrize("method", ["gausslegendre", "midpoint", "left", "right", "trapezoid"])
@pytest.mark.parametrize("baseline", REPLACEMENTS)
def test_integrated_gradients_of_a_linear_network_are_exact(
    linear: Classifier, pair: Query, method: str, baseline: str
) -> None:
    explainer = IntegratedGradients(steps=3, method=method, baseline=baseline)
    weights = linear.network.rest.weight.detach()[pair.targets].view(2, 3, 2, 2)
    expected = weights * (pair.images - REPLACEMENTS[baseline](pair.images))
    torch.testing.assert_close(attributed(explainer, linear, pair), expected, rtol=1e-4, atol=1e-6)
    assert completeness(linear.train(), pair, explainer).max() < 1e-5
    assert linear.training


def test_of_two_relu_layers_it_is_the_closed_form() -> None:
    first, second = nn.Linear(12, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.zero_()[:, :2] = torch.tensor([[1.0, -1], [2, 1], [-1, 1]])
        second.weight.copy_(torch.tensor([[1.0, 1, -1], [-1, -1, 1]]))
    classifier = unnormalised(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), "ab", 2)
    asked = one([1, 2])
    assert classifier(asked.images)[0, 0] == 3
    assert attributed(Gradient(), classifier, asked).flatten().tolist() == [3, 0] + 10 * [0]
    assert attributed(GradientXInput(), classifier, asked).flatten().tolist() == [3, 0] + 10 * [0]


SQUARES = {"gausslegendre": 1, "midpoint": 1, "left": 0.8, "right": 1.2, "trapezoid": 1}


@pytest.mark.parametrize("method", SQUARES)
def test_quadratures_of_squares(method: str) -> None:
    asked = one([1, 0.5, 0.25])
    found = attributed(IntegratedGradients(steps=5, method=method), unnormalised(Squares(), "ab", 2), asked)
    torch.testing.assert_close(found, SQUARES[method] * asked.images.square())
    missed = completeness(unnormalised(Squares(), "ab", 2), asked, IntegratedGradients(steps=5, method=method))
    assert missed.item() == pytest.approx(abs(SQUARES[method] - 1) * (1 + 0.25 + 0.0625), abs=1e-5)


def test_integrated_gradients_of_a_hinge() -> None:
    classifier, asked = unnormalised(Hinge([1.0, 2, -1], -1), "ab", 2), one([2, 1, 0.5])
    found = attributed(IntegratedGradients(steps=3500, method="midpoint"), classifier, asked)
    torch.testing.assert_close(found.flatten()[:3], torch.tensor([1.428571, 1.428571, -0.357143]), rtol=1e-3, atol=1e-3)
    coarse, fine = (completeness(classifier, asked, IntegratedGradients(steps=steps)) for steps in (5, 500))
    assert fine < 0.02 < coarse


def test_noise_on_squares_and_on_a_hinge() -> None:
    """Expectations, to within four standard errors of 4,000 copies."""
    classifier, asked = unnormalised(Squares(), "ab", 2), one([1, 0.5])
    classifier.in_flight = 500
    deviation, four = 0.3, 4 / math.sqrt(4000)
    mean, squares, variance = (
        attributed(kind(samples=4000, spread=deviation), classifier, asked)
        for kind in (SmoothGrad, SmoothGradSquared, VarGrad)
    )
    wanted = (2 * deviation) ** 2
    torch.testing.assert_close(mean, 2 * asked.images, rtol=0, atol=four * 2 * deviation)
    torch.testing.assert_close(variance, torch.full_like(mean, wanted), rtol=four * math.sqrt(2), atol=0)
    torch.testing.assert_close(squares, mean.square() + variance)
    classifier, asked = unnormalised(Hinge([1.0, 2, -1], -1), "ab", 2), one([0.4, 0.5, 1])
    classifier.in_flight = 500
    found = attributed(SmoothGrad(samples=4000, spread=0.5), classifier, asked).flatten()[:3]
    active = torch.distributions.Normal(0, 1).cdf(torch.tensor((0.4 + 1 - 1 - 1) / (0.5 * math.sqrt(6))))
    torch.testing.assert_close(found, active * torch.tensor([1.0, 2, -1]), rtol=0, atol=four)


# A slow second version: image by image and copy by copy, on the classifier itself.


def slow(classifier: Classifier, query: Query, copies: Callable[[int], list[Tensor]]) -> Tensor:
    """The gradients (B, n, 3, H, W) at the copies of every image."""
    rows = []
    for row, target in enumerate(query.targets.tolist()):
        leaves = [copy[None].clone().requires_grad_() for copy in copies(row)]
        rows.append(torch.cat([torch.autograd.grad(classifier(leaf)[0, target], leaf)[0] for leaf in leaves]))
    return torch.stack(rows)


def test_integrated_gradients_equal_the_slow_version(classifier: Classifier, query: MakeQuery) -> None:
    asked = query(classifier)
    maps = explain(classifier, IntegratedGradients(steps=4, method="right", baseline="white"), asked, batch=3).maps
    classifier.eval()
    gradients = slow(classifier, asked, lambda row: [1 - n / 4 * (1 - asked.images[row]) for n in (1, 2, 3, 4)])
    expected = (gradients.mean(1) * (asked.images - 1)).sum(1)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)
    assert expected.any()


KINDS = {
    SmoothGrad: lambda gradients: gradients.mean(1),
    SmoothGradSquared: lambda gradients: gradients.square().mean(1),
    VarGrad: lambda gradients: gradients.var(1, correction=0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_noisy_gradients_equal_the_slow_version(
    classifier: Classifier, query: MakeQuery, kind: type[PixelAttribution]
) -> None:
    asked = query(classifier)
    asked.images[1] = 0.25 + 0.5 * asked.images[1]  # rows differ in their range
    maps = explain(classifier, kind(samples=4, spread=0.2), asked, batch=3).maps
    classifier.eval()

    drawn = standard_normal(asked.seeds, range(4), asked.images.shape[1:])

    def copies(row: int) -> list[Tensor]:
        image = asked.images[row]
        return [image + 0.2 * (image.max() - image.min()) * drawn[n, row] for n in range(4)]

    expected = KINDS[kind](slow(classifier, asked, copies)).abs().amax(1)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert expected.any()


# Captum.


def test_captum_agrees_on_the_gradient_and_its_product(classifier: Classifier, query: MakeQuery) -> None:
    asked = query(classifier)
    gradient, product = (explain(classifier, each, asked).maps for each in (Gradient(), GradientXInput()))
    classifier.eval()
    images = asked.images.clone().requires_grad_()
    theirs = Saliency(classifier).attribute(images, target=asked.targets, abs=True)
    torch.testing.assert_close(gradient, theirs.amax(1))
    theirs = InputXGradient(classifier).attribute(images, target=asked.targets)
    torch.testing.assert_close(product, theirs.sum(1).detach())


THEIR_METHODS = {
    "gausslegendre": "gausslegendre",
    "midpoint": "riemann_middle",
    "left": "riemann_left",
    "right": "riemann_right",
    "trapezoid": "riemann_trapezoid",
}


@pytest.mark.parametrize("method", THEIR_METHODS)
def test_captum_agrees_on_integrated_gradients(classifier: Classifier, query: MakeQuery, method: str) -> None:
    asked = query(classifier)
    ours = explain(classifier, IntegratedGradients(steps=6, method=method, baseline="mean"), asked).maps
    theirs = CaptumIntegratedGradients(classifier.eval()).attribute(
        asked.images,
        REPLACEMENTS["mean"](asked.images),
        asked.targets,
        n_steps=6,
        method=THEIR_METHODS[method],
    )
    # Captum's trapezoid lacks a step: its weights add up to (n - 1) / n.
    expected = theirs.float().sum(1) * (6 / 5 if method == "trapezoid" else 1)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


THEIR_TYPES = {"smoothgrad": "smoothgrad", "smoothgrad_squared": "smoothgrad_sq", "vargrad": "vargrad"}


@pytest.mark.parametrize("name", THEIR_TYPES)
def test_captum_agrees_under_the_same_noise(
    classifier: Classifier, query: MakeQuery, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Query(*(tensor[:1] for tensor in query(classifier)))
    ours = explain(classifier, explainers[name].item(samples=4, pooling="abs_sum"), asked).maps
    drawn = standard_normal(asked.seeds[:1], range(4), asked.images.shape[1:])[:, 0]
    monkeypatch.setattr(torch, "normal", lambda mean, deviations: drawn * deviations)
    theirs = NoiseTunnel(Saliency(classifier.eval())).attribute(
        asked.images,
        nt_type=THEIR_TYPES[name],
        nt_samples=4,
        stdevs=0.15 * float(asked.images.max() - asked.images.min()),
        target=asked.targets,
        abs=False,
    )
    expected = theirs.abs().sum(1).detach()
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4 * float(expected.max()))


# What they cost, what they hold, and what they refuse.


@pytest.mark.parametrize(
    ("explainer", "passes"),
    [
        (GradientXInput(), 5),
        (IntegratedGradients(), 250),
        (IntegratedGradients(steps=7, baseline="blur"), 35),
        (SmoothGrad(), 250),
        (SmoothGradSquared(samples=3), 15),
        (VarGrad(samples=3), 15),
    ],
)
def test_costs(query: MakeQuery, explainer: PixelAttribution, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, sizes, count = build_in_place(), [], Classifier.count

    def counted(self: Classifier, output: Tensor, share: float) -> Tensor:
        sizes.append(len(output))
        return count(self, output, share)

    monkeypatch.setattr(Classifier, "count", counted)
    cost = explain(classifier, explainer, query(classifier), batch=5).cost
    assert (cost.forwards, cost.backwards) == (passes, passes)
    assert sizes == [5] * (passes // 5)  # never more in the network than a batch, and never less without need


@pytest.mark.parametrize("name", ["gradient_x_input", "integrated_gradients", "smoothgrad", "vargrad"])
def test_half_precision(query: MakeQuery, name: str) -> None:
    explainer = explainers[name].item()
    classifier = build_reuse()
    expected = explain(classifier, explainer, query(classifier)).maps
    maps = explain(classifier.bfloat16(), explainer, query(classifier)).maps
    assert torch.corrcoef(torch.stack([maps, expected]).flatten(1))[0, 1] > 0.9


BAD: list[tuple[Callable[[], PixelAttribution], str]] = [
    (lambda: IntegratedGradients(steps=0), "^integrated_gradients: steps is 0; expected at least 1$"),
    (lambda: IntegratedGradients(steps=1, method="trapezoid"), "steps is 1; expected at least 2"),
    (lambda: IntegratedGradients(method="simpson"), 'unknown method "simpson"'),
    (lambda: IntegratedGradients(baseline="blac"), 'unknown baseline "blac"; did you mean "black"'),
    (lambda: SmoothGrad(samples=0), "^smoothgrad: samples is 0; expected at least 1$"),
    (lambda: VarGrad(samples=1), "^vargrad: samples is 1; expected at least 2$"),
    (lambda: SmoothGrad(spread=-0.1), "^smoothgrad: spread is -0.1; expected a share"),
    (lambda: SmoothGradSquared(spread=math.nan), "^smoothgrad_squared: spread is nan; expected a share"),
    (lambda: GradientXInput(pooling="max"), 'unknown pooling "max"'),
]


@pytest.mark.parametrize(("make_bad", "says"), BAD)
def test_parameters_that_are_refused(make_bad: Callable[[], PixelAttribution], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        make_bad()


def test_finite_differences_agree(query: MakeQuery) -> None:
    classifier = build_reuse().eval().double()
    images, targets = query(classifier).images.double(), query(classifier).targets
    gradient, step = input_gradient(classifier, images, targets), torch.zeros_like(images)
    step[:, 1, 5, 7] = 1e-6
    rise = (classifier(images + step) - classifier(images - step)).gather(1, targets[:, None])[:, 0] / 2e-6
    torch.testing.assert_close(gradient[:, 1, 5, 7], rise, rtol=1e-4, atol=1e-7)


HAND = torch.tensor([3.0, -4.0, 0.0]).view(1, 3, 1, 1)  # one pixel
POOLED = {"abs_max": 4, "abs_sum": 7, "sum": -1, "pos_l2": 3, "l2": 5, "l2_sq": 25, "abs_sum99": 0}


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_hand(name: str) -> None:
    assert POOLINGS[name](HAND).item() == pytest.approx(POOLED[name])


def test_the_99th_percentile_cuts_outliers() -> None:
    attribution = torch.zeros(2, 3, 10, 20)
    attribution[:, 0] = torch.arange(200.0).view(10, 20)
    attribution[1] *= -5
    maps = POOLINGS["abs_sum99"](attribution)
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0].flatten(), (torch.arange(200.0) / 197.01).clamp(max=1))


def test_the_pooling_is_a_parameter(query: MakeQuery) -> None:
    classifier = build_in_place()
    asked = query(classifier)
    gradient: Tensor = input_gradient(classifier.eval(), asked.images, asked.targets)
    torch.testing.assert_close(explain(classifier, Gradient(pooling="sum"), asked).maps, gradient.sum(1))
    with pytest.raises(WrongUsage, match='unknown pooling "max"'):
        Gradient(pooling="max")
