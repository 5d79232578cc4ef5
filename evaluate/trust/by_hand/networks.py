"""The networks whose weights are set: what each reads follows from the weights, and is stated beside them.

Each but the transformer begins with a convolution of 1 x 1 and a ReLU, whose channels tell one bright colour each and
are exactly zero on grey and on every other colour of the scene. So a pixel that shows none of the parts that a network
reads adds nothing to any logit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.classifier import Classifier, wrap
from .attending import PATCH, set_transformer
from .scenes import SIZE, spec_of

MARGIN = 0.1  # how much brighter than the two others together a primary colour's channel has to be


@dataclass(frozen=True)
class HandsetNetwork:
    """A network whose weights are set, the scene that it looks at, and the parts whose pixels it can use."""

    name: str
    words: str  # what it reads, for people
    scene: str
    reads: tuple[str, ...]  # the parts that can speak for a class
    build: Callable[[], nn.Module]  # on images in [0, 1]
    against: tuple[str, ...] = ()  # parts that can only speak against
    layer: str = "features"  # that CAMs look at
    cell: int = 1  # the side of the squares of pixels that it reads as one

    def classifier(self) -> Classifier:
        """The network as a classifier of the scene's classes, in eval mode."""
        return wrap(self.build(), spec_of(self.scene).class_names, SIZE, self.layer, (0, 0, 0), (1, 1, 1)).eval()


class Pooled(nn.Module):
    """Features, their mean over all pixels, and layers on top."""

    def __init__(self, features: nn.Sequential, *top: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.top = nn.Sequential(*top)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) in [0, 1], of any size."""
        logits: Tensor = self.top(self.features(images).mean((2, 3)))
        return logits


def set_convolution(weights: Tensor, biases: Tensor) -> nn.Conv2d:
    """A convolution of 1 x 1 with these weights (K, C) and biases (K,)."""
    layer = nn.Conv2d(weights.shape[1], weights.shape[0], 1)
    layer.weight.data, layer.bias.data = weights[:, :, None, None].clone(), biases.clone()  # type: ignore[union-attr]
    return layer


def set_linear(weights: Tensor, bias: float = 0.0) -> nn.Linear:
    """A linear layer with these weights (M, K), and one bias for all."""
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    layer.weight.data, layer.bias.data = weights.clone(), torch.full((len(weights),), bias)
    return layer


def tell_colours(primary: bool, secondary: bool) -> tuple[Tensor, Tensor]:
    """Weights (K, 3) and biases (K,) for red, green, blue, then for cyan, magenta, yellow, as far as wanted."""
    eye = torch.eye(3)
    weights = torch.cat([2 * eye - 1] * primary + [1 - 2 * eye] * secondary)
    biases = torch.cat([torch.full((3,), -MARGIN)] * primary + [torch.full((3,), -1.0)] * secondary)
    return weights, biases


def detect_colours(primary: bool, secondary: bool) -> nn.Sequential:
    """A channel for each colour that is told, above zero where a pixel shows it."""
    return nn.Sequential(set_convolution(*tell_colours(primary, secondary)), nn.ReLU())


def read_colours(primary: bool, gain: float) -> nn.Module:
    """A logit for each primary, or each secondary, colour: how much of it is in the picture."""
    return Pooled(detect_colours(primary, not primary), set_linear(gain * torch.eye(3)))


def read_both() -> nn.Module:
    """AND: a logit for each pair of petals and disc, above zero if both are there: relu(petals + disc - threshold)."""
    pairs = torch.zeros(4, 6)
    for label in range(4):
        pairs[label, label // 2], pairs[label, 3 + label % 2] = PETALS, DISC
    return Pooled(detect_colours(True, True), set_linear(pairs, -THRESHOLD), nn.ReLU(), set_linear(10 * torch.eye(4)))


def read_either() -> nn.Module:
    """OR: a logit of each class that is full if petals or disc are there: 1 - relu(1 - petals - disc)."""
    either = torch.cat([-1.5 * PETALS * torch.eye(3), -1.5 * DISC * torch.eye(3)], 1)
    return Pooled(detect_colours(True, True), set_linear(either, 1.0), nn.ReLU(), set_linear(-4 * torch.eye(3), 4.0))


def cancel_pairs() -> nn.Module:
    """The colour of the petals, and two channels for each colour of the disc whose weights cancel in every logit."""
    weights, biases = tell_colours(True, True)
    twice = torch.tensor([0, 1, 2, 3, 4, 5, 3, 4, 5])
    pair = torch.full((3, 3), 150.0)
    top = set_linear(torch.cat([20 * torch.eye(3), pair, -pair], 1))
    return Pooled(nn.Sequential(set_convolution(weights[twice], biases[twice]), nn.ReLU()), top)


def saturate(limit: float = 0.04) -> nn.Module:
    """How many pixels are of each primary colour: every pixel's channel is clipped far below what petals reach."""
    convolution, relu = detect_colours(True, False)
    twice = set_convolution(torch.eye(3).repeat(2, 1), torch.tensor([0.0] * 3 + [-limit] * 3))
    counts = 20 / limit * torch.cat([torch.eye(3), -torch.eye(3)], 1)
    return Pooled(nn.Sequential(convolution, relu, twice, nn.ReLU()), set_linear(counts))


def suppress() -> nn.Module:
    """The colour of the petals, less what the background shows of any secondary colour, in every logit."""
    top = torch.cat([20 * torch.eye(3), torch.full((3, 3), -10.0)], 1)
    return Pooled(detect_colours(True, True), set_linear(top, 5.0))


PETALS, DISC, THRESHOLD = 7.0, 50.0, 1.6  # of either part alone there is at most 1.57, of both at least 1.66

HANDSET = (
    HandsetNetwork("colour", "the colour of the petals", "petals", ("petals",), lambda: read_colours(True, 20)),
    HandsetNetwork(
        "disc", "the colour of the disc, whatever the petals", "petals", ("disc",), lambda: read_colours(False, 200)
    ),
    HandsetNetwork(
        "background",
        "the colour of the background, whatever the flower",
        "ground",
        ("background",),
        lambda: read_colours(True, 8),
    ),
    HandsetNetwork("and", "petals and disc together: neither is enough", "pairs", ("petals", "disc"), read_both),
    HandsetNetwork("or", "petals or disc: each is enough, and both are there", "both", ("petals", "disc"), read_either),
    HandsetNetwork(
        "cancelling",
        "the colour of the petals; two channels see the disc, and cancel each other",
        "petals",
        ("petals",),
        cancel_pairs,
    ),
    HandsetNetwork(
        "saturated", "how many pixels have the petals' colour, however bright", "petals", ("petals",), saturate
    ),
    HandsetNetwork(
        "suppressor",
        "the colour of the petals, less that of the background, which only speaks against",
        "backdrop",
        ("petals",),
        suppress,
        against=("background",),
    ),
    HandsetNetwork(
        "attention",
        "the colour of the petals, in patches that a class token attends to",
        "petals",
        ("petals",),
        set_transformer,
        layer="encoder.layers.encoder_layer_1.ln_1",
        cell=PATCH,
    ),
)
"""All networks whose weights are set, in the order of the table."""


def handset(name: str) -> HandsetNetwork:
    """The network of a name."""
    return next(network for network in HANDSET if network.name == name)
