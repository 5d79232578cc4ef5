"""Convolutions with fewer multiplications against torch's own in double precision, and where they are used."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.networks.batched_passes import input_gradient
from an8flower.evaluate.models.networks.winograd import WinogradConv2d, is_plain
from an8flower.evaluate.models.streamlined import streamline


@pytest.fixture(autouse=True)
def _transformed_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are transformed for the first features, unless a test is about when they are."""
    if "directly_first" not in request.node.name:
        monkeypatch.setattr("an8flower.evaluate.models.networks.winograd.BREAK_EVEN", 0)


def make_convolution(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A convolution whose weights want no gradient."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).requires_grad_(False)


def convolve_in_double(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """What a convolution of 3 x 3 gives, from torch in double precision."""
    bias = None if convolution.bias is None else convolution.bias.double()
    return F.conv2d(features.double(), convolution.weight.double(), bias, padding=1)


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    channels=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    images=st.integers(1, 5),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_outputs_are_those_of_the_convolution(
    sides: tuple[int, int], channels: tuple[int, int], images: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    convolution = WinogradConv2d(make_convolution(*channels, bias))
    features = torch.randn(images, channels[0], *sides)
    convolution.prepare(features[:1])
    expected = convolve_in_double(convolution, features)
    values = convolution.multiply_less(features)
    assert values.is_contiguous(memory_format=torch.channels_last)
    error = (values - expected).abs().max()
    assert error <= 1e-5 * max(1, float(expected.abs().max()))


@torch.no_grad()
def test_many_portions_and_wide_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    convolution = WinogradConv2d(make_convolution(256, 192))
    features = torch.randn(5, 256, 9, 14).relu()
    monkeypatch.setattr("an8flower.evaluate.models.networks.winograd.PORTION", 36 * 12 * 256 * 2)
    values, expected = convolution(features), convolve_in_double(convolution, features)
    assert convolution.transformed is not None
    assert (values - expected).abs().max() < 1e-5 * expected.abs().max()


def test_where_it_multiplies_less() -> None:
    wide, narrow = (WinogradConv2d(make_convolution(width, width)) for width in (128, 32))
    features = torch.zeros(16, 128, 8, 8)
    with torch.no_grad():
        assert wide.gains(features)
        assert not wide.gains(features[:3])  # 12 tiles
        assert not wide.gains(torch.zeros(16, 128, 5, 5))  # most of whose tiles stand out
        assert not wide.gains(features.double())
        assert not wide.gains(features.to("meta"))
        assert not narrow.gains(torch.zeros(16, 32, 8, 8))
        assert wide.gains(features.clone().requires_grad_())
    assert wide.gains(features)
    assert wide.gains(features.requires_grad_())


@torch.no_grad()
def test_where_transforms_overflow_the_convolution_stays_direct() -> None:
    convolution = WinogradConv2d(make_convolution(128, 128))
    features = torch.full((16, 128, 8, 8), 3e37)
    expected = F.conv2d(features, convolution.weight, convolution.bias, padding=1)
    assert expected.isfinite().all()
    assert torch.equal(convolution(features), expected)
    assert convolution.disagrees
    assert convolution.transformed is None


@torch.no_grad()
def test_few_features_pass_directly_first() -> None:
    convolution = WinogradConv2d(make_convolution(128, 128))
    features = torch.rand(8, 128, 12, 12)  # 1,152 places: less than what makes up for transforms
    for enough in (False, False, True):
        values = convolution(features)
        assert (convolution.transformed is not None) == enough
        assert (values - convolve_in_double(convolution, features)).abs().max() < 1e-5 * values.abs().max()


def test_a_copy_that_is_forgotten_leaves_memory_at_once() -> None:
    network = streamline(build("resnet18", "abcd", 32, seed=0).eval()).network
    gone = weakref.ref(network)
    gc.disable()
    try:
        del network
        assert gone() is None
    finally:
        gc.enable()


@settings(max_examples=25, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    channels=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    images=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_the_mirrored_convolution_gives_the_gradient(
    sides: tuple[int, int], channels: tuple[int, int], images: int, seed: int
) -> None:
    torch.manual_seed(seed)
    convolution = WinogradConv2d(make_convolution(*channels))
    features = torch.randn(images, channels[0], *sides, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(images, channels[1], *sides)
    (expected,) = torch.autograd.grad(convolve_in_double(convolution, features), features, gradient.double())
    mirror = convolution.mirror()
    assert mirror is convolution.mirror()
    mirror.prepare(gradient)
    assert (mirror.multiply_less(gradient) - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize(("images", "height", "width"), [(3, 9, 14), (1, 16, 15), (16, 4, 4)])
def test_gradients_multiply_less_and_keep_nothing(images: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    convolution = WinogradConv2d(make_convolution(256, 192))
    features = torch.randn(images, 256, height, width, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        outputs = convolution(features)
    assert not saved
    gradient = torch.randn_like(outputs)
    (result,) = torch.autograd.grad(outputs.relu_(), features, gradient)  # writes into the outputs, as networks do
    assert convolution.mirrored is not None
    assert convolution.mirrored.transformed is not None
    (expected,) = torch.autograd.grad(outputs_in_double(convolution, features, outputs), features, gradient.double())
    assert (result - expected).norm() < 1e-5 * expected.norm()


def test_outputs_are_in_single_precision_whatever_torch_makes_by_default() -> None:
    convolution, features = WinogradConv2d(make_convolution(128, 128)), torch.rand(2, 128, 12, 12)
    torch.set_default_dtype(torch.float64)
    try:
        assert convolution(features).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def outputs_in_double(convolution: nn.Conv2d, features: Tensor, rectified: Tensor) -> Tensor:
    """A rectified convolution in double precision, where the rectifier lets pass what it let pass already."""
    return convolve_in_double(convolution, features) * (rectified > 0)


def test_gradients_can_be_differentiated() -> None:
    torch.manual_seed(0)
    convolution = WinogradConv2d(make_convolution(128, 160))
    features = torch.randn(2, 128, 12, 12, requires_grad=True)

    def differentiate_twice(outputs: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(outputs.pow(3).sum(), features, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), features)[0]

    result = differentiate_twice(convolution(features))
    expected = differentiate_twice(convolve_in_double(convolution, features))
    assert (result - expected).norm() < 1e-5 * expected.norm()
    assert convolution.mirrored is not None


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_where_weights_want_a_gradient_the_convolution_stays_direct(name: str) -> None:
    torch.manual_seed(0)
    convolution = WinogradConv2d(make_convolution(128, 128))
    wanted = [getattr(convolution, name).requires_grad_(), torch.randn(2, 128, 12, 12, requires_grad=True)]
    results = torch.autograd.grad(convolution(wanted[1]).square().sum(), wanted)
    expected = torch.autograd.grad(convolve_in_double(convolution, wanted[1]).square().sum(), wanted)
    assert convolution.transformed is None
    assert convolution.mirrored is None
    for gradient, reference in zip(results, expected, strict=True):
        assert (gradient - reference).norm() < 1e-5 * reference.norm()


def test_where_transforms_of_gradients_overflow_they_pass_directly() -> None:
    convolution = WinogradConv2d(make_convolution(128, 128))
    features = torch.zeros(16, 128, 8, 8)
    features[:, :, 2, 5] = 1  # the rest are zero, and so are features at first
    expected = F.conv2d(features * 0, convolution.weight, convolution.bias, padding=1)
    assert torch.equal(convolution(features * 0), expected)
    assert convolution.transformed is None
    gradient = torch.full_like(features, 3e37)
    (result,) = torch.autograd.grad(convolution(features.requires_grad_()), features, gradient)
    (expected,) = torch.autograd.grad(convolve_in_double(convolution, features), features, gradient.double())
    assert convolution.transformed is not None
    assert convolution.mirrored is not None
    assert convolution.mirrored.disagrees
    assert (result / 3e37 - expected / 3e37).abs().max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
)
def test_other_convolutions_are_left_alone(options: dict[str, Any]) -> None:
    assert is_plain(nn.Conv2d(128, 128, 3, padding=1))
    assert not is_plain(nn.Conv2d(128, 128, **options))
    hooked = nn.Conv2d(128, 128, 3, padding=1)
    hooked.register_forward_hook(lambda *_: None)
    assert not is_plain(hooked)


def test_a_streamlined_network_multiplies_less_and_keeps_its_logits_and_gradients() -> None:
    classifier = build("resnet18", "abcd", 64, seed=0).eval()
    images = torch.rand(16, 3, 64, 64)
    with torch.no_grad():
        network = streamline(classifier)
        logits, expected = network(images), classifier(images)
    replaced = [module for module in network.network.modules() if isinstance(module, WinogradConv2d)]
    assert len(replaced) == 3 + 3 + 3  # with 128, 256 and 512 channels, and stride 1
    used = [module for module in replaced if module.transformed is not None]
    assert [module.in_channels for module in used] == [128] * 3 + [256] * 3
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    targets = torch.arange(16) % 4
    gradients, wanted = (input_gradient(model, images, targets) for model in (network, classifier))
    errors = (gradients - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert errors.median() < 2e-5
    assert errors.max() < 0.03  # a rectifier whose input is about zero lets pass more, or less
    assert all(module.mirrored is not None and module.mirrored.transformed is not None for module in used)
    assert not any(module.mirrored for module in replaced if module not in used)
    assert not any(isinstance(module, WinogradConv2d) for module in streamline(classifier, "bf16").network.modules())
