"""Where a network that reasons by prototypes finds them: the evidence of a class, and one prototype alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage

from ..case import Query
from ..maps import upsample
from ..models.classifier import Classifier
from ..models.networks.features import at_least_single
from ..models.prototypes.network import PrototypeNetwork
from ..registry import explainers
from .ranges import SWITCH, Numbered, Ranges

ABOUT = {
    "family": "prototypes",
    "needs": "a network that looks for prototypes",
    "source": "Chen et al., NeurIPS 2019",
}


def network_of(classifier: Classifier, method: str) -> PrototypeNetwork:
    """The network of a classifier; raises NotApplicable, in the name of a method, if it has no prototypes."""
    if not isinstance(classifier.network, PrototypeNetwork):
        raise NotApplicable(
            f"{method} needs a network that looks for prototypes, and {classifier.arch} is none; "
            "train one with --pool protopnet, or use gradcam"
        )
    return classifier.network


def count_prototypes(classifier: Classifier) -> int:
    """How many prototypes a network has; 0 if it is of another kind."""
    return classifier.network.weights.shape[1] if isinstance(classifier.network, PrototypeNetwork) else 0


@torch.no_grad()
def locate(classifier: Classifier, network: PrototypeNetwork, images: Tensor) -> Tensor:
    """How strongly each prototype is found at each position of images in [0, 1], (B, K, h, w), in one counted pass."""
    maps = at_least_single(network.locate(classifier.normalise(images)))
    return classifier.count(maps, 1.0)


@explainers.register("prototypes", sign="positive", **ABOUT)
@dataclass(frozen=True)
class PrototypeEvidence:
    """What a class owes to prototypes: the maps of where each was found, weighted as the last layer weighs them.

    At first only the prototypes that speak for the class count, those with a positive weight, so that no value is
    negative; with `against`, those that speak against it are subtracted. The maps are added up where the network counts
    the largest value of each alone, hence their largest values do not add up to the logit. They are scaled up between
    the centres of the cells, while the authors scale up one prototype at a time, bicubically.

    Raises:
        NotApplicable: the network does not look for prototypes.
    """

    checked_on: ClassVar = ("prototypes",)  # the network of the contract that has what this method needs

    against: bool = False  # whether prototypes that speak against the class are subtracted

    ranges: ClassVar[Ranges] = {"against": SWITCH}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        network = network_of(classifier, "prototypes")
        maps = locate(classifier, network, query.images)
        weights = network.weights.detach()[query.targets].to(maps.dtype)
        weights = weights if self.against else weights.clamp(min=0)
        return upsample((maps * weights[:, :, None, None]).sum(1), query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: the positions at which prototypes are looked for."""
        return _grid(classifier, "prototypes", query)


@explainers.register("prototype", sign="positive", class_sensitive=False, **ABOUT)
@dataclass(frozen=True)
class OnePrototype:
    """Where one prototype was found, and how strongly: the map behind "this looks like that". Another target: the same.

    Raises:
        NotApplicable: the network does not look for prototypes.
        WrongUsage: it has no prototype of this number.
    """

    checked_on: ClassVar = ("prototypes",)

    k: int = 0  # the number of the prototype, from 0; negative numbers count from the last

    ranges: ClassVar[Ranges] = {"k": Numbered("prototypes", count_prototypes)}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        network, count = network_of(classifier, "prototype"), count_prototypes(classifier)
        if not -count <= self.k < count:
            raise WrongUsage(f"k is {self.k}; expected {-count} to {count - 1}, the prototypes of {classifier.arch}")
        return upsample(locate(classifier, network, query.images)[:, self.k], query.images)

    def map_grid(self, classifier: Classifier, query: Query) -> tuple[int, int]:
        """The rows and columns of the map before it is scaled up: the positions at which prototypes are looked for."""
        return _grid(classifier, "prototype", query)


def _grid(classifier: Classifier, method: str, query: Query) -> tuple[int, int]:
    """The rows and columns of the positions at which a network looks for prototypes."""
    height, width = locate(classifier, network_of(classifier, method), query.images[:1]).shape[-2:]
    return height, width
