"""The cells of one model: chance and truth by the metrics that ask it, its methods, and what it relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from ..explaining.fitting import StoredExamples, fitted_once
from ..explaining.methods import Method
from ..metrics.interventions.reliance import VERSION, shares
from ..models.classifier import Classifier
from ..results import kept_maps
from ..results.ledger import Cell, Ledger, Work
from ..results.summary import RELIANCE
from .judge import Judge


@dataclass(frozen=True)
class ModelCells:
    """A model of a plan, who judges it, and which cells it has."""

    judge: Judge
    classifier: Classifier
    source: str  # where it came from: what is fitted for it is kept beside it
    blocks: list[np.ndarray]  # the chosen rows, a cell's worth each
    folder: Path  # of the run
    keep_maps: bool = False

    def cells(self, methods: tuple[Method, ...]) -> Iterator[Work]:
        """All that is asked of the model: what chance and the truth score, its methods, and what it relies on."""
        if self.judge.of_models:
            yield from self._references()
        for method in methods:
            yield from self._explained(method)
        if self.judge.world:
            yield from self._reliance()

    def described(self, methods: tuple[Method, ...], ledger: Ledger) -> dict[str, Any]:
        """What is known of the model, with its accuracy on the chosen rows."""
        labels = self.judge.split.labels[np.concatenate(self.blocks)]
        return {
            "arch": self.classifier.arch,
            "seed": self.classifier.card.seed,
            "digest": self.digest,
            "accuracy": float((np.concatenate(self._predicted) == labels).mean()),
            **self._relied(ledger),
            **self._precision_errors(methods),
        }

    @cached_property
    def _predicted(self) -> list[np.ndarray]:
        """The predicted classes of each block."""
        return [self.judge.predict(self.classifier, indices) for indices in self.blocks]

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block, and their predicted classes."""
        return self.blocks[number], self._predicted[number]

    @cached_property
    def digest(self) -> str:
        """That of the classifier, computed once."""
        return self.classifier.digest

    @cached_property
    def name(self) -> str:
        """How results call it."""
        return self.classifier.name

    @property
    def _asked(self) -> tuple[str, ...]:
        """What all cells that put questions to the model depend on."""
        return (*self.judge.identity, self.digest, self.judge.target)

    def _references(self) -> Iterator[Work]:
        """What chance and the truth score; their thresholds are chosen only when a cell is missing."""
        thresholds = cache(partial(self.judge.reference_thresholds, self.classifier))

        def scored(block: int) -> pa.Table:
            return self.judge.score_model_references(self.classifier, *self._block(block), thresholds())

        about = {"method": "chance and truth", "model": self.name}
        for number, indices in enumerate(self.blocks):
            yield Cell(f"{self.name}-reference", ("reference", *self._asked), indices, about), partial(scored, number)

    def _explained(self, method: Method) -> Iterator[Work]:
        """What a method scores; it is made ready only when a cell is missing."""
        ready = cache(partial(self.fitted, method))
        thresholds = cache(partial(self.judge.thresholds, self.classifier, ready))

        def scored(block: int, cell: Cell) -> pa.Table:
            keep = self._keeper(block, cell)
            return self.judge.score(self.classifier, ready(), *self._block(block), thresholds(), keep)

        label = f"{self.name}-{method.name.replace(':', '.')}"
        about = {"method": method.text, "model": self.name}
        for number, indices in enumerate(self.blocks):
            cell = Cell(label, (*self._asked, repr(method.explainer)), indices, about, explains=True)
            yield cell, partial(scored, number, cell)

    def _keeper(self, block: int, cell: Cell) -> Callable[[Tensor], None]:
        """What is done with the maps of a cell besides scoring them."""
        if not self.keep_maps:
            return lambda maps: None
        place = kept_maps.place(self.folder, cell.name)
        return lambda maps: kept_maps.write(place, self.blocks[block], maps.cpu().numpy())

    def fitted(self, method: Method) -> Method:
        """A method that is ready to explain: fitted on the training split where it has to be."""
        store, resources = self.judge.split.store, self.judge.resources
        examples, batch = StoredExamples(store, resources.device), resources.in_flight
        explainer = fitted_once(method.explainer, self.classifier, examples, self.source, self.folder, batch)
        return method._replace(explainer=explainer)

    def _reliance(self) -> Iterator[Work]:
        """Whether the model relies on the designed evidence, row by row."""

        def scored(block: int) -> pa.Table:
            return self.judge.score_reliance(self.classifier, *self._block(block))

        identity = (RELIANCE, str(VERSION), *self.judge.identity[:2], self.digest)  # no seed, no metrics
        about = {"method": RELIANCE, "model": self.name}
        for number, indices in enumerate(self.blocks):
            yield Cell(f"{self.name}-{RELIANCE}", identity, indices, about), partial(scored, number)

    def _relied(self, ledger: Ledger) -> dict[str, Any]:
        """The shares of the rows in which it does, where one can ask and every row was asked."""
        names = [cell.name for cell, _ in self._reliance()] if self.judge.world else []
        if not names or not set(names) <= set(ledger.filed):
            return {}
        return {RELIANCE: shares(ledger.run.table(names).to_pandas())}

    def _precision_errors(self, methods: tuple[Method, ...]) -> dict[str, Any]:
        """What lower precisions, where methods were asked for them, cost in accuracy; measured on the first rows."""
        asked = {getattr(method.explainer, "precision", "float32") for method in methods} - {"float32"}
        measured = partial(self.judge.precision_error, self.classifier, self.blocks[0])
        return {"precision_error": {each: measured(each) for each in sorted(asked)}} if asked else {}
