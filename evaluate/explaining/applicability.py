"""Which methods run on a network, which do not and why, and what a map costs: each is tried on a few pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from an8flower.errors import NotApplicable
from an8flower.store import FlowerStore

from ..case import Query
from ..data.images import as_images
from ..data.selection import select_rows
from ..models.classifier import Classifier
from ..models.costs import Cost
from ..seeds import generator, row_seed, seed_of
from .explain import explain
from .fitting import StoredExamples, fit_once, is_fitted_first
from .methods import Method, family_of

SPLIT = "val"  # whose rows methods are tried on, if there is a data set
SLOW, ENDLESS = 2.0, 20.0  # seconds of the first map: from then on one more map is measured, or none
NO_ROWS = "it learns from training rows first; name a data set with --data"

Status = Literal["runs", "does not apply", "fails", "not tried"]


class Applicability(NamedTuple):
    """Whether a method runs on a network, and what one map costs."""

    method: str  # as users write it
    family: str
    status: Status
    reason: str = ""  # why it does not run; of a method that does not apply, the words of `score`
    seconds: float | None = None  # per image, on this machine, without what is learnt once
    forwards: float | None = None  # passes per image
    backwards: float | None = None

    def to_document(self) -> dict[str, Any]:
        """The entry of a method in a JSON document."""
        return {key: value for key, value in self._asdict().items() if key != "reason" or value}


class Pictures(NamedTuple):
    """What methods are tried on: a query, and the data set that it comes from if there is one."""

    query: Query
    store: FlowerStore | None = None


def choose_pictures(classifier: Classifier, store: FlowerStore | None, count: int) -> Pictures:
    """Choose pictures to try methods on: validation rows of a data set or, without one, noise; the cost is the same."""
    if store is None:
        targets = torch.arange(count) % len(classifier.class_names)
        shape = (3, classifier.size, classifier.size)
        images = torch.stack([torch.rand(shape, generator=generator(seed)) for seed in range(count)])
        return Pictures(_on(classifier, Query(images, targets, torch.arange(count))))
    split = store[SPLIT]
    chosen = select_rows(split.labels, min(count, len(split)), seed_of("applicability"))
    rows = split.take(chosen)
    seeds = torch.tensor([row_seed(0, store.digest, SPLIT, row) for row in chosen.tolist()])
    images = as_images(rows.images, torch.device("cpu"))
    return Pictures(_on(classifier, Query(images, torch.from_numpy(np.asarray(rows.labels)), seeds)), store)


def _on(classifier: Classifier, query: Query) -> Query:
    """A query on the device of a classifier."""
    return Query(*(tensor.to(classifier.device) for tensor in query))


def try_methods(
    methods: Iterable[Method], classifier: Classifier, pictures: Pictures, model: str, batch: int | None = None
) -> Iterator[Applicability]:
    """Try methods one after the other; the classifier is given back as it was by each.

    Args:
        model: how the user names the model; what methods learn is kept beside it, as `score` does.
        batch: images in the network at once; what suits the device where None.
    """
    for method in methods:
        yield try_method(method, classifier, pictures, model, batch)


def try_method(
    method: Method, classifier: Classifier, pictures: Pictures, model: str, batch: int | None = None
) -> Applicability:
    """Try a method on pictures: whether it gives maps, and what one of them costs."""
    about = Applicability(method.text, method.family or family_of(method.name), "runs")
    if is_fitted_first(method.explainer) and pictures.store is None:
        return about._replace(status="not tried", reason=NO_ROWS)
    try:
        cost = _measure(method, classifier, pictures, model, batch)
    except NotApplicable as reason:
        return about._replace(status="does not apply", reason=str(reason))
    except Exception as error:  # a foreign method may raise anything
        return about._replace(status="fails", reason=f"{type(error).__name__}: {error}")
    return about._replace(seconds=cost.seconds, forwards=cost.forwards, backwards=cost.backwards)


def _measure(method: Method, classifier: Classifier, pictures: Pictures, model: str, batch: int | None) -> Cost:
    """The mean cost of a map, once everything is warm; of fewer pictures, the longer the first one takes."""
    explainer, query = method.explainer, pictures.query
    if pictures.store is not None:
        examples = StoredExamples(pictures.store, classifier.device)
        explainer = fit_once(explainer, classifier, examples, model, None, batch)
    one = Query(*(tensor[:1] for tensor in query))
    first = explain(classifier, explainer, one, batch).cost
    if first.seconds > ENDLESS:
        return first
    measured = one if first.seconds > SLOW else query
    cost, count = explain(classifier, explainer, measured, batch).cost, len(measured.images)
    return Cost(cost.forwards / count, cost.backwards / count, cost.seconds / count)
