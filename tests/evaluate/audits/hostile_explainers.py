"""Explainers of somebody's own that do what no explainer should, and one that is well. What is printed here is seen."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from an8flower.evaluate.case import Query
from an8flower.evaluate.models.classifier import Classifier

print("hostile_explainers is imported")


class OwnError(BaseException):
    """An error that `except Exception` does not catch."""


class Unspeakable(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise OwnError


@dataclass(frozen=True)
class Bright:
    """The brightness, to some power."""

    power: float = 1.0

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        self.before(classifier, query)
        return query.images.mean(1) ** self.power

    def before(self, classifier: Classifier, query: Query) -> None:
        """Do nothing wrong."""


@dataclass(frozen=True)
class RaisesOwn(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        raise OwnError("petals")


@dataclass(frozen=True)
class RaisesUnspeakable(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        raise Unspeakable


@dataclass(frozen=True)
class Interrupts(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class LeavesPython(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        sys.exit(0)


@dataclass(frozen=True)
class Exits(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        os._exit(0)


@dataclass(frozen=True)
class Hangs(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        time.sleep(1000)


@dataclass(frozen=True)
class FullDisk(Bright):
    """Its own scratch space is full."""

    def before(self, classifier: Classifier, query: Query) -> None:
        raise OSError(28, "No space left on device")


@dataclass(frozen=True)
class ClosesEverything(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        os.closerange(0, 256)


@dataclass(frozen=True)
class Prints(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        print("on standard output")
        os.system("echo on standard output")


@dataclass(frozen=True)
class Forks(Bright):
    """The copy comes back first, with other maps."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        copy = os.fork() == 0
        if not copy:
            time.sleep(0.3)
        return query.images.mean(1) * (-1 if copy else 1)


@dataclass(frozen=True)
class PatchesTorch(Bright):
    def before(self, classifier: Classifier, query: Query) -> None:
        torch.nn.functional.relu = torch.relu = torch.nn.ReLU.forward = lambda self, *_, **__: torch.sigmoid(_[0])  # type: ignore
