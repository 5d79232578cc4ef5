"""Deconvolution, guided backpropagation and guided Grad-CAM against closed forms, a slow second version and captum."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from captum.attr import Deconvolution
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from captum.attr import GuidedGradCam as CaptumGuidedGradCam
from torch import Tensor, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.cam import GradCam
from an8flower.evaluate.explainers.rectified import (
    DeconvNet,
    GuidedBackprop,
    GuidedGradCam,
    GuidedGradCamPlusPlus,
    rectified_gradient,
)
from an8flower.evaluate.explaining.contract_networks import build_in_place, build_reuse, build_vit
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.maps import POOLINGS
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.networks.unrolled import unroll
from an8flower.evaluate.registry import explainers

MakeQuery = Callable[[Classifier], Query]
NAMES = ["deconvnet", "guided_backprop", "guided_gradcam", "guided_gradcam_pp"]


@pytest.fixture(params=[build_in_place, build_reuse])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """The networks that have ReLUs only, in training mode."""
    return request.param()


def test_the_closed_form(closed: Classifier, query: MakeQuery) -> None:
    asked = query(closed)
    weights = closed.network.linear.weight.detach()[asked.targets][:, :, None, None]
    assert (weights < 0).any()
    values = (asked.images - 0.5).relu()
    active, means = (values > 0).float(), values.mean((2, 3), keepdim=True)
    guided = weights.relu() / 64 * active
    torch.testing.assert_close(rectified_gradient("", "guided", closed, asked), guided)
    deconvolved = (weights.relu() / 64).expand_as(values)
    torch.testing.assert_close(rectified_gradient("", "deconvnet", closed, asked), deconvolved)
    cam = (weights * values).sum(1, keepdim=True).relu() / 64
    torch.testing.assert_close(GuidedGradCam().attribution(closed, asked), guided * cam)
    plus = (weights.relu() / (2 + weights * means) * values).sum(1, keepdim=True)
    torch.testing.assert_close(GuidedGradCamPlusPlus().attribution(closed, asked), guided * plus)
    expected = (guided * cam).square().sum(1).sqrt()
    torch.testing.assert_close(explain(closed, GuidedGradCam(), asked).maps, expected)


# A slow second version: a copy of the network whose ReLUs are written so that torch's own gradient is the rule.


class SlowGuided(nn.Module):
    """The ReLU's own gradient, of what is positive of the one that arrives."""

    def forward(self, x: Tensor) -> Tensor:
        output = x.clone().relu()
        output.register_hook(lambda gradient: gradient.relu())
        return output


class SlowDeconvolution(nn.Module):
    """The gradient of the identity, of what is positive of the one that arrives."""

    def forward(self, x: Tensor) -> Tensor:
        output = x + (x.relu() - x).detach()
        output.register_hook(lambda gradient: gradient.relu())
        return output


def with_relus(classifier: Classifier, make: Callable[[], nn.Module]) -> Classifier:
    """A copy whose every call of a ReLU is a module of that kind."""
    copied = copy.deepcopy(classifier).eval()
    network = unroll(copied.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            setattr(network, name, make())
    copied.network = network
    return copied


@pytest.mark.parametrize(("name", "slow"), [("guided_backprop", SlowGuided), ("deconvnet", SlowDeconvolution)])
def test_the_slow_version_agrees(
    classifier: Classifier, query: MakeQuery, name: str, slow: Callable[[], nn.Module]
) -> None:
    asked, other = query(classifier), with_relus(classifier, slow)
    for pooling in ("sum", "pos_l2"):
        maps = explain(classifier, explainers[name].item(pooling=pooling), asked, batch=2).maps
        for image, target, found in zip(asked.images, asked.targets, maps, strict=True):
            leaf = image[None].clone().requires_grad_()
            expected = POOLINGS[pooling](torch.autograd.grad(other(leaf)[0, target], leaf)[0])[0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert expected.any()


@pytest.mark.parametrize(
    ("kind", "layer"),
    [(build_in_place, None), (build_in_place, "features.1"), (build_reuse, None), (build_reuse, "stem")],
)
def test_guided_gradcam_is_the_product(kind: Callable[[], Classifier], layer: str | None, query: MakeQuery) -> None:
    classifier = kind().eval()
    asked = query(classifier)
    maps = explain(classifier, GuidedGradCam(pooling="sum", layer=layer), asked).maps
    cam = explain(classifier, GradCam(layer=layer), asked).maps
    guided = explain(classifier, GuidedBackprop(pooling="sum"), asked).maps
    torch.testing.assert_close(maps, guided * cam)
    assert maps.any()


# Captum, on a copy without ReLUs that work in place.


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("explainer", "theirs"),
    [(GuidedBackprop(pooling="sum"), CaptumGuidedBackprop), (DeconvNet(pooling="sum"), Deconvolution)],
    ids=["guided", "deconvnet"],
)
def test_captum_agrees(
    classifier: Classifier, query: MakeQuery, explainer: GuidedBackprop | DeconvNet, theirs: type[Deconvolution]
) -> None:
    asked = query(classifier)
    maps = explain(classifier, explainer, asked).maps
    images = asked.images.clone().requires_grad_()
    expected = theirs(with_relus(classifier, nn.ReLU)).attribute(images, asked.targets)
    torch.testing.assert_close(maps, expected.sum(1).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(("kind", "node"), [(build_in_place, "features_3"), (build_reuse, "bn2")])
def test_captum_agrees_on_guided_gradcam(kind: Callable[[], Classifier], node: str, query: MakeQuery) -> None:
    classifier = kind()
    asked = query(classifier)
    maps = explain(classifier, GuidedGradCam(pooling="sum"), asked).maps
    other = with_relus(classifier, nn.ReLU)
    images = asked.images.clone().requires_grad_()
    theirs = CaptumGuidedGradCam(other, other.network.get_submodule(node))
    expected = theirs.attribute(images, asked.targets, interpolate_mode="bilinear").sum(1).detach()
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert expected.any()


# What they cost, and what they refuse.


@pytest.mark.parametrize("name", NAMES)
def test_costs(classifier: Classifier, query: MakeQuery, name: str) -> None:
    cost = explain(classifier, explainers[name].item(), query(classifier)).cost
    tail = classifier.share(classifier.target_layer).tail if "cam" in name else 0
    assert cost.forwards == pytest.approx(10 if "cam" in name else 5)
    assert cost.backwards == pytest.approx(5 + 5 * tail)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(query: MakeQuery, name: str) -> None:
    classifier, explainer = build_in_place(), explainers[name].item()
    expected = explain(classifier, explainer, query(classifier)).maps
    maps = explain(classifier.bfloat16(), explainer, query(classifier)).maps
    assert torch.corrcoef(torch.stack([maps, expected]).flatten(1))[0, 1] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_transformers_are_refused(query: MakeQuery, name: str) -> None:
    classifier = build_vit()
    with pytest.raises(NotApplicable, match=f"^{name} needs ReLUs; VisionTransformer uses gelu; use gradient$"):
        explain(classifier, explainers[name].item(), query(classifier))


def test_layers_and_poolings_that_are_not_there(query: MakeQuery) -> None:
    with pytest.raises(WrongUsage, match='unknown layer "feature"'):
        explain(build_in_place(), GuidedGradCam(layer="feature"), query(build_in_place()))
    with pytest.raises(WrongUsage, match='unknown pooling "pos"'):
        GuidedBackprop(pooling="pos")
