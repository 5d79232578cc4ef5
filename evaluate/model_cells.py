"""The cells of one model: chance and truth by the metrics that ask it, its methods, and what it relies on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from .causes.reliance import VERSION, shares
from .cells import Judge, model_name
from .classifier import Classifier
from .fit_files import fitted_once
from .fitting import StoredExamples
from .ledger import Cell, Ledger
from .methods import Method
from .results import RELIANCE


@dataclass(frozen=True)
class ModelCells:
    """A model of a plan, who judges it, and where its cells are filed."""

    judge: Judge
    ledger: Ledger
    classifier: Classifier
    source: str  # where it came from: what is fitted for it is kept beside it
    blocks: list[np.ndarray]  # the chosen rows, a cell's worth each

    def settle(self, methods: tuple[Method, ...]) -> dict[str, Any]:
        """All cells; what is known of the model, with its accuracy on the chosen rows."""
        if self.judge.of_models:
            self._references()
        for method in methods:
            self._explained(method)
        labels = self.judge.split.labels[np.concatenate(self.blocks)]
        return {
            "arch": self.classifier.arch,
            "seed": self.classifier.card.seed,
            "digest": self._digest,
            "accuracy": float((np.concatenate(self._predicted) == labels).mean()),
            **self._reliance(),
            **self._precision_errors(methods),
        }

    @cached_property
    def _predicted(self) -> list[np.ndarray]:
        """The predicted classes of each block."""
        return [self.judge.predict(self.classifier, indices) for indices in self.blocks]

    @cached_property
    def _digest(self) -> str:
        return self.classifier.digest

    @cached_property
    def _name(self) -> str:
        return model_name(self.classifier)

    @property
    def _asked(self) -> tuple[str, ...]:
        """What all cells that put questions to the model depend on."""
        return (*self.judge.identity, self._digest, self.judge.target)

    def _references(self) -> None:
        """What chance and the truth score; their thresholds are chosen only when a cell is missing."""
        thresholds = cache(partial(self.judge.reference_thresholds, self.classifier))

        def scored(indices: np.ndarray, predicted: np.ndarray) -> pa.Table:
            return self.judge.score_model_references(self.classifier, indices, predicted, thresholds())

        about = {"method": "chance and truth", "model": self._name}
        for indices, predicted in zip(self.blocks, self._predicted, strict=True):
            cell = Cell(f"{self._name}-reference", ("reference", *self._asked), indices, about)
            self.ledger.settle(cell, partial(scored, indices, predicted))

    def _explained(self, method: Method) -> None:
        """What a method scores; it is made ready only when a cell is missing."""
        ready = cache(partial(self._fitted, method))
        thresholds = cache(partial(self.judge.thresholds, self.classifier, ready))

        def scored(indices: np.ndarray, predicted: np.ndarray) -> pa.Table:
            return self.judge.score(self.classifier, ready(), indices, predicted, thresholds())

        label = f"{self._name}-{method.name.replace(':', '.')}"
        about = {"method": method.text, "model": self._name}
        for indices, predicted in zip(self.blocks, self._predicted, strict=True):
            cell = Cell(label, (*self._asked, repr(method.explainer)), indices, about)
            self.ledger.settle(cell, partial(scored, indices, predicted))

    def _fitted(self, method: Method) -> Method:
        """A method that is ready to explain: fitted on the training split where it has to be."""
        store, resources = self.judge.split.store, self.judge.resources
        examples, folder = StoredExamples(store, resources.device), self.ledger.run.folder
        explainer = fitted_once(method.explainer, self.classifier, examples, self.source, folder, resources.in_flight)
        return method._replace(explainer=explainer)

    def _reliance(self) -> dict[str, Any]:
        """Whether the model relies on the designed evidence, row by row; the shares of the rows, where one can ask."""
        if self.judge.world is None:
            return {}
        before = len(self.ledger.filed)
        identity = (RELIANCE, str(VERSION), *self.judge.identity[:2], self._digest)  # no seed, no metrics
        for indices, predicted in zip(self.blocks, self._predicted, strict=True):
            cell = Cell(f"{self._name}-{RELIANCE}", identity, indices, {"method": RELIANCE, "model": self._name})
            self.ledger.settle(cell, partial(self.judge.score_reliance, self.classifier, indices, predicted))
        filed = self.ledger.filed[before:]
        return {RELIANCE: shares(self.ledger.run.table(filed).to_pandas())} if len(filed) == len(self.blocks) else {}

    def _precision_errors(self, methods: tuple[Method, ...]) -> dict[str, Any]:
        """What lower precisions, where methods were asked for them, cost in accuracy; measured on the first rows."""
        asked = {getattr(method.explainer, "precision", "float32") for method in methods} - {"float32"}
        measured = partial(self.judge.precision_error, self.classifier, self.blocks[0])
        return {"precision_error": {each: measured(each) for each in sorted(asked)}} if asked else {}
