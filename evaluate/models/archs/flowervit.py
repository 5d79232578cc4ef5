"""Flowervit: a small vision transformer."""

from __future__ import annotations

from torch import nn

from an8flower.errors import Refusal

from ...registry import archs

GRID = 14  # patches along each side
DEPTH = 4


@archs.register(
    "flowervit",
    family="vit",
    # What the last block's attention reads: behind the last block, the class does not depend on the patches at all.
    layer=f"encoder.layers.encoder_layer_{DEPTH - 1}.ln_1",
    source="Dosovitskiy et al., ICLR 2021",
    learning_rate=1e-3,
    epochs=8,
)
def flowervit(classes: int, size: int) -> nn.Module:
    """A vision transformer of 14 x 14 patches and a class token, four blocks of four heads.

    Raises:
        Refusal: the size cannot be divided into 14 patches a side.
    """
    from torchvision.models import VisionTransformer  # here, as it takes a while to load

    check_size("flowervit", size)
    return VisionTransformer(size, size // GRID, DEPTH, 4, hidden_dim=128, mlp_dim=256, num_classes=classes)


def check_size(arch: str, size: int) -> None:
    """Raise a Refusal unless images of a size can be cut into the patches of an architecture."""
    if size % GRID:
        raise Refusal(
            f"{arch} cuts images into {GRID} x {GRID} patches, and {size} px is no multiple of {GRID}; "
            f"use {near(size)} px"
        )


def near(size: int) -> int:
    """The multiple of the grid that is nearest to a size."""
    return max(1, round(size / GRID)) * GRID
