"""Extremal perturbation: of all smooth masks of a given area, the one under which the class scores highest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ..case import Query
from ..data.images import blur, interpolate_levels, pyramid, to_channels_last
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, every_pair, input_gradient
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from .ranges import SWITCH, Between, Choices, Ranges

SIDE = 224  # lengths are those of images of 224 px; they shrink and grow with the image
# What is shown to the network: what the mask keeps, to a high logit, or the rest, to a low one, or both.
SIGNS = {"preserve": (1,), "delete": (-1,), "dual": (1, -1)}
PERTURBATIONS = ("pyramid", "blur", "black")
MOMENTUM = 0.9  # of the descent, and its dampening
COLDNESS = 20.0  # how close the smooth maximum is to the maximum
TIE = 1e-5  # values of a mask that differ by less are taken for one


@explainers.register(
    "extremal_perturbation",
    family="perturbation",
    source="Fong, Patrick & Vedaldi, ICCV 2019",
    needs="a differentiable network",
    sign="positive",
)
@dataclass(frozen=True)
class ExtremalPerturbation:
    """The sum of the best masks of some areas, each in [0, 1].

    `preserve` looks for the mask that keeps the logit high when all else is perturbed, `delete` for the one that makes
    it low when it is perturbed itself, `dual` for both at once. Areas are shares of a canvas that is larger than the
    image by `sigma` on each side. Costs `iterations` forward and backward passes for each area, `dual` twice as many.

    Where the perturbed image still shows the class, nothing holds the mask in place, and the area's penalty alone
    shapes it: a blurred flower keeps its colour. Then `perturbation=black` is the question to ask.
    """

    areas: str = "0.1"  # separated by plus signs, such as 0.025+0.05+0.1+0.2
    variant: str = "preserve"  # or delete, or dual
    perturbation: str = "pyramid"  # blurred more where the mask is lower; or blend in a blur, or fade to black
    iterations: int = 800
    levels: int = 8  # of the pyramid
    step: float = 7.0  # between the mask's parameters, in pixels of an image of 224 px
    sigma: float = 21.0  # how smooth masks are, likewise; it keeps its ratio to the step, which is rounded to pixels
    blur: float = 20.0  # the strongest Gaussian's standard deviation, likewise
    rate: float = 0.01  # of the descent
    weight: float = 300.0  # of the area's penalty in the first iteration
    growth: float = 1.0035  # of this weight from iteration to iteration
    flip: bool = True  # show every second image in its mirror: the mask must hold for both
    smooth: float = 0.0  # a last Gaussian's standard deviation, as a share of the side; the source has 0.09 to point
    precision: str = "float32"  # of the network, or bf16

    # What tests of everything but the quality may replace: few steps, so large that the target shows.
    quick: ClassVar[dict[str, Any]] = {"iterations": 5, "rate": 0.1}
    ranges: ClassVar[Ranges] = {
        "areas": Choices(("0.025", "0.05", "0.1", "0.2", "0.05+0.1+0.2")),
        "variant": Choices(tuple(SIGNS)),
        "perturbation": Choices(PERTURBATIONS),
        "levels": Between(4, 12),
        "step": Between(4.0, 14.0),
        "sigma": Between(10.0, 30.0),
        "blur": Between(10.0, 30.0),
        "rate": Between(3e-3, 0.1, log=True),
        "weight": Between(100.0, 600.0, log=True),
        "growth": Between(1.0, 1.007),
        "flip": SWITCH,
        "smooth": Between(0.0, 0.1),
    }

    def __post_init__(self) -> None:
        check_precision(self.precision)
        parse_areas(self.areas)
        for name, value, known in (
            ("variant", self.variant, SIGNS),
            ("perturbation", self.perturbation, PERTURBATIONS),
        ):
            if value not in known:
                raise WrongUsage(f"extremal_perturbation: {unknown(name, value, known)}")
        bounds = {"iterations": 0, "levels": 2, "blur": 0, "weight": 0, "growth": 0, "smooth": 0}
        for name, least in bounds.items():
            if not getattr(self, name) >= least:
                raise WrongUsage(f"extremal_perturbation: {name} is {getattr(self, name)}; expected {least} or more")
        for name in ("step", "sigma", "rate"):
            if not getattr(self, name) > 0:
                raise WrongUsage(f"extremal_perturbation: {name} is {getattr(self, name)}; expected more than 0")

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        network = streamline(classifier, self.precision)
        areas = torch.tensor(parse_areas(self.areas), dtype=torch.float64, device=query.images.device)
        rows, numbers = every_pair(len(query.images), len(areas), query.images.device)
        masks = self.optimise(network, query, rows, areas[numbers])
        return blur(masks.unflatten(0, (-1, len(areas))).sum(1), self.smooth * masks.shape[-1], continued=False)

    def optimise(self, network: Network, query: Query, rows: Tensor, areas: Tensor) -> Tensor:
        """Optimise a mask (N, H, W) for each pair of a row and an area, both (N,)."""
        shape = self.shape(query.images.shape[-1])
        kernel, levels = shape.kernel().to(rows.device), self.levels_of(query.images)
        objective = MaskObjective(network, levels, rows, query.targets[rows], SIGNS[self.variant])
        parameters = torch.ones(len(rows), shape.cells, shape.cells, device=rows.device)
        velocity = torch.zeros_like(parameters)
        for step in range(self.iterations):
            parameters.requires_grad_()
            canvases = shape.canvases(parameters, kernel)
            penalty = self.weight * self.growth**step * area_penalty(canvases.flatten(1), areas).sum()
            reward = objective.reward(shape.crop(canvases), flipped=self.flip and step % 2 == 0)
            (slopes,) = torch.autograd.grad(penalty - reward, parameters)
            # The first step is not dampened, as in torch.optim.SGD.
            velocity = velocity.lerp(slopes, 1 - MOMENTUM) if step else slopes
            parameters = (parameters.detach() - self.rate * velocity).clamp(0, 1)
        return shape.crop(shape.canvases(parameters, kernel))

    def shape(self, side: int) -> SmoothMasks:
        """The geometry of masks for images of a side: a step of whole pixels, and the sigma that goes with it."""
        step = max(1, int(self.step * side / SIDE + 0.5))
        return SmoothMasks(side, step, self.sigma * step / self.step)

    def levels_of(self, images: Tensor) -> Tensor:
        """What a mask chooses from, pixel by pixel, (B, L, 3, H, W): from perturbed to the image itself."""
        if self.perturbation == "black":
            return to_channels_last(torch.stack([torch.zeros_like(images), images], dim=1))
        return pyramid(
            images, self.blur * images.shape[-1] / SIDE, self.levels if self.perturbation == "pyramid" else 2
        )


def parse_areas(text: str) -> list[float]:
    """Parse the areas in `0.05+0.1`; raises WrongUsage where one is no number between 0 and 1."""
    try:
        areas = [float(area) for area in text.split("+")]
    except ValueError:
        areas = []
    if areas and all(0 < area < 1 for area in areas):
        return areas
    raise WrongUsage(f'extremal_perturbation: areas is "{text}"; expected numbers between 0 and 1, such as 0.05+0.1')


class MaskObjective(NamedTuple):
    """What the masks are optimised for: the network's answers to what they show it."""

    network: Network
    levels: Tensor  # (B, L, 3, H, W), what a mask chooses from
    rows: Tensor  # (N,): the image that each mask is for
    targets: Tensor  # (N,)
    signs: tuple[int, ...]  # of `SIGNS`

    def reward(self, masks: Tensor, flipped: bool) -> Tensor:
        """A scalar whose gradient with respect to masks (N, H, W) is the gradient of the sum of all rewards."""
        sides = [masks if sign > 0 else 1 - masks for sign in self.signs]
        images = torch.cat([interpolate_levels(self.levels, self.rows, side) for side in sides])
        images = images.flip(3) if flipped else images
        slopes = input_gradient(self.network, images.detach(), self.targets.repeat(len(sides)))
        # The product has the logits' gradient: the network itself stays out of this graph.
        rewards = (slopes * images).flatten(1).sum(1).view(len(sides), -1)
        return rewards.sum(1) @ torch.tensor(self.signs, dtype=rewards.dtype, device=rewards.device)


