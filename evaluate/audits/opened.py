"""Models opened in a worker process: a data set and a model are opened once for all cells that use them.

Tasks name a model by a `ModelWords`, which can be pickled. A worker refuses a model whose digest is another.
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
from ..models.sources import Source
from ..scoring.run import Scoring
from .study import StudyWords

STEADY = "a factory has to give the same weights at each call: load them in it, or give them with --weights"


class ModelWords(NamedTuple):
    """A picklable description of one model on one data set: a worker opens the model by it, and checks the digest."""

    study: StudyWords  # the data set, and how it is scored
    source: str | Source  # a file, or package.module:factory, with its weights and what else is said of it
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
        """Forget what was remembered, so that the next call computes it anew."""
        ...


def classifier_of(model: ModelWords) -> Classifier:
    """The classifier of a model, opened if it is not open in this process."""
    (opened,) = open_once(model).models
    return opened.classifier


def fit_method(model: ModelWords, method: str) -> Method:
    """Parse a method, and fit it on the training rows of a model if it is one that has to be fitted."""
    (opened,) = open_once(model).models
    return opened.fit(parse_method(method))
