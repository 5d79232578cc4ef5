"""Meaningful perturbation: the smallest smooth mask whose blur takes the class's probability away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ..case import Query
from ..data.images import blur, blur_matrix
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, every_pair, input_gradient, predict_perturbed, probability
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from ..seeds import generator
from .attribution.adam import Moments
from .ranges import Between, Choices, Ranges

SIDE = 224  # lengths are those of images of 224 px; they shrink and grow with the image
PERTURBATIONS = ("blur", "black")
RADII = tuple(range(0, 175, 5))  # of the circles among which the first mask is chosen
SOFTNESS = 10.0  # the Gaussian that softens these circles
REMAINS = 0.01  # a circle drops the score when so much is left of what the largest one takes away
SAME = 1e-6  # probabilities that differ by less are taken for one, lest rounding chooses the circle


@explainers.register(
    "meaningful_perturbation",
    family="perturbation",
    source="Fong & Vedaldi, ICCV 2017",
    needs="a differentiable network",
    sign="positive",
)
@dataclass(frozen=True)
class MeaningfulPerturbation:
    """One minus a mask that keeps the image where it is 1 and blurs it where it is 0, in [0, 1].

    The mask minimises the class's probability, plus `l1` times what it blurs, plus `tv` times its total variation to
    the power `beta`; the sums run over the cells of its own coarse grid. The image is shifted a little in each step, so
    that the mask cannot rely on single pixels. Costs 36 forward passes to choose the first mask, and one forward and
    one backward pass an iteration. The map is zero where blurring the whole image does not lower the probability.
    """

    perturbation: str = "blur"  # or black: blur leaves the colours, and a class that they tell keeps its probability
    iterations: int = 300
    grid: int = 28  # cells along each side; never more than pixels
    l1: float = 1e-4
    tv: float = 1e-2
    beta: float = 3.0
    rate: float = 0.1  # of Adam
    blur: float = 10.0  # of the image: a Gaussian's standard deviation, for 224 px
    mask_blur: float = 5.0  # of the mask, likewise
    jitter: float = 3.0  # how far the image is shifted at most, likewise
    precision: str = "float32"  # of the network, or bf16

    quick: ClassVar[dict[str, Any]] = {"iterations": 5}  # what tests of everything but the quality may replace
    ranges: ClassVar[Ranges] = {
        "perturbation": Choices(PERTURBATIONS),
        "grid": Between(7, 28),
        "l1": Between(1e-5, 1e-2, log=True),
        "tv": Between(1e-3, 0.1, log=True),
        "beta": Between(1.0, 4.0),
        "rate": Between(0.03, 0.3, log=True),
        "blur": Between(5.0, 20.0),
        "mask_blur": Between(1.0, 10.0),
        "jitter": Between(0.0, 6.0),
    }

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.perturbation not in PERTURBATIONS:
            raise WrongUsage(f"meaningful_perturbation: {unknown('perturbation', self.perturbation, PERTURBATIONS)}")
        for name in ("iterations", "l1", "tv", "mask_blur", "jitter"):
            if not getattr(self, name) >= 0:
                raise WrongUsage(f"meaningful_perturbation: {name} is {getattr(self, name)}; expected 0 or more")
        for name in ("grid", "beta", "rate", "blur"):
            if not getattr(self, name) > 0:
                raise WrongUsage(f"meaningful_perturbation: {name} is {getattr(self, name)}; expected more than 0")

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        network = streamline(classifier, self.precision)
        side = query.images.shape[-1]
        backdrop = self.backdrop(query.images)
        spread = spread_matrix(side, min(self.grid, side), self.mask_blur * side / SIDE).to(query.images.device)
        first = first_masks(network, query, backdrop, len(spread.T))
        masks = self.optimise(network, query, backdrop, spread, first)
        return (1 - spread @ masks @ spread.T).clamp(0, 1)

    def backdrop(self, images: Tensor) -> Tensor:
        """The images that show where the mask is 0, in the images' shape."""
        if self.perturbation == "black":
            return torch.zeros_like(images)
        return blur(images, self.blur * images.shape[-1] / SIDE)

    def optimise(self, network: Network, query: Query, backdrop: Tensor, spread: Tensor, first: Tensor) -> Tensor:
        """Optimise the masks (B, g, g) with Adam, from the first ones on."""
        side = backdrop.shape[-1]
        reach = int(self.jitter * side / SIDE + 0.5)
        shifts = draw_shifts(query.seeds, self.iterations, reach)
        pairs = F.pad(torch.cat([query.images, backdrop], 1), [reach // 2, reach - reach // 2] * 2, mode="replicate")
        masks, moments = first, Moments.zero(first)
        for step in range(self.iterations):
            slopes = self.slopes(network, query.targets, masks, spread, cut_windows(pairs, shifts[:, step], side))
            moments = moments.after(slopes)
            masks = (masks - self.rate * moments.move(step + 1)).clamp(0, 1)
        return masks

    def slopes(self, network: Network, targets: Tensor, masks: Tensor, spread: Tensor, pairs: Tensor) -> Tensor:
        """The gradient (B, g, g) of what is minimised, for pairs (B, 6, H, W) of an image and its blur."""
        masks = masks.detach().requires_grad_()
        images, blurs = pairs.split(3, dim=1)
        perturbed = torch.lerp(blurs, images, (spread @ masks @ spread.T)[:, None])
        pulls = input_gradient(network, perturbed.detach(), targets, probability)
        # The product has the probability's gradient: the network itself stays out of this graph.
        return torch.autograd.grad((pulls * perturbed).sum() + self.regulariser(masks), masks)[0]

    def regulariser(self, masks: Tensor) -> Tensor:
        """The cost of masks that blur much or are rough, all rows added."""
        return self.l1 * (1 - masks).sum() + self.tv * total_variation(masks, self.beta)


def spread_matrix(side: int, grid: int, sigma: float) -> Tensor:
    """The matrix (side, grid) that repeats the cells of a line over its pixels, then blurs them."""
    cells = F.interpolate(torch.eye(grid)[None], side, mode="nearest-exact")[0].T
    return blur_matrix(side, sigma) @ cells


def total_variation(masks: Tensor, beta: float) -> Tensor:
    """The sum over all cells of (dx^2 + dy^2)^(beta / 2), with differences to the next cell, 0 beyond the border."""
    down = F.pad(masks.diff(dim=1), (0, 0, 0, 1))
    across = F.pad(masks.diff(dim=2), (0, 1))
    # Where the mask is flat, a power below 1 would have an infinite slope.
    return (down.square() + across.square()).clamp(min=1e-10).pow(beta / 2).sum()


def first_masks(network: Network, query: Query, backdrop: Tensor, grid: int) -> Tensor:
    """The masks (B, grid, grid) of the smallest circle whose blur takes away about as much as the largest one's."""
    keeps = 1 - circles(backdrop.shape[-1]).to(backdrop.device)
    masks = torch.cat([torch.ones_like(keeps[:1]), keeps])  # the first one leaves the image as it is

    def perturb(rows: Tensor, numbers: Tensor) -> Tensor:
        return torch.lerp(backdrop[rows], query.images[rows], masks[numbers, None])

    pairs = every_pair(len(backdrop), len(masks), backdrop.device)
    scores = predict_perturbed(network, query.targets, *pairs, perturb, probability).view(len(backdrop), -1)
    chosen = keeps[first_sufficient(scores[:, 1:], scores[:, 0])]
    return F.interpolate(chosen[:, None], (grid, grid), mode="nearest-exact")[:, 0]


def first_sufficient(scores: Tensor, whole: Tensor) -> Tensor:
    """The number (B,) of the first score of (B, R) that has dropped from the whole image's to about the last one."""
    fall = (whole - scores[:, -1])[:, None]
    dropped = ((scores - scores[:, -1:]) / fall < REMAINS) & (fall.abs() > SAME)
    dropped[:, -1] = True
    return dropped.int().argmax(1)


def circles(side: int) -> Tensor:
    """Softened discs (R, side, side) around the middle, 1 inside."""
    offsets = torch.arange(side) - side // 2
    squares = offsets[:, None] ** 2 + offsets**2
    radii = torch.tensor(RADII) * side / SIDE
    return blur((squares <= radii[:, None, None] ** 2).float(), SOFTNESS * side / SIDE)


def draw_shifts(seeds: Tensor, steps: int, reach: int) -> Tensor:
    """Draw whole shifts (B, steps, 2) from 0 to `reach` on the CPU, each row's from its own seed."""
    rows = [torch.randint(0, reach + 1, (steps, 2), generator=generator(seed)) for seed in seeds.tolist()]
    return torch.stack(rows)


def cut_windows(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut squares (B, C, side, side) out of larger images, one each, by their upper left corners (B, 2)."""
    places = zip(images, corners.tolist(), strict=True)
    return torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in places])
