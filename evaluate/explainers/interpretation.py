"""Explanations by interpretation: the filters that a model's own answers show to be relevant, drawn in the image."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from an8flower.errors import WrongUsage

from ..case import Query
from ..maps import POOLINGS, normalise_range, upsample
from ..models.classifier import Classifier
from ..models.networks.rectifiers import Rectifying, require_relus
from ..registry import explainers
from .filters.relevant_filters import Fit, Relevance, find_relevance
from .filters.resampling import Resampling
from .filters.responses import Listening, energies, layer_numbers, response_vectors
from .fittable import Examples, Fittable, Learnt
from .ranges import SWITCH, Between, Ranges


class FilterChoice(NamedTuple):
    """The filter of each row at one rank of relevance."""

    layers: Tensor  # (B,) int64: position among the layers that were fitted
    channels: Tensor  # (B,) int64
    exists: Tensor  # (B,) bool: whether the row has a filter at this rank


@dataclass(frozen=True)
class RelevantFilters(Fittable):
    """An explainer that fits relevant filters, and draws those that an image's own responses make the strongest.

    A filter's strength is its share of the image's response vector times its weight for the target class (the source
    asks for the predicted class; here the class is the query's). Each of the strongest filters gives a map from 0 to 1,
    and the explanation is their pixelwise maximum; a class for which no filter has a strength above 0 gets zeros.
    """

    rows: int = 600  # training images that the fit sees
    mu: float = 5.0  # bound on the sum of a class's weights
    top: int = 3  # filters that are drawn
    layers: str | None = None  # which ReLUs, in the order in which they run, such as 0+3 or -1; all where None
    positive: bool = True  # no negative weights
    root: bool = False  # respond by the norm of a filter's map instead of its square
    normalise: bool = True  # response vectors to length 1

    ranges: ClassVar[Ranges] = {
        "mu": Between(1.0, 20.0, log=True),
        "top": Between(1, 5),
        "positive": SWITCH,
        "root": SWITCH,
        "normalise": SWITCH,
    }

    def __post_init__(self) -> None:
        for name in ("rows", "top"):
            if getattr(self, name) < 1:
                raise WrongUsage(f"{name} is {getattr(self, name)}; expected at least 1")
        if not self.mu > 0:
            raise WrongUsage(f"mu is {self.mu}; expected a positive bound on the sum of weights")
        layer_numbers(self.layers)

    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        """Learn the relevance of every filter for every class."""
        fit = Fit(self.layers, self.mu, self.positive, self.root, self.normalise)
        return find_relevance(classifier, examples.take(self.rows, classifier.in_flight), fit)._asdict()

    def explain(self, classifier: Classifier, query: Query, learnt: Learnt) -> Tensor:
        """Explain by maps (B, H, W) in [0, 1]."""
        relevance = Relevance(**learnt)
        portions = zip(query.images.split(classifier.in_flight), query.targets.split(classifier.in_flight), strict=True)
        return torch.cat([self.draw(classifier, *portion, relevance) for portion in portions])

    @abstractmethod
    def draw(self, classifier: Classifier, images: Tensor, targets: Tensor, relevance: Relevance) -> Tensor:
        """Draw the maps (B, H, W) of as many images as may be in the network at once."""

    def strongest(self, heard: list[Tensor], targets: Tensor, relevance: Relevance) -> list[FilterChoice]:
        """The filters of each row, rank by rank, from the layers' maps (B, K_l, h, w)."""
        vectors = response_vectors([energies(maps.detach(), self.root) for maps in heard], self.normalise)
        strengths = vectors * relevance.weights.to(vectors)[:, targets].T
        best = strengths.topk(min(self.top, strengths.shape[1]))
        ends = relevance.channels.cumsum(0).to(targets.device)
        layers = torch.searchsorted(ends, best.indices, right=True)
        channels = best.indices - (ends - relevance.channels.to(ends))[layers]
        return [FilterChoice(*rank) for rank in zip(layers.T, channels.T, (best.values > 0).T, strict=True)]


def layer_maps(classifier: Classifier, images: Tensor, relevance: Relevance) -> list[Tensor]:
    """Run the network, and keep copies of what the fitted layers give, (B, K_l, h, w) each, in their graph.

    Each gradient that reaches the images is booked as a pass backwards.

    Raises:
        WrongUsage: the network is not the one of the fit.
    """
    copies: dict[int, Tensor] = {}
    wanted = relevance.layers.tolist()

    def keep(number: int, maps: Tensor) -> None:
        if number in wanted:
            copies[number] = maps.clone()  # an in-place layer may follow

    with Listening(keep):
        classifier.network(classifier.count(classifier.normalise(images), 1.0))
    if [copies[number].shape[1] for number in wanted if number in copies] != relevance.channels.tolist():
        raise WrongUsage(f"the fit belongs to another network than this {classifier.arch}; fit the method anew")
    return [copies[number] for number in wanted]


@explainers.register(
    "vebi",
    family="interpretation",
    source="Oramas, Wang and Tuytelaars, ICLR 2019",
    needs="ReLUs, training images to be fitted on",
    sign="positive",
)
@dataclass(frozen=True)
class Vebi(RelevantFilters):
    """Visual explanation by interpretation: guided backpropagation from the whole maps of the strongest filters.

    The gradient is pooled over colours by the norm of its positive parts.
    """

    resample: bool = True  # the gradient of strided convolutions without its grid

    ranges: ClassVar[Ranges] = {"resample": SWITCH}

    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        """Learn as all variants do, once it is clear that the guided rule holds for this network."""
        with Rectifying("guided") as relus, torch.no_grad():
            classifier.network(classifier.probe(1))
        require_relus("vebi", classifier.arch, relus)
        return super().learn(classifier, examples)

    def draw(self, classifier: Classifier, images: Tensor, targets: Tensor, relevance: Relevance) -> Tensor:
        """Draw the maps with one pass forwards, and one backwards for each rank."""
        leaves = images.detach().requires_grad_()
        with Rectifying("guided"), Resampling() if self.resample else nullcontext():
            heard = layer_maps(classifier, leaves, relevance)
        ranks = self.strongest(heard, targets, relevance)
        maps = [normalise_range(POOLINGS["pos_l2"](gradient_from_filters(heard, chosen, leaves))) for chosen in ranks]
        return torch.stack(maps).amax(0)


def gradient_from_filters(heard: list[Tensor], chosen: FilterChoice, leaves: Tensor) -> Tensor:
    """The gradient (B, 3, H, W) at the images that starts, in each row, from the whole map of its own filter.

    Rows do not mix, so that one pass serves all of them, whichever layers they start from.
    """
    used = [position for position in range(len(heard)) if (chosen.exists & (chosen.layers == position)).any()]
    if not used:
        return torch.zeros_like(leaves)
    outputs = [heard[position] for position in used]
    starts = [maps.detach() * in_layer(chosen, position, maps) for position, maps in zip(used, outputs, strict=True)]
    return torch.autograd.grad(outputs, leaves, starts, retain_graph=True)[0]


def in_layer(chosen: FilterChoice, position: int, maps: Tensor) -> Tensor:
    """Which channels of the layer at a position are the rows' filters: 1 or 0, (B, K, 1, 1) in the maps' dtype."""
    channels = torch.arange(maps.shape[1], device=maps.device)
    here = (chosen.exists & (chosen.layers == position))[:, None] & (chosen.channels[:, None] == channels)
    return here[:, :, None, None].to(maps)


@explainers.register(
    "upsam_act_relevant",
    family="interpretation",
    source="Oramas, Wang and Tuytelaars, ICLR 2019 (as a baseline)",
    needs="ReLUs that give maps, training images to be fitted on",
    sign="positive",
)
@dataclass(frozen=True)
class UpsamActRelevant(RelevantFilters):
    """The activation maps of the filters that vebi chooses, at the resolution of the image.

    The source does not print how its baseline draws a filter; this is how Bau et al., CVPR 2017, do.
    """

    @torch.no_grad()
    def draw(self, classifier: Classifier, images: Tensor, targets: Tensor, relevance: Relevance) -> Tensor:
        """Draw the maps with one pass forwards."""
        heard = layer_maps(classifier, images, relevance)
        ranks = self.strongest(heard, targets, relevance)
        maps = [normalise_range(activations_of_filters(heard, chosen, images)) for chosen in ranks]
        return torch.stack(maps).amax(0)


def activations_of_filters(heard: list[Tensor], chosen: FilterChoice, images: Tensor) -> Tensor:
    """The map (B, H, W), float32, of each row's filter at the images' resolution; zeros where there is none."""
    return torch.stack(
        [
            upsample((maps * in_layer(chosen, position, maps)).sum(1).float(), images)
            for position, maps in enumerate(heard)
        ]
    ).sum(0)