def area_penalty(masks: Tensor, areas: Tensor) -> Tensor:
    """How far masks (N, P) are from being 1 on their area (N,) and 0 elsewhere: (N,), the mean squared difference.

    Pixels that should be 1 are the mask's largest ones: `sort(mask)` against a step in the paper.
    Equal values share what is left of the area. Sorting would give it to the last of them in reading order, which, in
    the beginning, when nearly all are equal, pulls masks to the bottom of the image more than the network does.
    """
    with torch.no_grad():
        count = masks.shape[1]
        zeros = (count * (1 - areas)).long().clamp(max=count - 1)
        threshold = masks.sort(dim=1).values.gather(1, zeros[:, None])
        above = masks > threshold + TIE
        tied = (masks - threshold).abs() <= TIE
        shares = (count - zeros - above.sum(1)) / tied.sum(1)
        wanted = above + tied * shares[:, None].to(masks.dtype)
    return (masks - wanted).square().mean(1)


@dataclass(frozen=True)
class SmoothMasks:
    """Masks of a chosen smoothness: at each pixel the smooth maximum of the parameters around it, weighted by distance.

    Parameters lie `step` pixels apart, the first one on the first pixel. A canvas reaches `margin` steps beyond them.

    Source: Fong, Patrick and Vedaldi, ICCV 2019, section 3.2.
    """

    side: int
    step: int
    sigma: float

    @property
    def cells(self) -> int:
        """The number of parameters along each side."""
        return math.ceil(self.side / self.step)

    @property
    def margin(self) -> int:
        """The number of steps that cover sigma."""
        return math.ceil(self.sigma / self.step)

    @property
    def radius(self) -> int:
        """The number of steps up to which a parameter still counts."""
        return self.margin + 1

    def kernel(self) -> Tensor:
        """Weights (step^2, (2 radius + 1)^2): by a pixel's place within its cell, and by the parameter's around it.

        They are exp(-2 max(0, z - 1/2)^2), where z is the distance in sigmas.
        """
        reach = self.step * torch.arange(-self.radius, self.radius + 1)
        squares = (torch.arange(self.step)[:, None] - reach).square()  # (step, 2 radius + 1), along one axis
        distances = (squares[:, None, :, None] + squares[:, None]).double().sqrt().view(self.step**2, -1)
        return torch.exp(-2 * (distances / self.sigma - 0.5).clamp(min=0).square()).float()

    def canvases(self, parameters: Tensor, kernel: Tensor) -> Tensor:
        """Turn parameters (N, cells, cells) into masks with a margin, (N, S, S) in [0, 1]."""
        around = F.unfold(parameters[:, None], 2 * self.radius + 1, padding=self.margin + self.radius)
        side = self.cells + 2 * self.margin
        values: Tensor = SmoothMaximum.apply(around, kernel)
        pixels = F.pixel_shuffle(values.unflatten(2, (side, side)), self.step)[:, 0]
        last = (side - 1) * self.step + 1
        return pixels[:, :last, :last].clamp(0, 1)

    def crop(self, canvases: Tensor) -> Tensor:
        """Crop canvases to the part (N, side, side) that lies on the image."""
        inside = slice(self.margin * self.step, self.margin * self.step + self.side)
        return canvases[:, inside, inside]


