"""The models that a worker has open: a data set and a model are opened once for all the cells that ask for them.

What a worker is told is words. It refuses to work with another model than the one that the words mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple, Protocol

from an8flower.errors import Refusal

from ..explaining.methods import Method, parse_method
from ..models.classifier import Classifier
from ..models.networks.guard import NotWhole
from ..scoring.run import Scoring
from .study import StudyWords

STEADY = "a factory has to give the same weights at each call: load them in it, or give them with --weights"


class ModelWords(NamedTuple):
    """A model of a data set in words that travel: where it comes from, and what is found there."""

    study: StudyWords  # the data set, and what is asked
    source: str  # a file, or package.module:factory, with its weights
    digest: str


@lru_cache(maxsize=2)
def open_once(model: ModelWords) -> Scoring:
    """Open a data set and one model, once in this process; raises Refusal where another model lies there by now."""
    scoring = model.study.open(model.source)
    if scoring.models[0].digest != model.digest:
        raise Refusal(f"{model.source}: is another model than when the audit began; {STEADY}")
    return scoring


@contextmanager
def whole(model: ModelWords, *caches: Cache) -> Iterator[None]:
    """A block whose results may be filed: model, process and data are what they were, all through it.

    Raises NotWhole where they are not; what this process has open, in the caches as well, is then opened anew.
    """
    with reopening(*caches):
        (opened,) = open_once(model).models
        with opened.whole():
            yield


@contextmanager
def reopening(*caches: Cache) -> Iterator[None]:
    """A block after which everything is opened anew if the model or the process was changed in it."""
    try:
        yield
    except NotWhole:
        for opened in (open_once, *caches):
            opened.cache_clear()
        raise


class Cache(Protocol):
    """A function that remembers what it gave."""

    def cache_clear(self) -> None:
        """Forget it."""
        ...


def classifier_of(model: ModelWords) -> Classifier:
    """The classifier of a model that is open."""
    (opened,) = open_once(model).models
    return opened.classifier


def fit_method(model: ModelWords, method: str) -> Method:
    """Make a method ready to explain a model: fitted on the training rows where it has to be."""
    (opened,) = open_once(model).models
    return opened.fit(parse_method(method))
