"""Which methods run on a model: ours are tried here, those of strangers in a worker, under limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from an8flower.store import FlowerStore

from ..explaining.applicability import Applicability, Pictures, choose_pictures, try_method
from ..explaining.methods import expand, parse_method, stranger_of
from ..models.classifier import Classifier
from ..models.sources import Source, open_model, open_source
from .engines.task import Engine, Task


class TriedModel(NamedTuple):
    """A model on which methods are tried, in words that travel."""

    source: Source
    data: Path | None  # a data set whose pictures are taken; None: noise
    rows: int  # how many pictures
    device: str
    batch: int | None = None  # images in the network at once

    def open(self) -> tuple[Classifier, Pictures]:
        """Open the model, and choose the pictures; raises Refusal if it cannot be had or does not fit the data."""
        store = None if self.data is None else FlowerStore(self.data)
        device = torch.device(self.device)
        classifier = open_source(self.source, device) if store is None else open_model(self.source, store, device)
        return classifier, choose_pictures(classifier, store, self.rows)


def try_all(
    pattern: str,
    model: TriedModel,
    engine: Engine | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Classifier, list[Applicability]]:
    """Try all methods that a text stands for on a model; without an engine, strangers run in this process as well.

    Raises:
        WrongUsage: an unknown method or family.
        Refusal: the model or the data set cannot be used.
    """
    classifier, pictures = model.open()
    texts = expand(pattern)
    results: list[Applicability] = []
    for text in texts:
        progress(len(results), len(texts))
        apart = engine if stranger_of(text) else None
        results.append(_try_apart(text, model, apart) if apart else _try_here(text, model, classifier, pictures))
    progress(len(texts), len(texts))
    return classifier, results


def _try_here(text: str, model: TriedModel, classifier: Classifier, pictures: Pictures) -> Applicability:
    return try_method(parse_method(text), classifier, pictures, str(model.source), model.batch)


def _try_apart(text: str, model: TriedModel, engine: Engine) -> Applicability:
    """Try a stranger's method in a worker; one that dies or takes too long fails."""
    (done,) = engine.run([Task(text, try_stranger, (text, model), stranger=stranger_of(text))])
    return done.value if done.error is None else Applicability(text, "third party", "fails", done.error)


def try_stranger(text: str, model: TriedModel) -> Applicability:
    """Open a model in a worker, and try a stranger's method on it."""
    return _try_here(text, model, *model.open())
