"""Methods of somebody's own that go wrong in every way, and two that are well."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.evaluate.case import Query
from an8flower.evaluate.models.classifier import Classifier

HELD: list[Tensor] = []


@dataclass(frozen=True)
class Well:
    """The brightness, which is the same in batches of any size."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        self.before(classifier, query)
        return query.images.mean(1)

    def before(self, classifier: Classifier, query: Query) -> None:
        """What goes wrong."""


@dataclass(frozen=True)
class Slow(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        time.sleep(0.5)


@dataclass(frozen=True)
class Raises(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        raise ValueError("no such layer: conv9")


@dataclass(frozen=True)
class Hangs(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        while True:
            pass


@dataclass(frozen=True)
class GivesNan(Well):
    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return query.images.mean(1).fill_(torch.nan)


@dataclass(frozen=True)
class Leaks(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        while True:
            HELD.append(torch.zeros(2**24))


@dataclass(frozen=True)
class Mutates(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        query.images.zero_()


@dataclass(frozen=True)
class Dies(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        os._exit(0)


@dataclass(frozen=True)
class WantsSmallBatches(Well):
    """A GPU without room for more than three images."""

    def before(self, classifier: Classifier, query: Query) -> None:
        if len(query.images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
