"""Many passes through a network in batches, never more images at once than it may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """Images (B, 3, H, W) in [0, 1] -> logits (B, C): a `Classifier`, or its `Streamlined` copy."""

    @property
    def in_flight(self) -> int: ...

    def __call__(self, images: Tensor) -> Tensor: ...


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """Each row's own logit (B,) of its target."""
    return logits.gather(1, targets[:, None])[:, 0]


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Each row's own probability (B,) of its target."""
    return logit(logits.softmax(1), targets)


Readout = Callable[[Tensor, Tensor], Tensor]  # (logits (B, C), targets (B,)) -> (B,)


@torch.no_grad()
def predict_perturbed(
    network: Network,
    targets: Tensor,
    rows: Tensor,
    numbers: Tensor,
    perturbed: Callable[[Tensor, Tensor], Tensor],
    read: Readout = logit,
) -> Tensor:
    """Read the logits of many perturbed images, without gradients.

    Args:
        targets: (B,) int64, the class asked for in each row of a query.
        rows: (P,) int64, which row each perturbed image is made of.
        numbers: (P,) int64, which perturbation of that row it is.
        perturbed: (rows (n,), numbers (n,)) -> images (n, 3, H, W); it is asked for `in_flight` images at once.
        read: what is taken of the logits.

    Returns:
        (P,): leave out the pairs whose answer is known already, and nothing is computed twice.
    """
    portions = zip(rows.split(network.in_flight), numbers.split(network.in_flight), strict=True)
    return torch.cat([read(network(perturbed(portion, which)), targets[portion]) for portion, which in portions])


def every_pair(rows: int, numbers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each row with each number: two (rows * numbers,) int64, the numbers of a row side by side."""
    return (
        torch.arange(rows, device=device).repeat_interleave(numbers),
        torch.arange(numbers, device=device).repeat(rows),
    )


def input_gradient(network: Network, images: Tensor, targets: Tensor, read: Readout = logit) -> Tensor:
    """The gradient (B, 3, H, W) of each image's target logit (or what `read` takes) with respect to its own pixels."""
    portions = zip(images.split(network.in_flight), targets.split(network.in_flight), strict=True)
    return torch.cat([gradient_at(network, portion, classes, read) for portion, classes in portions])


def gradient_at(network: Network, images: Tensor, targets: Tensor, read: Readout) -> Tensor:
    """The input gradient as `input_gradient` gives it, of all images at once."""
    leaves = images.detach().requires_grad_()
    # Rows do not mix in eval mode, so that the gradient of the sum holds that of every row.
    return torch.autograd.grad(read(network(leaves), targets).sum(), leaves)[0]
