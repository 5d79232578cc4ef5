"""Convolutions of 3 x 3 with a fraction of the multiplications, forwards and back to their inputs, on a CPU.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016: F(4 x 4, 3 x 3).
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .agreement import agree
from .unrolled import module_of

SIDE, WINDOW = 4, 6  # of a tile of outputs, and of the inputs that it sees
FEWEST_TILES = 16  # of a batch: below, reading the transformed weights takes longer than multiplying by them
PORTION = 2**21  # transformed inputs at once: 8 MiB, which the processor's cache holds
SPOT = 2 * SIDE + 1  # side of the square in which both ways are compared
BREAK_EVEN = 1200  # places of outputs that pass directly first: to transform the weights takes what these would save
WORTH = 0.9  # share of the direct convolution's time from which the direct one is taken

# How inputs, kernels and products are transformed along one axis.
INPUT: list[list[float]] = [
    [4.0, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
KERNEL: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
OUTPUT: list[list[float]] = [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def along_both_axes(rows: list[list[float]]) -> Tensor:
    """The matrix that transforms flattened squares as its argument transforms each of their axes."""
    matrix = torch.tensor(rows, dtype=torch.float64, device="cpu")
    return torch.kron(matrix, matrix).float()


INPUTS, KERNELS, OUTPUTS = (along_both_axes(rows) for rows in (INPUT, KERNEL, OUTPUT))


class WinogradConv2d(nn.Conv2d):
    """A convolution of 3 x 3, stride 1 and padding 1 that multiplies less where that is faster.

    Its weights are those of the convolution that it stands for, and must stay as they are. Four times as many numbers
    are kept beside them from the first such pass on, in which both ways have to agree, and five times as many from the
    first such gradient on. There is no such pass before as many features have come as make up for it. Where the weights
    themselves want a gradient, the convolution is torch's own.
    """

    transformed: Tensor | None
    mirrored: WinogradConv2d | None

    def __init__(self, convolution: nn.Conv2d) -> None:
        inputs, outputs = convolution.in_channels, convolution.out_channels
        super().__init__(inputs, outputs, 3, padding=1, bias=convolution.bias is not None, device="meta")
        self.weight, self.bias = convolution.weight, convolution.bias
        self.register_buffer("transformed", None, persistent=False)
        self.register_module("mirrored", None)
        self.passed = 0  # places of outputs, directly, where they would have gained
        self.disagrees = False

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of features (B, C, H, W)."""
        if self.disagrees or not self.gains(input):
            return super().forward(input)
        if self.transformed is None and self.passed >= BREAK_EVEN:
            self.prepare(input)
        if self.transformed is None:
            self.passed += len(input) * input.shape[2] * input.shape[3]
            return super().forward(input)
        if torch.is_grad_enabled() and input.requires_grad:
            return cast(Tensor, WinogradPass.apply(input, self))
        return self.multiply_less(input)

    def gains(self, features: Tensor) -> bool:
        """Whether these features pass faster with fewer multiplications, and the weights want no gradient."""
        if features.device.type != "cpu" or features.dtype != torch.float32 or features.ndim != 4:
            return False
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in self.parameters(recurse=False)):
            return False
        height, width = features.shape[2:]
        enough = len(features) * tiles(height) * tiles(width) >= FEWEST_TILES
        return enough and relative_time(self, height, width) < WORTH

    @torch.no_grad()
    def prepare(self, features: Tensor) -> None:
        """Transform the weights, unless what comes of it where these features are largest is something else.

        Features that are zero everywhere tell nothing: the weights stay as they are until others come.
        """
        spot = crop_around_largest(features)
        if not spot.any():
            return
        self.transformed = transform_kernels(self.weight)
        self.disagrees = not agree(self.multiply_less(spot), super().forward(spot), torch.float32)
        if self.disagrees:
            self.transformed = None

    def mirror(self) -> WinogradConv2d:
        """The convolution that takes the gradient of outputs to that of inputs, made once.

        Its kernels are turned by half a turn, its inputs are the outputs here, and it has no bias.
        """
        if self.mirrored is None:
            turned = nn.Conv2d(self.out_channels, self.in_channels, 3, padding=1, bias=False, device="meta")
            weights = self.weight.detach().flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
            turned.weight = nn.Parameter(weights, requires_grad=False)
            self.mirrored = WinogradConv2d(turned)
        return self.mirrored

    def multiply_less(self, features: Tensor) -> Tensor:
        """The convolution by way of the transformed weights, channels last."""
        assert self.transformed is not None
        count, channels, height, width = features.shape
        down, across = tiles(height), tiles(width)
        size = max(1, PORTION // (WINDOW**2 * down * across * channels))
        shape = (count, self.out_channels, SIDE * down, SIDE * across)
        output = torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)
        squares = output.permute(0, 2, 3, 1).view(count, down, SIDE, across, SIDE, -1)
        edges = (0, 0, 1, SIDE * across - width + 1, 1, SIDE * down - height + 1)
        bias = 0.0 if self.bias is None else self.bias
        for images, part in zip(features.permute(0, 2, 3, 1).split(size), squares.split(size), strict=True):
            products = torch.bmm(transform_windows(F.pad(images, edges)), self.transformed)
            values = (OUTPUTS @ products.flatten(1)).view(SIDE, SIDE, len(images), down, across, -1)
            torch.add(values.permute(2, 3, 0, 4, 1, 5), bias, out=part)
        if output.shape[2:] == (height, width):
            return output
        return output[..., :height, :width].clone(memory_format=torch.channels_last)


