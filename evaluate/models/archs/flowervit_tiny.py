"""Flowervit_tiny: the smaller vision transformer, whose patches come out of two convolutions."""

from __future__ import annotations

from torch import nn

from ...registry import archs
from .flowervit import GRID, check_size

DEPTH = 2
WIDTH = 64  # channels of a token
STEM = 16  # channels of the first convolution


@archs.register(
    "flowervit_tiny",
    family="vit",
    layer=f"encoder.layers.encoder_layer_{DEPTH - 1}.ln_1",  # as in flowervit
    source="Dosovitskiy et al., ICLR 2021; convolutions first: Xiao et al., NeurIPS 2021",
    learning_rate=3e-3,
    epochs=5,
)
def flowervit_tiny(classes: int, size: int) -> nn.Module:
    """A vision transformer of 14 x 14 patches that two convolutions see, two blocks of two heads, a class token.

    Raises:
        Refusal: the size cannot be divided into 14 patches a side.
    """
    from torchvision.models import VisionTransformer  # here, as it takes a while to load

    check_size("flowervit_tiny", size)
    patch = size // GRID
    network = VisionTransformer(size, patch, DEPTH, 2, hidden_dim=WIDTH, mlp_dim=2 * WIDTH, num_classes=classes)
    # No batch norm, for which relevance through attention has no rule, and the activation of the blocks, so that what
    # asks for rectifiers is refused as on other transformers.
    network.conv_proj = nn.Sequential(
        nn.Conv2d(3, STEM, 3, padding=1), nn.GELU(), nn.Conv2d(STEM, WIDTH, patch, stride=patch)
    )
    return network
