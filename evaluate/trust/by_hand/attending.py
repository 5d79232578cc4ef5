"""A vision transformer whose weights are set: its class token attends to patches of a primary colour, and reads it.

Tokens hold pairs of opposite numbers, so that their mean is zero, and one pair that is far larger than all others, so
that every layer norm multiplies by nearly the same. The first block's attention adds nothing, and its MLP says how far
a patch shows a primary colour; in the second block the tokens attend to such patches alone, and its MLP adds nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...models.networks.random_state import preserve_random_state
from .scenes import SIZE

PATCH = 3  # pixels along each side
LARGE = 100.0  # the number that all layer norms divide by, but for a factor
SHARP = 40.0  # how steep the GELU is that parts colours from grey
ATTENDING = 30.0  # how much more a token attends to a patch of colour, as a power of e
GAIN = 12.0
MARGIN = 0.1
RAW, COLOURS, READ = (
    2,
    8,
    14,
)  # where the pairs begin: mean colour of the patch, its colour if it is primary, what is read
WIDTH = 20


def set_transformer() -> nn.Module:
    """The transformer: images (B, 3, S, S) in [0, 1] -> logits (B, 3), one for each primary colour."""
    from torchvision.models import VisionTransformer  # here, as it takes a while to load

    with preserve_random_state():  # its layers draw weights when they are made
        network: Any = VisionTransformer(SIZE, PATCH, 2, 1, hidden_dim=WIDTH, mlp_dim=3, num_classes=3)
    for weights in network.parameters():
        weights.data.zero_()
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data.fill_(LARGE * (2 / WIDTH) ** 0.5)
    _set_embedding(network)
    first, second = network.encoder.layers
    _set_detector(first.mlp[0], first.mlp[3])
    _set_attention(second.self_attention)
    network.heads.head.weight.data = GAIN * _pairs(READ).T / 2
    transformer: nn.Module = network
    return transformer


def _pairs(start: int) -> Tensor:
    """From three numbers to three pairs of opposite numbers at a place of the token: (WIDTH, 3)."""
    matrix = torch.zeros(WIDTH, 3)
    for channel in range(3):
        matrix[start + 2 * channel, channel], matrix[start + 2 * channel + 1, channel] = 1.0, -1.0
    return matrix


def _set_embedding(network: Any) -> None:
    """Let each patch hold how much its mean red exceeds green and blue together, and so on; and the large pair."""
    excess = _pairs(RAW) @ (2 * torch.eye(3) - 1) / PATCH**2
    network.conv_proj.weight.data = excess[:, :, None, None].expand(-1, -1, PATCH, PATCH).clone()
    for token in (network.conv_proj.bias.data, network.class_token.data[0, 0]):
        token[0], token[1] = LARGE, -LARGE


def _set_detector(into: nn.Linear, out_of: nn.Linear) -> None:
    """Let an MLP write how far the excess of a colour is above the margin; its GELU is nearly a ReLU."""
    into.weight.data, into.bias.data = SHARP * _pairs(RAW).T / 2, torch.full((3,), -SHARP * MARGIN)
    out_of.weight.data = _pairs(COLOURS) / SHARP


def _set_attention(attention: nn.MultiheadAttention) -> None:
    """Let every token attend to patches of a colour, and read the colour from them."""
    seen = _pairs(COLOURS).T / 2
    weights, biases = torch.zeros(3, WIDTH, WIDTH), torch.zeros(3, WIDTH)
    biases[0, 0] = WIDTH**0.5  # a query that is the same for all tokens
    weights[1, 0] = ATTENDING * seen.sum(0)
    weights[2] = _pairs(READ) @ seen
    assert attention.in_proj_weight is not None, "query, key and value are of one width"
    attention.in_proj_weight.data, attention.in_proj_bias.data = weights.flatten(0, 1), biases.flatten()
    attention.out_proj.weight.data = torch.eye(WIDTH)
