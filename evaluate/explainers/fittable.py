"""Explainers that learn from examples: each is fitted once for a model and a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from an8flower.errors import WrongUsage

from ..case import Query
from ..models.classifier import Classifier

Learnt = dict[str, Tensor]  # what a fit has learnt: enough to explain with, and nothing but tensors


class Examples(Protocol):
    """Pictures of the training split, with their labels."""

    @property
    def digest(self) -> str:
        """The name that tells these examples from others."""
        ...

    def take(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` examples (all if there are fewer), the same each time and spread over the classes, in portions.

        A portion is (images (n, 3, S, S) float32 in [0, 1], labels (n,) int64), on the model's device.
        """
        ...

    def take_masks(self, count: int, portion: int) -> Iterator[Tensor]:
        """The evidence masks of the examples that `take` gives, (n, S, S) uint8 each, 0 where there is no evidence.

        Raises:
            NotApplicable: the examples have no masks.
        """
        ...


class Fittable(ABC):
    """An explainer that has to be fitted: a frozen dataclass of its parameters that can `learn` and `explain`.

    It explains nothing itself. What `fit` gives does, and has the same repr, hence the same identity.
    """

    asks_model: ClassVar[bool] = True  # if not, one fit serves all models of a data set

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        raise WrongUsage(f"{self!r} explains nothing before it is fitted; fit it with `prepare(explainer, ...)`")

    def fit(self, classifier: Classifier, examples: Examples) -> Fitted:
        """Fit the explainer on examples.

        Raises:
            NotApplicable: the method cannot run on this architecture.
        """
        return Fitted(self, self.learn(classifier, examples))

    @abstractmethod
    def learn(self, classifier: Classifier, examples: Examples) -> Learnt:
        """Learn from examples; the classifier is in eval mode, and at most `in_flight` images are in it at once."""

    @abstractmethod
    def explain(self, classifier: Classifier, query: Query, learnt: Learnt) -> Tensor:
        """Explain as `Explainer.__call__` does, with what was learnt."""


@dataclass(frozen=True, repr=False, eq=False)
class Fitted:
    """An explainer with what it learnt; it is called, and filed, as the explainer itself."""

    explainer: Fittable
    learnt: Learnt

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return self.explainer.explain(classifier, query, self.learnt)

    def __repr__(self) -> str:
        return repr(self.explainer)
