"""Opti-CAM: the weights of the channels are optimised for the mask that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..maps import normalise_range, upsample
from ..models.networks.batched_passes import Network, Readout, logit, probability
from ..models.streamlined import streamline
from ..registry import explainers
from .activation_map import FAMILY, ActivationMap
from .attribution.activations import Activations
from .attribution.adam import Moments
from .ranges import Between, Choices, Ranges

ENOUGH = 1e-10  # an image is done once its objective changes by less
LOOK = 10  # iterations after which images that are done are left out on a GPU, which has to be waited for


def is_time_to_look(device: torch.device, step: int) -> bool:
    """Whether images that are done are left out after a step: each time, but on a GPU, which waits for the answer."""
    return device.type == "cpu" or step % LOOK == 0


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Each row's logit (B,) of its target, minus the largest of the others."""
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
    return logit(logits, targets) - others


def log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Each row's logarithm (B,) of its target's probability: the cross-entropy, negated."""
    return logit(logits.log_softmax(1), targets)


def normalise_by_maximum(maps: Tensor) -> Tensor:
    """Divide each of the maps (B, H, W) by its own maximum; zeros where that is not positive."""
    high = maps.amax((1, 2), keepdim=True)
    return torch.where(high > 0, maps, 0.0) / torch.where(high > 0, high, 1.0)


def combine(weights: Tensor, channels: Tensor) -> Tensor:
    """Combine channels (B, K, h, w) by positive weights (B, K, 1, 1): their weighted sum (B, h, w).

    A spread that is nothing but rounding is taken out, and the gradient left in: channels behind a fresh layer norm
    cancel at equal weights, and normalised to a mask, what is left would be noise.
    """
    maps, scale = (weights * channels).sum(1), (weights * channels.abs()).sum(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    noise = 8 * torch.finfo(maps.dtype).eps * scale.amax((1, 2), keepdim=True)
    return torch.where(high - low > noise, maps, maps + (low - maps).detach())


class Term(NamedTuple):
    """A term of an objective: one masked image, and what its score is worth."""

    image: Callable[[Tensor, Tensor], Tensor]  # (images (B, 3, H, W), masks (B, 1, H, W)) -> images
    gain: Callable[[Tensor, Tensor], Tensor]  # (its score (B,), the whole image's score (B,)) -> (B,)


def keep(images: Tensor, masks: Tensor) -> Tensor:
    """Keep what the masks show of images, and blacken the rest."""
    return images * masks


def cut(images: Tensor, masks: Tensor) -> Tensor:
    """Cut what the masks show out of images, and keep the rest."""
    return images * (1 - masks)


OBJECTIVES = {
    "mask": (Term(keep, lambda score, whole: score),),
    "diff": (Term(keep, lambda score, whole: -(whole - score).abs()),),
    "iomask": (Term(keep, lambda score, whole: score), Term(cut, lambda score, whole: -score)),
    "iodiff": (
        Term(keep, lambda score, whole: -(whole - score).abs()),
        Term(cut, lambda score, whole: (whole - score).abs()),
    ),
}
NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "range": normalise_range,
    "max": normalise_by_maximum,
    "sigmoid": torch.sigmoid,
}
SELECTORS: dict[str, Readout] = {
    "logit": logit,
    "margin": margin,
    "probability": probability,
    "cross_entropy": log_probability,
}


class Problem(NamedTuple):
    """What stays the same while Opti-CAM optimises the weights."""

    network: Network
    channels: Tensor  # (B, K, h, w)
    images: Tensor  # (B, 3, H, W)
    targets: Tensor  # (B,)
    whole: Tensor  # (B,): the score of the whole image


@explainers.register("opticam", **FAMILY, source="Zhang et al., CVIU 2024", sign="positive")
@dataclass(frozen=True)
class OptiCam(ActivationMap):
    """The convex combination of channels that, as a mask, has the network speak most for the class.

    The map is the mask: upsampled and normalised, one layer or several. Of all weights on the way of the optimiser,
    those with the best objective are taken. The map is tuned to the network's answer, not to where the evidence lies.
    The objective has kinks, at which rounding grows from step to step: after a hundred, maps hold to about 1e-3.
    """

    objective: str = "mask"  # or diff, iomask, iodiff
    normalisation: str = "range"  # or max, sigmoid
    selector: str = "logit"  # or margin (over the best other class), probability, cross_entropy
    iterations: int = 100  # at most: an image is done earlier once its objective stands still
    learning_rate: float = 0.1  # of Adam

    quick: ClassVar[dict[str, Any]] = {"iterations": 8}  # what tests of everything but the quality may replace
    ranges: ClassVar[Ranges] = {
        "objective": Choices(tuple(OBJECTIVES)),
        "normalisation": Choices(tuple(NORMALISATIONS)),
        "selector": Choices(tuple(SELECTORS)),
        "learning_rate": Between(0.01, 0.5, log=True),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = (
            ("objective", self.objective, OBJECTIVES),
            ("normalisation", self.normalisation, NORMALISATIONS),
            ("selector", self.selector, SELECTORS),
        )
        for kind, name, known in choices:
            check_known(kind, name, known)
        if self.iterations < 0:
            raise WrongUsage(f"opticam: iterations is {self.iterations}; expected 0 or more")
        if not self.learning_rate > 0:
            raise WrongUsage(f"opticam: learning_rate is {self.learning_rate}; expected a positive number")

    def draw(self, seen: Activations) -> Tensor:
        """Draw the map of a layer: the mask (B, H, W) itself."""
        return self.mask(self.coarse(seen), seen.query.images)

    def mask(self, maps: Tensor, images: Tensor) -> Tensor:
        """Make masks (B, H, W) of maps (B, h, w)."""
        return NORMALISATIONS[self.normalisation](upsample(maps, images))

    def coarse(self, seen: Activations) -> Tensor:
        """The combination of the channels (B, h, w)."""
        return combine(self.weights(seen), seen.channels)

    def weights(self, seen: Activations) -> Tensor:
        """Positive weights (B, K, 1, 1) that sum to 1."""
        select, query = SELECTORS[self.selector], seen.query
        whole = select(seen.logits(), query.targets)
        problem = Problem(streamline(seen.classifier), seen.channels.detach(), query.images, query.targets, whole)
        return self.optimise(problem).softmax(1)[:, :, None, None]

    def optimise(self, problem: Problem) -> Tensor:
        """Optimise the variables (B, K), whose softmax are the weights; those with the best objective are returned."""
        variables = torch.zeros_like(problem.channels[:, :, 0, 0])
        best, highest = variables.clone(), torch.full_like(problem.whole, -torch.inf)
        rows, moments, last = torch.arange(len(best), device=best.device), Moments.zero(variables), highest.clone()
        at_work = torch.ones_like(highest, dtype=torch.bool)  # of these rows
        for step in range(self.iterations + 1):
            values, slopes = self.ascent(problem, variables[rows], rows, slope=step < self.iterations)
            better = at_work & (values > highest[rows])
            best[rows] = torch.where(better[:, None], variables[rows], best[rows])
            highest[rows] = torch.where(better, values, highest[rows])
            at_work = at_work & ((values - last[rows]).abs() >= ENOUGH)
            last[rows] = values
            if is_time_to_look(rows.device, step):
                left = at_work.nonzero()[:, 0]
                rows, at_work, slopes, moments = rows[left], at_work[left], slopes[left], moments.of_rows(left)
                if not len(rows):
                    break
            moments = moments.after(slopes)
            variables[rows] += self.learning_rate * moments.move(step + 1)
        return best

    def ascent(self, problem: Problem, variables: Tensor, rows: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
        """The objective (n,) of some rows, and its gradient (n, K) if `slope`, else zeros."""
        values, slopes = torch.zeros_like(problem.whole[rows]), torch.zeros_like(variables)
        size = problem.network.in_flight
        for start in range(0, len(rows), size):
            portion = slice(start, start + size)
            for term in OBJECTIVES[self.objective]:  # one after the other: no more images at once than in flight
                with torch.set_grad_enabled(slope):
                    leaves = variables[portion].detach().requires_grad_(slope)
                    gain = self.gain(problem, term, leaves, rows[portion])
                values[portion] += gain.detach()
                if slope:
                    slopes[portion] += torch.autograd.grad(gain.sum(), leaves)[0]
        return values, slopes

    def gain(self, problem: Problem, term: Term, variables: Tensor, rows: Tensor) -> Tensor:
        """The value (n,) of a term of the objective at variables (n, K)."""
        images, targets = problem.images[rows], problem.targets[rows]
        maps = combine(variables.softmax(1)[:, :, None, None], problem.channels[rows])
        masks = self.mask(maps, images)
        score = SELECTORS[self.selector](problem.network(term.image(images, masks[:, None])), targets)
        return term.gain(score, problem.whole[rows])
