"""Which filters of a network matter for which class: a regression of its own answers on its filters' responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import NotApplicable

from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from .lasso import bounded_lasso
from .responses import Listening, energies, layer_numbers, response_vectors

Batches = Iterable[tuple[Tensor, Tensor]]  # (images (n, 3, S, S) float32 in [0, 1], labels (n,) int64)


class Filter(NamedTuple):
    """One channel of a layer; layers are numbered as `Listening` numbers ReLUs."""

    layer: int
    channel: int


class Relevance(NamedTuple):
    """How much each filter speaks for each class: four tensors, so that a file can hold them."""

    layers: Tensor  # (L,) int64: the numbers of the ReLUs in the fit
    channels: Tensor  # (L,) int64: how many filters each has
    weights: Tensor  # (m, C) float64, m = sum of channels: how much a filter's response speaks for a class
    agreement: Tensor  # () float32: share of the examples for which the weights give the predicted class too

    def place(self, row: int) -> Filter:
        """The filter to which a row of the weights belongs."""
        ends = self.channels.cumsum(0)
        layer = int(torch.searchsorted(ends, row, right=True))
        return Filter(int(self.layers[layer]), row - int(ends[layer] - self.channels[layer]))

    def filters(self, target: int) -> list[tuple[Filter, float]]:
        """The filters that speak for a class, with their weights, the weightiest first."""
        weights = self.weights[:, target]
        order = weights.argsort(descending=True, stable=True)[: int((weights > 0).sum())]
        return [(self.place(row), float(self.weights[row, target])) for row in order.tolist()]


class Fit(NamedTuple):
    """The options of the regression that finds relevance."""

    layers: str | None  # which ReLUs, such as 0+3 or -1; all where None
    mu: float  # bound on the sum of a class's weights
    positive: bool
    root: bool
    normalise: bool


@torch.no_grad()
def find_relevance(classifier: Classifier, batches: Batches, fit: Fit) -> Relevance:
    """Regress the classes that a classifier predicts on the response vectors of its filters.

    Args:
        batches: examples; their labels play no part.

    Raises:
        NotApplicable: no ReLU gives maps.
        WrongUsage: there are no such layers.

    Source: Oramas, Wang and Tuytelaars, ICLR 2019, section 3.1.
    """
    heard, predicted = [], []
    for images, _ in batches:
        layers, classes = responses(classifier, images, fit.root)
        heard.append(layers)
        predicted.append(classes)
    every = [torch.cat(layer) for layer in zip(*heard, strict=True)]
    if not every:
        raise NotApplicable(f"{classifier.arch} has no ReLU that gives maps, so no filters to choose from; use gradcam")
    numbers = layer_numbers(fit.layers, len(every))
    chosen, wanted = [every[number] for number in numbers], torch.cat(predicted)
    vectors = response_vectors(chosen, fit.normalise).cpu().double()
    onehot = F.one_hot(wanted, len(classifier.class_names)).cpu().double()
    weights = bounded_lasso(vectors, onehot, fit.mu, fit.positive)
    agreement = ((vectors @ weights).argmax(1) == wanted.cpu()).float().mean()
    return Relevance(torch.tensor(numbers), torch.tensor([layer.shape[1] for layer in chosen]), weights, agreement)


def responses(classifier: Classifier, images: Tensor, root: bool = False) -> tuple[list[Tensor], Tensor]:
    """The energies (n, K_l) of every ReLU's filters, and the predicted classes (n,)."""
    layers: list[Tensor] = []
    with evaluating(classifier), Listening(lambda number, maps: layers.append(energies(maps, root))):
        predicted = classifier.predict(images)
    return layers, predicted
