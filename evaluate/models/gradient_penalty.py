"""A penalty on gradients that are hard to read: training pulls a network's input gradient towards the guided one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal, WrongUsage

from .networks.guard import evaluating
from .networks.rectifiers import Rectifying, require_relus
from .networks.twice_differentiable import TwiceDifferentiable
from .penalty_words import STRENGTH, Distance, Scalar
from .probing import run_on_grey

TINY = 1e-8  # added to a denominator, so that a gradient of zeros has a distance


@dataclass(frozen=True)
class GradientPenalty:
    """The term `strength * distance(dx, dG x)` of a training loss, the mean over the rows of a batch.

    dx is the gradient of a scalar of each row with respect to its normalised image by standard backpropagation, dG x
    that by guided backpropagation. The publication leaves open what is stated here: the scalar is the row's own
    cross entropy (or the logit of its label); dG x is a target, and gets no gradient itself; both passes draw the same
    dropout and use the statistics of the same batch, which enter the running statistics once.

    Attributes:
        distance: `cosine`, 1 - cos(dx, dG x), in [0, 2]; `mae` and `mse`, mean |dx - dG x| and mean (dx - dG x)^2 over
            channels and pixels; `histogram`, 1 - sum min(|dx|, |dG x|) / max(sum |dx|, sum |dG x|), in [0, 1], which is
            a reading of ours: the publication names a histogram intersection and gives no formula.
        strength: the weight of the term, at least 0.
        scalar: `loss` or `logit`.

    Source: Figueroa Torres et al., VISAPP 2024, eq. 11.
    """

    distance: Distance = "cosine"
    strength: float = STRENGTH
    scalar: Scalar = "loss"

    def __post_init__(self) -> None:
        """Refuse what is no penalty; raises WrongUsage."""
        if self.distance not in DISTANCES:
            raise WrongUsage(f'gradient penalty "{self.distance}": expected one of {", ".join(DISTANCES)}')
        if self.scalar not in get_args(Scalar):
            raise WrongUsage(f'gradient of "{self.scalar}": expected one of {", ".join(get_args(Scalar))}')
        if not 0 <= self.strength < float("inf"):
            raise WrongUsage(f"strength {self.strength:g}: expected a number of at least 0")

    def __str__(self) -> str:
        """The penalty as a model's card tells it."""
        return f"{self.distance}, strength {self.strength!r}, gradient of the {self.scalar}"

    def words(self) -> str:
        """The penalty as a term of a loss, in a few words."""
        return f"{self.strength:g} {self.distance} to the guided gradient of the {self.scalar}"

    def check(self, network: nn.Module, arch: str, size: int) -> None:
        """Check that guided backpropagation says something about every activation of a network.

        Raises:
            Refusal: it has no ReLU, or another activation besides.
        """
        with evaluating(network), torch.no_grad(), Rectifying("guided") as relus:
            run_on_grey(network, size)
        try:
            require_relus("gradient penalty", arch, relus)
        except NotApplicable:
            activations = f"uses {' and '.join(sorted(relus.others))}" if relus.others else "has none"
            raise Refusal(
                f"a gradient penalty needs ReLUs alone, and {arch} {activations}; leave the penalty out, or choose "
                "another architecture"
            ) from None

    def penalise(self, logits: Tensor, labels: Tensor, images: Tensor, ways: TwiceDifferentiable) -> Tensor:
        """The weighted penalty, a scalar that can be differentiated with respect to the weights.

        Args:
            logits: of the images, (B, C), with their graph, which was made in the block of `ways`.
            images: normalised, (B, 3, H, W), which want a gradient; they get none from the penalty.
            ways: by which the graph is gone through backwards.
        """
        total = self.total(logits, labels)
        with ways.towards_inputs(guided=True):
            (guided,) = torch.autograd.grad(total, images, retain_graph=True)
        with ways.towards_inputs():
            (gradient,) = torch.autograd.grad(total, images, create_graph=True)
        return self.strength * self.measure(gradient, guided)

    def measure(self, gradient: Tensor, guided: Tensor) -> Tensor:
        """The distance of gradients (B, 3, H, W) from guided ones, the mean over the rows."""
        return DISTANCES[self.distance](gradient.float().flatten(1), guided.float().flatten(1)).mean()

    def total(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over the rows of the scalar whose gradient is taken; logits (B, C), labels (B,)."""
        if self.scalar == "logit":
            return logits.float().gather(1, labels[:, None]).sum()
        return F.cross_entropy(logits.float(), labels, reduction="sum")


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    norms = first.norm(dim=1) * second.norm(dim=1)
    return 1 - (first * second).sum(1) / (norms + TINY)


def _histogram(first: Tensor, second: Tensor) -> Tensor:
    sizes = first.abs(), second.abs()
    whole = torch.maximum(*(size.sum(1) for size in sizes)).clamp(min=TINY)
    return 1 - torch.minimum(*sizes).sum(1) / whole


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "mae": lambda first, second: (first - second).abs().mean(1),
    "mse": lambda first, second: (first - second).square().mean(1),
    "histogram": _histogram,
}