class SmoothMaximum(torch.autograd.Function):
    """The smooth maximum sum_k v_k softmax_k(COLDNESS v) of v_k = kernel[p, k] * values[n, k, c].

    Kernel and values are non-negative and at most 1.
    Automatic differentiation would keep several tensors of the size N x P x K x C. Here one P at a time is made, and
    made again on the way back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: Tensor) -> Tensor:
        """The smooth maxima (N, P, C) of values (N, K, C), weighted by a kernel (P, K)."""
        maxima = []
        for weights in kernel:
            weighted, shares = weighted_shares(values, weights)
            maxima.append((weighted * shares).sum(1))
        result = torch.stack(maxima, dim=1)
        ctx.save_for_backward(values, kernel, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient with respect to the values; the kernel is a constant."""
        values, kernel, result = ctx.saved_tensors
        total = torch.zeros_like(values)
        for place, weights in enumerate(kernel):
            weighted, shares = weighted_shares(values, weights)
            slopes = weighted.sub_(result[:, place, None]).mul_(COLDNESS).add_(1).mul_(shares)
            total += slopes.mul_(weights[:, None]).mul_(gradient[:, place, None])
        return total, None


def weighted_shares(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N, K, C) times weights (K,), and what share each has in the smooth maximum."""
    weighted = values * weights[:, None]
    powers = (COLDNESS * weighted).exp_()  # at most exp(COLDNESS), since nothing exceeds 1: no overflow
    return weighted, powers.div_(powers.sum(1, keepdim=True))
