"""The cells of one model: chance and truth by the metrics that ask it, its methods, and what it relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from torch import Tensor

from an8flower.errors import Refusal

from ..explaining.fitting import StoredExamples, fit_once
from ..explaining.methods import Method, family_of
from ..explaining.stored_maps import StoredMaps
from ..metrics.interventions.reliance import FOLLOWS, SHORTCUT, VERSION, shares
from ..models.accuracy_check import AccuracyCheck, check_accuracy
from ..models.classifier import Classifier
from ..models.kept_copies import KeptCopies
from ..models.networks.guard import NotWhole, Seal
from ..models.sources import Source
from ..registry import model_name
from ..results import kept_maps
from ..results.ledger import Cell, Content, Ledger, Work
from ..results.map_files import MapsManifest
from ..results.statistics.scores import AT_GRID, OTHER_ROWS
from ..results.summary import CHANCE, ORACLE, RELIANCE, RELIES
from .judge import Judge
from .references import has_grid
from .thresholds import method_thresholds, reference_thresholds

Value = TypeVar("Value")


@dataclass(eq=False)
class ModelCells:
    """The cells of one model of a plan, and the judge that fills them."""

    judge: Judge
    classifier: Classifier
    source: str | Source  # where it came from: what is fitted for it is kept beside it
    blocks: list[np.ndarray]  # the chosen rows, a cell's worth each
    folder: Path  # of the run
    keep_maps: bool = False
    check_data: Callable[[], None] = lambda: None  # raises a Refusal if the data set is not what it was

    def __post_init__(self) -> None:
        """Remember the classifier as it is now, before any method has had it."""
        self.digest = self.classifier.digest
        self.name = model_name(self.classifier.variant, self.classifier.seed, self.digest)
        self.accuracy_check: AccuracyCheck | None = None  # until somebody looks
        self._seal, self._copies = Seal(self.classifier), KeptCopies()
        self._prepared: list[Any] = []  # what was made ready with the classifier

    def check_accuracy(self) -> str:
        """Look whether the classifier is what it says it is on these data; the doubt, or an empty text."""
        self.accuracy_check = check_accuracy(self.classifier, self.judge.split, self.judge.resources.in_flight)
        return self.accuracy_check.doubt

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block whose results are kept only if model, process and data are what they were, all through it."""
        with self._seal.watch(self.name, self._start_anew), self.classifier.keeping(self._copies):
            yield
        self.check_data()

    def _start_anew(self) -> None:
        """Take a copy of the classifier that nobody else holds, and forget what was computed with the former one."""
        classifier = self._seal.renew()
        assert isinstance(classifier, Classifier), "a copy of a classifier is one"
        self.classifier, self._seal, self._copies = classifier, Seal(classifier), KeptCopies()
        self.__dict__.pop("_predicted", None)
        for prepared in self._prepared:
            prepared.cache_clear()

    def _keep(self, function: Callable[[], Value]) -> Callable[[], Value]:
        """A function that is called once, and again where its result was forgotten."""
        kept = cache(function)
        self._prepared.append(kept)
        return kept

    def _work(self, cell: Cell, make: Callable[[], pa.Table]) -> Work:
        """A cell, and the function that computes it with a model that is whole."""

        def make_whole() -> pa.Table:
            with self.whole():
                return make()

        return cell, make_whole

    def cells(self, methods: tuple[Method, ...]) -> Iterator[Work]:
        """All cells of the model: chance and the truth, each method, and what the model relies on."""
        if self.judge.of_models:
            yield from self._reference_cells()
        for method in methods:
            yield from self._method_cells(method)
        if self.judge.world:
            yield from self._reliance_cells()

    def describe(self, methods: tuple[Method, ...], ledger: Ledger) -> dict[str, Any]:
        """The entry of the model in a document, with its accuracy on the chosen rows."""
        labels = self.judge.split.labels[np.concatenate(self.blocks)]
        describe = partial(self._describe, methods, ledger, labels)
        try:
            with self.whole():
                return describe()
        except NotWhole:  # something went on changing the classifier, which is a copy by now
            with self.whole():
                return describe()

    def _describe(self, methods: tuple[Method, ...], ledger: Ledger, labels: np.ndarray) -> dict[str, Any]:
        return {
            "arch": self.classifier.variant,
            "seed": self.classifier.card.seed,
            "digest": self.digest,
            "accuracy": float((np.concatenate(self._predicted) == labels).mean()),
            **({"recipe": recipe} if (recipe := self.classifier.card.data.get("recipe")) else {}),
            **({"accuracy_check": self.accuracy_check.to_document()} if self.accuracy_check else {}),
            **self._reliance_shares(ledger),
            **self._precision_errors(methods),
        }

    @cached_property
    def _predicted(self) -> list[np.ndarray]:
        """The predicted classes of each block."""
        return [self.judge.predict(self.classifier, indices) for indices in self.blocks]

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block, and their predicted classes."""
        return self.blocks[number], self._predicted[number]

    @property
    def _identity(self) -> tuple[str, ...]:
        """What the numbers of all cells that ask the model depend on, besides method and rows."""
        return (*self.judge.identity, self.digest, self.judge.target)

    def _reference_cells(self) -> Iterator[Work]:
        """The cells of chance and the truth; their thresholds are chosen only when a cell is missing."""
        thresholds = self._keep(lambda: reference_thresholds(self.judge.validation, self.classifier))

        def score(block: int) -> pa.Table:
            return self.judge.score_model_references(self.classifier, *self._block(block), thresholds())

        about = {"method": "chance and truth", "model": self.name}
        for number, indices in enumerate(self.blocks):
            content = Content(self.name, (CHANCE, ORACLE), tuple(metric.name for metric in self.judge.of_models))
            cell = Cell(f"{self.name}-reference", ("reference", *self._identity), indices, about, content=content)
            yield self._work(cell, partial(score, number))

    def _method_cells(self, method: Method) -> Iterator[Work]:
        """The cells of a method, which is made ready to explain only when a cell is missing."""
        ready = self._keep(partial(self.fit, method))
        validation = None if isinstance(method.explainer, StoredMaps) else self.judge.validation
        thresholds = self._keep(lambda: method_thresholds(validation, self.classifier, method, ready))

        def score(block: int, cell: Cell) -> pa.Table:
            keep = self._keeper(block, cell, method)
            return self.judge.score(self.classifier, ready(), *self._block(block), thresholds(), keep)

        label = f"{self.name}-{method.name.replace(':', '.')}"
        about = {"method": method.text, "model": self.name}
        for number, indices in enumerate(self.blocks):
            explainer = repr(method.explainer)
            further = [(OTHER_ROWS + explainer, metric.name) for metric in self.judge.of_other_rows]
            if has_grid(method.explainer):
                further += [(AT_GRID + explainer, metric.name) for metric in self.judge.of_maps]
            names = tuple(metric.name for metric in self.judge.metrics)
            content = Content(self.name, (explainer,), names, tuple(further))
            cell = Cell(label, (*self._identity, explainer), indices, about, explains=True, content=content)
            yield self._work(cell, partial(score, number, cell))

    def _keeper(self, block: int, cell: Cell, method: Method) -> Callable[[Tensor], None]:
        """The function that gets the maps of a cell: it writes them to disk if maps are kept, and does nothing else."""
        if not self.keep_maps:
            return lambda maps: None
        manifest = self._manifest_of(method)
        place = kept_maps.maps_path(self.folder, cell.name)
        return lambda maps: kept_maps.write_maps(place, self.blocks[block], maps.cpu().numpy(), manifest)

    def _manifest_of(self, method: Method) -> MapsManifest:
        """The manifest of the maps of a method for this model."""
        split, family = self.judge.split, method.family or family_of(method.name)
        data = split.store.digest
        return MapsManifest(data, split.name, self.digest, self.judge.target, method.text, family, self.judge.seed)

    def fit(self, method: Method) -> Method:
        """Make a method ready to explain: fit it on the training split if it has to be fitted.

        Maps from files are bound to the rows and the model; raises NotApplicable or Refusal where they are others'.
        """
        if isinstance(method.explainer, StoredMaps):
            bound = method.explainer.bind(self.judge.split, self.digest, self.judge.target, self.judge.seed)
            bound.refuse_missing(np.concatenate(self.blocks))
            return method._replace(explainer=bound)
        store, resources = self.judge.split.store, self.judge.resources
        examples, batch = StoredExamples(store, resources.device), resources.in_flight
        explainer = fit_once(method.explainer, self.classifier, examples, str(self.source), self.folder, batch)
        return method._replace(explainer=explainer)

    def reason_against(self, method: Method) -> Refusal | None:
        """The refusal that making a method ready ends with; None if it can be made ready."""
        try:
            self.fit(method)
        except Refusal as reason:
            return reason
        return None

    def _reliance_cells(self) -> Iterator[Work]:
        """The cells that tell, row by row, whether the model relies on the designed evidence."""

        def score(block: int) -> pa.Table:
            return self.judge.score_reliance(self.classifier, *self._block(block))

        identity = (
            RELIANCE,
            str(VERSION),
            *self.judge.data,
            *self.judge.arithmetic,
            self.digest,
        )  # no seed, no metrics
        content = Content(self.name, (RELIANCE,), self._reliance_metrics)
        about = {"method": RELIANCE, "model": self.name}
        for number, indices in enumerate(self.blocks):
            cell = Cell(f"{self.name}-{RELIANCE}", identity, indices, about, content=content)
            yield self._work(cell, partial(score, number))

    @property
    def _reliance_metrics(self) -> tuple[str, ...]:
        """What is asked about the designed evidence, in the order of the rows of a cell."""
        shortcut = self.judge.world is not None and self.judge.world.spec.shortcut
        return (RELIES, FOLLOWS, SHORTCUT) if shortcut else (RELIES, FOLLOWS)

    def _reliance_shares(self, ledger: Ledger) -> dict[str, Any]:
        """The shares of rows in which the model relies on the evidence; empty unless every row has been asked."""
        names = [cell.name for cell, _ in self._reliance_cells()] if self.judge.world else []
        if not names or not set(names) <= set(ledger.filed):
            return {}
        return {RELIANCE: shares(ledger.run.table(names).to_pandas())}

    def _precision_errors(self, methods: tuple[Method, ...]) -> dict[str, Any]:
        """What lower precisions, where methods were asked for them, cost in accuracy; measured on the first rows."""
        precisions = {getattr(method.explainer, "precision", "float32") for method in methods} - {"float32"}
        measure = partial(self.judge.precision_error, self.classifier, self.blocks[0])
        return {"precision_error": {name: measure(name) for name in sorted(precisions)}} if precisions else {}
