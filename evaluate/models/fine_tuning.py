"""A copy of a classifier fine-tuned on images of which something is taken away, so that it has seen their like.

What is taken away is drawn at random, whatever any explanation says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..data.batches import Batch, RowSource
from ..registry import archs
from ..seeds import generator, seed_of
from .classifier import Classifier
from .networks.random_state import seed_global_state
from .recipe import LEARNING_RATE, Recipe
from .training import augment, fit, measure

EPOCHS = 6
SLOWER = 3  # by how many times the learning rate is lower than that of the training
BATCH = 32


class RandomRemoval(Protocol):
    """A frozen dataclass that takes something away from images; its repr is its identity."""

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        """Images (B, 3, H, W) uint8 with something taken away, of the same kind, by draws from a generator on the CPU.

        What remains of an image does not depend on the other images of the batch.
        """
        ...


@dataclass
class RemovingRows:
    """Rows of which something is taken away whenever they are read."""

    rows: RowSource
    removal: RandomRemoval
    seed: int
    augmented: bool  # whether images are flipped and shifted first, and what is taken away is drawn anew at each pass
    passes: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: Tensor, batch: int) -> Iterator[Batch]:
        """The rows in this order, without what was taken away."""
        source = generator(seed_of("removal", self.seed, self.passes))
        self.passes += self.augmented
        for rows in self.rows.batches(order, batch):
            images = augment(source, rows.images)[0] if self.augmented else rows.images
            yield rows._replace(images=self.removal(images, source))


class TunedClassifier(NamedTuple):
    """A fine-tuned classifier, and how it and the original do on validation rows of which something is taken away."""

    classifier: Classifier
    before: tuple[float, float]  # mean cross entropy, and accuracy in [0, 1], of the classifier that it was made from
    after: tuple[float, float]  # likewise, of the fine-tuned one


def tune(
    classifier: Classifier, training: RowSource, validation: RowSource, removal: RandomRemoval, epochs: int = EPOCHS
) -> TunedClassifier:
    """Fine-tune a copy of a classifier; the classifier and the global random state are left alone.

    The rate is a third of that of its training, and the best epoch is chosen on validation rows, of which the same is
    taken away. The same arguments give the same weights on a CPU, and on a GPU but for rounding.
    """
    seed = seed_of("tune", repr(removal))
    tuned = copy.deepcopy(classifier).float()
    with torch.inference_mode(False), torch.enable_grad(), seed_global_state(seed):
        tuned.requires_grad_(True)
        known = RemovingRows(validation, removal, seed, augmented=False)
        before = measure(tuned, known)
        recipe = Recipe(epochs, BATCH, rate_of(classifier), patience=epochs, seed=seed, augmented=False)
        fit(tuned, RemovingRows(training, removal, seed, augmented=True), known, recipe)
        after = measure(tuned, known)
    return TunedClassifier(tuned.eval(), before, after)


def rate_of(classifier: Classifier) -> float:
    """The learning rate for fine-tuning: a third of that of the training, as far as anybody knows it."""
    about = archs[classifier.arch].about if classifier.arch in archs.names() else {}
    rate = classifier.card.data.get("learning_rate") or about.get("learning_rate", LEARNING_RATE)
    return float(rate) / SLOWER
