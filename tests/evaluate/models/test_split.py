"""Halves of networks against the whole: every architecture, layers inside blocks, in-place and reused modules."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.networks.features import Features
from an8flower.evaluate.models.networks.split import GraphSplit, HookSplit, split
from an8flower.evaluate.registry import archs

Make = Callable[[str], Classifier]

LAYERS = {
    "flowernet": ["features", "features.0", "features.1", "features.10"],
    "resnet18": ["layer4", "layer4.0.bn1", "layer3.1.conv2", "layer2.0.downsample", "maxpool", "layer4.1.relu"],
    "resnet50": ["layer4", "layer1.0.bn3"],
    "vgg16": ["features.29", "features.28"],
    "mobilenet_v2": ["features.18", "features.3.conv.1", "features.3"],
    "convnext_tiny": ["features.7", "features.1.0.block.0"],
    "flowervit": ["encoder.layers.encoder_layer_3.ln_1", "encoder.layers.encoder_layer_1", "conv_proj", "encoder.ln"],
    "flowervit_tiny": ["encoder.layers.encoder_layer_1.ln_1", "encoder.layers.encoder_layer_0", "conv_proj"],
}


def captured(network: nn.Module, module: nn.Module, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The slow second version: a layer's last output and the gradient there, by a hook that replaces it by a leaf."""
    leaves: list[Tensor] = []

    def replace(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    with module.register_forward_hook(replace):
        network(images)[:, target].sum().backward()
    return leaves[-1].detach(), leaves[-1].grad  # type: ignore[return-value]


def check_halves(network: nn.Module, layer: str, images: Tensor, kind: type = GraphSplit) -> None:
    halves = split(network.eval().requires_grad_(False), layer, images[:1])
    assert type(halves) is kind
    with torch.no_grad():
        features = halves.head(images)
        torch.testing.assert_close(halves.tail(features), network(images))
    values, gradient = captured(network, network.get_submodule(layer), images, 1)
    leaf = features.values.detach().clone().requires_grad_()
    halves.tail(features._replace(values=leaf))[:, 1].sum().backward()
    torch.testing.assert_close(features.values, values)
    torch.testing.assert_close(leaf.grad, gradient)


@pytest.mark.parametrize("arch", LAYERS)
def test_halves_compose_to_the_whole(arch: str) -> None:
    size = 56 if arch in ("flowernet", "vgg16", "flowervit", "flowervit_tiny") else 64
    network = build(arch, "abcd", size, seed=0).network
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    for layer in LAYERS[arch]:
        check_halves(network, layer, images)


def test_every_arch_is_in_the_table() -> None:
    """Those that are pooled by cross-attention have a test of their own."""
    assert set(LAYERS) == {name for name in archs.names() if "+" not in name}


@pytest.mark.parametrize("layer", ["stem", "conv1", "bn1", "conv2", "bn2", "relu"])
def test_residual_block_with_reused_modules(make: Make, layer: str) -> None:
    check_halves(make("reuse").network, layer, torch.randn(3, 3, 16, 16))


@pytest.mark.parametrize("layer", ["features", "features.0", "features.2"])
def test_what_torch_fx_cannot_follow_is_split_by_hooks(make: Make, layer: str) -> None:
    check_halves(make("untraceable").network, layer, torch.randn(3, 3, 16, 16), HookSplit)


class Twice(nn.Module):
    """A network that torch.fx cannot follow and that uses its layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(2 if images.sum() != 0 else 3):
            images = self.conv(images).relu()
        return images.mean((2, 3))


def test_hooks_replace_the_last_call_only() -> None:
    network, images = Twice(), torch.randn(2, 3, 8, 8)
    halves = split(network, "conv", images)
    values = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(halves.tail(Features(values, (images,))), values.relu().mean((2, 3)))


class Sized(nn.Module):
    """Behind its layer, it needs sizes and a constant from before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.token = nn.Parameter(torch.randn(1, 4))

    def forward(self, images: Tensor) -> Tensor:
        count, offset = images.shape[0], self.token * 2
        return self.conv(images).view(count, 4, -1).mean(2) + offset.expand(count, -1)


def test_sizes_and_constants_do_not_travel() -> None:
    network, images = Sized(), torch.randn(3, 3, 8, 8)
    halves = split(network, "conv", images)
    assert isinstance(halves, GraphSplit)
    features = halves.head(images)
    assert all(len(tensor) == len(images) for tensor in features.carried)
    torch.testing.assert_close(halves.tail(features), network(images))


def test_features_survive_an_in_place_relu_behind_the_cut(make: Make) -> None:
    halves = split(make("inplace").network, "features.2", torch.rand(1, 3, 16, 16))
    features = halves.head(torch.randn(2, 3, 16, 16))
    before = features.values.clone()
    halves.tail(features)
    assert torch.equal(features.values, before)
    assert (before < 0).any()


def test_residual_around_the_layer_is_carried(make: Make) -> None:
    assert len(make("vit").head(torch.rand(2, 3, 28, 28)).carried) == 1
    assert make("inplace").head(torch.rand(2, 3, 16, 16)).carried == ()


def test_weights_are_shared_and_modes_restored(make: Make) -> None:
    network = make("inplace").network.train()
    network.features[1].eval()
    halves = split(network, "features", torch.rand(1, 3, 16, 16))
    assert network.training
    assert not network.features[1].training
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        network.linear.weight.mul_(2)
        torch.testing.assert_close(halves.tail(halves.head(images)), network(images))


@pytest.mark.parametrize(
    ("layer", "error", "says"),
    [
        ("featurs.0", WrongUsage, 'unknown layer "featurs.0"; did you mean "features.0"?'),
        ("", WrongUsage, 'unknown layer ""'),
        ("linear", Refusal, 'layer "linear" gives 1 x 4, which has no spatial extent'),
    ],
)
def test_layers_that_cannot_be_cut_at(make: Make, layer: str, error: type[Refusal], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        split(make("inplace").network, layer, torch.rand(1, 3, 16, 16))


def test_a_pooled_layer_has_no_extent() -> None:
    with pytest.raises(Refusal, match="no spatial extent"):
        build("resnet18", "ab", 64, 0).split("avgpool")
