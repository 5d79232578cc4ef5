"""Networks with weights set by hand, which classify rendered flowers by something other than the whole evidence.

The flowers have petals of a primary colour that tells the class; all else is grey, but for the disc where its colour is
drawn by chance. So a pixel's saturation says whether it shows a petal.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from an8flower.evaluate.models.classifier import Classifier, wrap

SIZE = 42
PRIMARY = ["#e01010", "#10e010", "#1010e0"]
SECONDARY = ["#10e0e0", "#e010e0", "#e0e010"]
GREY = {f"{part}.colour": "#808080" for part in ("disc", "stem", "leaves", "background")}
CLOSE = {"view.scale": 1.1}
FLOWERS = {"classes": {"petals.colour": PRIMARY}, "nuisance": {**GREY, **CLOSE}}
DISCS = {"classes": {"petals.colour": PRIMARY}, "nuisance": {**GREY, **CLOSE, "disc.colour": SECONDARY}}
POTS = {
    "classes": {"pot.count": [1, 0]},
    "nuisance": {
        **GREY,
        "petals.colour": "#808080",
        "pot.colour": "#e01010",
        "pot.shape": "bowl",
        "pot.size": 1.0,
        "leaves.count": 0,
        "background.kind": "plain",
        "view.scale": 1.1,
        "view.elevation": 25,
        "view.x": 0,
        "view.y": 0,
    },
}


def saturation(images: Tensor) -> Tensor:
    """How far from grey each pixel is, (B, 1, H, W) in [0, 1]; the same in light and in shade."""
    return 1 - images.amin(1, keepdim=True) / images.amax(1, keepdim=True).clamp(min=1e-6)


def votes(images: Tensor) -> Tensor:
    """How much each pixel speaks for each primary colour, (B, 3, H, W): a convolution of 1 x 1; grey has none."""
    return images - images.mean(1, keepdim=True)


def widened(where: Tensor, by: int = 1) -> Tensor:
    """Pixels (B, 1, H, W), 0 or 1, and those beside them."""
    return max_pool2d(where, 2 * by + 1, 1, by)


def narrowed(where: Tensor) -> Tensor:
    """Pixels (B, 1, H, W), 0 or 1, that have no neighbour without."""
    return 1 - widened(1 - where)


def mean_within(values: Tensor, where: Tensor) -> Tensor:
    """The mean of values (B, C, H, W) over pixels (B, 1, H, W), (B, C); 0 where there is none."""
    return (values * where).sum((2, 3)) / where.sum((2, 3)).clamp(min=1)


class Handmade(nn.Module):
    """A network without weights: `read` makes logits of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return 100 * self.read(self.seen(images))

    def read(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class OnePixel(Handmade):
    """The single pixel that speaks most for a class decides."""

    def read(self, images: Tensor) -> Tensor:
        return votes(images).amax((2, 3))


class Rim(Handmade):
    """The outermost pixels of the petals decide."""

    def read(self, images: Tensor) -> Tensor:
        petals = (saturation(images) > 0.6).float()
        return mean_within(votes(images), petals - narrowed(petals))


class StrongEdges(Handmade):
    """Pixels beside strong edges of the brightness decide."""

    def read(self, images: Tensor) -> Tensor:
        brightness = images.mean(1, keepdim=True)
        contrast = max_pool2d(brightness, 3, 1, 1) + max_pool2d(-brightness, 3, 1, 1)
        return mean_within(votes(images), (contrast > 0.12).float())


class Halo(Handmade):
    """The network finds the petals, paints them grey, and goes by the ring of pixels around them."""

    def read(self, images: Tensor) -> Tensor:
        petals = (saturation(images) > 0.4).float()
        return 10 * mean_within(votes(images), widened(petals) - petals)


class Mixed(Handmade):
    """Pixels whose colour is mixed decide: those that petals cover in part."""

    def read(self, images: Tensor) -> Tensor:
        mixed = (saturation(images) > 0.1) & (saturation(images) < 0.55)
        return mean_within(votes(images), mixed.float())


class MeanColour(Handmade):
    """A soft histogram of the whole picture decides: how many pixels speak for each class."""

    def read(self, images: Tensor) -> Tensor:
        return torch.sigmoid(40 * (votes(images) - 0.2)).mean((2, 3))


class Disc(Handmade):
    """The colour of the disc decides, which does not tell the class."""

    def read(self, images: Tensor) -> Tensor:
        red, green, blue = images.unbind(1)
        cyan, magenta, yellow = green.minimum(blue) - red, red.minimum(blue) - green, red.minimum(green) - blue
        return torch.stack([cyan, magenta, yellow], dim=1).relu().mean((2, 3))


class Shadow(Handmade):
    """The darkness of the ground in the lines below the pot's place decides between a pot and none."""

    def read(self, images: Tensor) -> Tensor:
        darkness = 1 - images[:, :, 40:].mean((1, 2, 3))
        return torch.stack([darkness - 0.508, 0.508 - darkness], dim=1)


def wrapped(network: nn.Module, classes: int = 3) -> Classifier:
    """A handmade network as a classifier."""
    return wrap(network, "abcdef"[:classes], SIZE, "seen", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def spec_words(words: dict[str, Any], rows: int) -> dict[str, Any]:
    """A spec in words, with so many test rows."""
    return {"name": "x", "size": SIZE, "rows": {"train": 6, "val": 6, "test": rows}, **words}