class WinogradPass(torch.autograd.Function):
    """The pass of a `WinogradConv2d`, which keeps nothing for the way back: that is a convolution like it.

    The gradient can be differentiated in turn: it goes through the mirrored convolution as features do through this.
    """

    @staticmethod
    def forward(context: Any, features: Tensor, convolution: WinogradConv2d) -> Tensor:
        context.mirror = convolution.mirror
        return convolution.multiply_less(features)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.mirror()(gradient), None


def crop_around_largest(features: Tensor) -> Tensor:
    """The square of some tiles (1, C, h, w) around the largest value of the first of some features (B, C, H, W)."""
    place = features[0].abs().amax(0)
    down, across = divmod(int(place.argmax()), place.shape[1])
    top, left = (max(0, middle - SPOT // 2) for middle in (down, across))
    return features[:1, :, top : top + SPOT, left : left + SPOT]


def transform_windows(images: Tensor) -> Tensor:
    """The transformed windows of images (n, H, W, C): (36, windows, C)."""
    windows = images.unfold(1, WINDOW, SIDE).unfold(2, WINDOW, SIDE).permute(4, 5, 0, 1, 2, 3)
    return (INPUTS @ windows.reshape(WINDOW**2, -1)).view(WINDOW**2, -1, images.shape[3])


def transform_kernels(weights: Tensor) -> Tensor:
    """The transformed kernels of weights (O, C, 3, 3): (36, C, O)."""
    kernels = weights.permute(2, 3, 1, 0).reshape(9, -1)
    return (KERNELS @ kernels).view(WINDOW**2, weights.shape[1], weights.shape[0])


def tiles(side: int) -> int:
    """The number of tiles that cover so many outputs."""
    return math.ceil(side / SIDE)


def relative_time(convolution: nn.Conv2d, height: int, width: int) -> float:
    """About which share of the direct convolution's time the transformed one takes.

    A quarter of the multiplications, and transforms whose share falls with the number of channels (fitted to times on
    one core); more where tiles stand out over the edges.
    """
    channels = 2 / (1 / convolution.in_channels + 1 / convolution.out_channels)
    covered = SIDE**2 * tiles(height) * tiles(width) / (height * width)
    return covered * (0.25 + 72 / channels)


def replace_wide_convolutions(network: fx.GraphModule) -> None:
    """Replace the convolutions of 3 x 3 that may gain from it by `WinogradConv2d`, in place; weights are shared."""
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, nn.Conv2d) and is_plain(module) and relative_time(module, SIDE, SIDE) < WORTH:
            setattr(network, str(node.target), WinogradConv2d(module))


def is_plain(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is torch's own, of 3 x 3, with stride, dilation and groups of 1 and a border of zeros."""
    settings = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    hooks = (*convolution._forward_hooks, *convolution._forward_pre_hooks)
    return (
        type(convolution) is nn.Conv2d
        and settings == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (convolution.groups, convolution.padding_mode) == (1, "zeros")
        and not hooks
    )
