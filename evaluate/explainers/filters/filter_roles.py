"""What the filters that matter for a class look for, and whether they matter: how the classifier does without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from ...seeds import seed_of
from .receptive_fields import ReceptiveField, receptive_fields
from .relevant_filters import Filter, Relevance
from .responses import Listening, energies


def average_images(classifier: Classifier, images: Tensor, filters: Sequence[Filter], count: int = 100) -> list[Tensor]:
    """Draw what filters look for: the mean of what they see where they respond most.

    Of the images to which a filter responds strongest (by the squared norm of its map; those without any response left
    out), the receptive field at the map's maximum is cropped. Pixels of it that lie outside the image do not count.

    Args:
        images: (N, 3, S, S) float32 in [0, 1]; images of one class, to learn what filters look for in it.
        count: at most so many images a filter.

    Returns:
        For each filter (3, r, r') float32 in [0, 1], its receptive field; zeros where no image has anything.

    Source: Oramas, Wang and Tuytelaars, ICLR 2019; that crops lie at the maximum, and their number, is ours.
    """
    fields = receptive_fields(classifier)
    strengths, places = strongest_units(classifier, images, filters)
    averages = []
    for number, strength, units in zip((layer for layer, _ in filters), strengths, places, strict=True):
        best = strength.topk(min(count, len(strength))).indices
        crops = [crop(images[row], fields[number], units[row]) for row in best.tolist() if strength[row] > 0]
        whole = torch.stack(crops) if crops else images.new_zeros(1, 3, *fields[number].size)
        averages.append(whole.nanmean(0).nan_to_num(0.0))
    return averages


@torch.no_grad()
def strongest_units(classifier: Classifier, images: Tensor, filters: Sequence[Filter]) -> tuple[Tensor, Tensor]:
    """Each filter's response to each image, (F, N), and the row and column of its strongest unit, (F, N, 2)."""
    strengths: dict[Filter, list[Tensor]] = {key: [] for key in filters}
    places: dict[Filter, list[Tensor]] = {key: [] for key in filters}

    def note(number: int, maps: Tensor) -> None:
        for key in (key for key in strengths if key.layer == number):
            responses = maps[:, key.channel]
            strengths[key].append(energies(responses[:, None])[:, 0])
            best = responses.flatten(1).argmax(1)
            places[key].append(torch.stack([best // responses.shape[2], best % responses.shape[2]], 1))

    with evaluating(classifier):
        for portion in images.split(classifier.in_flight):
            with Listening(note):
                classifier(portion)
    whole = [torch.stack([torch.cat(portions[key]) for key in filters]) for portions in (strengths, places)]
    return whole[0], whole[1]


def crop(image: Tensor, field: ReceptiveField, unit: Tensor) -> Tensor:
    """Crop an image (3, S, S) to what a unit (row, column) sees: (3, r, r'), NaN outside the image."""
    seen = image.new_full((len(image), *field.size), torch.nan)
    inside, source = [], []
    for span, index, extent in zip(field, unit.tolist(), image.shape[1:], strict=True):
        start, stop = span.low + index * span.jump, span.high + index * span.jump
        low, high = max(start, 0), min(stop, extent)
        inside.append(slice(low - start, high - start))
        source.append(slice(low, high))
    seen[:, inside[0], inside[1]] = image[:, source[0], source[1]]
    return seen


class Ablation(NamedTuple):
    """Mean class accuracies of a classifier that has lost filters."""

    counts: list[int]  # how many were silenced
    relevant: Tensor  # (n,) float32: the most relevant ones
    random: Tensor  # (seeds, n) float32: as many of the same layers, by lot


def ablation_curve(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    relevance: Relevance,
    counts: list[int],
    seeds: int = 5,
) -> Ablation:
    """Measure how fast a classifier fails without its most relevant filters, and without others of their layers.

    Filters are relevant in the order of their largest weight for any class. The classifier is left as it is.

    Args:
        images: (N, 3, S, S) float32 in [0, 1], run once for each count, and again for each seed.
        labels: (N,) int64.
        counts: how many filters are silenced, for each point of the curves.

    Source: Oramas, Wang and Tuytelaars, ICLR 2019; that chance takes from the same layers is ours.
    """
    largest = relevance.weights.amax(1)
    order = largest.argsort(descending=True, stable=True)[: int((largest > 0).sum())]
    ranked = [relevance.place(row) for row in order.tolist()]
    lots = [draw_from_same_layers(ranked, relevance, seed) for seed in range(seeds)]
    curves = [
        torch.stack([mean_class_accuracy(classifier, images, labels, filters[:count]) for count in counts])
        for filters in (ranked, *lots)
    ]
    return Ablation(counts, curves[0], torch.stack(curves[1:]))


def draw_from_same_layers(ranked: Sequence[Filter], relevance: Relevance, seed: int) -> list[Filter]:
    """Draw for each filter another one of its layer, or the same, by lot; none comes twice."""
    source = np.random.default_rng(seed_of("ablation", seed))
    sizes = zip(relevance.layers.tolist(), relevance.channels.tolist(), strict=True)
    lots = {layer: iter(source.permutation(size).tolist()) for layer, size in sizes}
    return [Filter(number, next(lots[number])) for number, _ in ranked]


@torch.no_grad()
def mean_class_accuracy(classifier: Classifier, images: Tensor, labels: Tensor, silenced: Sequence[Filter]) -> Tensor:
    """The mean, over the classes that occur, of the share of images that are still recognised; () float32."""
    channels: dict[int, list[int]] = {}
    for number, channel in silenced:
        channels.setdefault(number, []).append(channel)

    def silence(number: int, maps: Tensor) -> None:
        maps[:, channels.get(number, [])] = 0

    guesses = []
    with evaluating(classifier):
        for portion in images.split(classifier.in_flight):
            with Listening(silence):
                guesses.append(classifier.predict(portion))
    right = (torch.cat(guesses) == labels).float()
    return torch.stack([right[labels == label].mean() for label in labels.unique()]).mean()
