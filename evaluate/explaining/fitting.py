"""Explainers that learn from examples before they explain: fitted once for a model and a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.store import FlowerStore

from ..case import Explainer, Query
from ..data.selection import select_rows
from ..models.classifier import Classifier
from ..models.networks.borrow import borrowed
from ..resources import in_flight_on
from ..seeds import seed_of

Learnt = dict[str, Tensor]  # what a fit comes to: enough to explain with, and nothing but tensors


class Examples(Protocol):
    """Pictures of the training split, with their labels."""

    @property
    def digest(self) -> str:
        """What tells these examples from others."""
        ...

    def some(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` of them (all where there are fewer), the same each time and spread over the classes, in portions.

        Each is (images (n, 3, S, S) float32 in [0, 1], labels (n,) int64), on the model's device.
        """
        ...


class Fittable(ABC):
    """An explainer that has to be fitted: a frozen dataclass of its parameters that can `learn` and `explained`.

    It explains nothing itself. What `fitted` gives does, and has the same repr, hence the same identity.
    """

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        raise WrongUsage(f"{self!r} explains nothing before it is fitted; fit it with `prepared(explainer, ...)`")

    def fitted(self, classifier: Classifier, examples: Examples) -> Fitted:
        """The explainer that learnt from examples.

        Raises:
            NotApplicable: the method cannot run on this architecture.
        """
        return Fitted(self, self.learn(classifier, examples))

    @abstractmethod
    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        """What examples teach; the classifier is in eval mode, and at most `in_flight` images are in it at once."""

    @abstractmethod
    def explained(self, classifier: Classifier, query: Query, learnt: Learnt) -> Tensor:
        """As `Explainer.__call__`, with what was learnt."""


@dataclass(frozen=True, repr=False, eq=False)
class Fitted:
    """An explainer with what it learnt; it is called, and filed, as the explainer itself."""

    explainer: Fittable
    learnt: Learnt

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return self.explainer.explained(classifier, query, self.learnt)

    def __repr__(self) -> str:
        return repr(self.explainer)


@dataclass(frozen=True)
class GivenExamples:
    """Images (N, 3, S, S) float32 in [0, 1] and labels (N,) int64 that are at hand; their order is kept."""

    images: Tensor
    labels: Tensor
    digest: str = "given"

    def some(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first `count`."""
        yield from zip(self.images[:count].split(portion), self.labels[:count].split(portion), strict=True)


@dataclass(frozen=True)
class StoredExamples:
    """Rows of a split of a store; which ones is fixed by the data and their number."""

    store: FlowerStore
    device: torch.device
    split: str = "train"

    @property
    def digest(self) -> str:
        """That of the data set."""
        return f"{self.store.digest} {self.split}"

    def some(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Read as they are asked for."""
        split = self.store[self.split]
        chosen = torch.from_numpy(select_rows(split.labels, min(count, len(split)), seed_of("examples")))
        for indices in chosen.split(portion):
            rows = split.take(indices.numpy())
            images = torch.from_numpy(rows.images).to(self.device).permute(0, 3, 1, 2).contiguous().float() / 255
            yield images, torch.from_numpy(rows.labels).to(self.device)


def prepared(explainer: Any, classifier: Classifier, examples: Examples, batch: int | None = None) -> Explainer:
    """An explainer that is ready to explain: fitted on examples where it has to be, else the one that came.

    The classifier is given back as it was. `batch` bounds how many images are in it at once, as in `explain`.

    Raises:
        NotApplicable: the method cannot run on this architecture.
    """
    if not isinstance(explainer, Fittable):
        return explainer
    batch = in_flight_on(classifier.device) if batch is None else batch
    with borrowed(classifier, repr(explainer)), classifier.holding(batch):
        return explainer.fitted(classifier, examples)
