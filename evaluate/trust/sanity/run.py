"""A method's sanity: do its maps depend on what the model has learnt? One document for all methods on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal
from an8flower.store import FlowerSplit, FlowerStore

from ...case import Query
from ...data.images import as_images
from ...data.selection import select_rows
from ...explaining.explain import explain, explain_lent
from ...explaining.fitting import StoredExamples, prepare
from ...explaining.methods import Method, parse_method
from ...models.classifier import Classifier
from ...models.costs import Cost
from ...models.networks.guard import Seal, guard
from ...registry import is_ours
from ...resources import Resources
from ...results.files import without_nan
from ...results.sanity_outcomes import settle
from ...results.statistics.draws import interval_over_draws
from ...seeds import row_seed, seed_of
from .check import Setting, Subject, checks_of, merge
from .layers import layers_of, steps_of
from .mprt import Point, Randomisation
from .pictures import Cascade
from .plan import SanityPlan
from .randomisation import RandomisableCopy, Redraws, check_draw, coverage
from .similarity import ComparedMaps, similarities
from .verdict import compare_unrelated, judge

CONTROL = "edges"  # does not look at the model: has to fail
NOISE = "random"  # looks at nothing: what unrelated maps score


class CountingExplainer:
    """A method that explains one model after the other, and keeps account of what that costs."""

    def __init__(self, method: Method, store: FlowerStore, resources: Resources) -> None:
        self.method, self.cost, self.images = method, Cost(), 0
        self._examples, self._batch = StoredExamples(store, resources.device), resources.in_flight
        self._lent: Classifier | None = None  # the model that is under guard

    @contextmanager
    def lend(self, classifier: Classifier) -> Iterator[None]:
        """Guard a randomised copy once for many calls of a built-in method; a stranger's is guarded at each call.

        Its weights come and go, and whoever lends it puts them back; that a built-in method leaves weights alone has
        shown when it explained the trained model.
        """
        if not is_ours(self.method.explainer):
            yield
            return
        with guard(classifier, self.method.text, weights=False):
            self._lent = classifier
            try:
                yield
            finally:
                self._lent = None

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Maps (N, H, W). A method that has to be fitted is fitted on each model."""
        explainer = prepare(self.method.explainer, classifier, self._examples, self._batch)
        call = explain_lent if classifier is self._lent else explain
        explanation = call(classifier, explainer, query, self._batch)
        self.cost, self.images = self.cost + explanation.cost, self.images + len(query.images)
        return explanation.maps


def sanity(
    model: ModelSanity,
    methods: Iterable[Method],
    progress: Callable[[int, int], None] = lambda done, total: None,
    pictures: Callable[[str, dict[str, np.ndarray]], str] | None = None,
    examine: Callable[[Method], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Randomise a model, and the labels that it learnt from, and tell what becomes of each method's maps.

    The classifier is left as it is: copies are randomised. The explained class is the one that it predicts.

    Args:
        progress: told how many methods are through, of how many.
        pictures: takes a method's text and the arrays of `Cascade.arrays`; where they lie goes into its result.
        examine: what is called for the result of a method instead of `ModelSanity.examine`; then it takes no pictures.
    """
    methods = list(methods)
    results, skipped, failed = [], [], []
    for done, method in enumerate(methods):
        about = {"method": method.text, "model": model.setting.classifier.arch}
        try:
            if examine:
                results.append(examine(method))
            else:
                results.append(model.examine(method, None if pictures is None else partial(pictures, method.text)))
        except NotApplicable as reason:
            skipped.append({**about, "reason": str(reason)})
        except Exception as error:  # a foreign method may raise anything
            sentence = str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
            failed.append({**about, "reason": sentence})
        progress(done + 1, len(methods))
    return model.document(results) | {"skipped": skipped, "failed": failed}


class ModelSanity:
    """The sanity checks of one model: the rows and the random models are drawn once for all methods."""

    def __init__(
        self,
        classifier: Classifier,
        split: FlowerSplit,
        plan: SanityPlan,
        resources: Resources,
        *,
        folder: Path,
        seed: int = 0,
    ) -> None:
        """`folder` is where the models that a check trains lie, or are filed."""
        self.indices = select_rows(split.labels, min(plan.rows, len(split)), seed_of("rows", seed))
        query, self.accuracy = query_of(classifier, split, self.indices, seed=seed, resources=resources)
        layers = layers_of(classifier)
        seeds = [seed_of("sanity", seed, draw) for draw in range(min(plan.draws, len(self.indices)))]
        draws = Redraws(classifier, seeds)
        self.coverage = coverage(classifier, layers, draws[0])
        for draw in range(1, len(draws)):
            check_draw(classifier, layers, draws[draw])
        calibration = query.images if plan.recalibrate else None
        random = Randomisation(RandomisableCopy(classifier), tuple(steps_of(layers, plan.steps)), draws, calibration)
        self.draws = random.deal(query)  # (N,) the number of each row's draw
        self._seal = Seal(classifier)
        self.setting = Setting(
            classifier=classifier,
            split=split,
            plan=plan,
            seed=seed,
            resources=resources,
            folder=folder,
            query=query,
            random=random,
        )
        self.checks = checks_of(self.setting)

    @cached_property
    def pictured(self) -> int:
        """The place of the row whose maps are kept for a picture: the first that the trained model tells rightly."""
        right = self.setting.query.targets.cpu().numpy() == self.setting.split.labels[self.indices]
        return int(right.argmax())

    def examine(self, method: Method, pictures: Callable[[dict[str, np.ndarray]], str] | None = None) -> dict[str, Any]:
        """Carry out every check on one method; `pictures` files the maps of one row, and says where.

        Raises:
            NotApplicable: the model has no weights that could be drawn anew, as that of an ONNX file.
            NotWhole: the method leaves the model, or the process, changed.
        """
        classifier = self.setting.classifier
        if not any(True for _ in classifier.network.parameters()):
            raise NotApplicable(f"{classifier.arch} shows no weights that could be drawn anew; leave its sanity out")
        with self._seal.watch(self.setting.classifier.arch):
            return self._examine(method, pictures)

    def _examine(self, method: Method, pictures: Callable[[dict[str, np.ndarray]], str] | None) -> dict[str, Any]:
        asker, cascade, setting = self._asker(method), Cascade(self.pictured), self.setting
        quiet = replace(setting.random, lend=asker.lend)
        random = replace(quiet, note=cascade.note)
        maps = asker(setting.classifier, setting.query)
        subject = Subject(explain=asker, query=setting.query, maps=maps, random=random, quiet=quiet)
        apart = compare_unrelated(subject.original)
        findings = merge([check.examine(subject) for check in self.checks])
        return {
            "method": method.name,
            "parameters": vars(method.explainer),
            "scores": {key: self._numbers(values) for key, values in findings.scores.items()},
            "verdicts": {
                **{key: judge(likeness, apart, self.draws) for key, likeness in findings.verdicts.items()},
                **{key: judge(likeness, apart, self.draws, single=True) for key, likeness in findings.single.items()},
            },
            "curves": {order: [self._point(point) for point in points] for order, points in findings.curves.items()},
            "cost": per_image(asker),
            **({} if pictures is None else {"pictures": pictures(self._cascade_arrays(cascade, subject))}),
        }

    def _asker(self, method: Method) -> CountingExplainer:
        return CountingExplainer(method, self.setting.split.store, self.setting.resources)

    def _cascade_arrays(self, cascade: Cascade, subject: Subject) -> dict[str, np.ndarray]:
        """The maps of one row down the cascade, with the row itself."""
        row = self.indices[self.pictured : self.pictured + 1]
        shown = partial(cascade.arrays, row, self.setting.split.take(row), subject.maps, subject.random.steps)
        return shown(subject.walks["cascading"])

    def _point(self, point: Point) -> dict[str, Any]:
        similar = {name: self._numbers(values) for name, values in point.likeness.items()}
        return {"layer": point.layer, **similar}

    def _numbers(self, values: np.ndarray) -> dict[str, Any]:
        return asdict(interval_over_draws(values, self.draws))

    def controls(self) -> dict[str, Any]:
        """What the scale of verdicts rests on: a method that has to fail, and what noise scores."""
        classifier, query, random = self.setting.classifier, self.setting.query, self.setting.random
        asker, noise = (self._asker(parse_method(name)) for name in (CONTROL, NOISE))
        original = ComparedMaps(asker(classifier, query))
        maps = replace(random, lend=asker.lend).maps(asker, query, random.everything)
        likeness = similarities(original, ComparedMaps(maps))
        twice = Query(*(torch.cat([tensor, tensor]) for tensor in query))
        twice.seeds[len(query.seeds) :] ^= 1
        first, second = noise(classifier, twice).chunk(2)
        drawn = similarities(ComparedMaps(first), ComparedMaps(second))
        return {
            CONTROL: judge(likeness, compare_unrelated(original), self.draws),
            NOISE: {name: self._numbers(values) for name, values in drawn.items()},
        }

    def document(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """The document of the model with the results of some methods; numbers that are not defined are null.

        Outcomes are corrected for all tests of a method on this model.
        """
        setting, classifier, data = self.setting, self.setting.classifier, self.setting.split.store
        about = {"arch": classifier.variant, "seed": classifier.seed, "digest": classifier.digest}
        steps = [{"name": step.name, "layers": [layer.name for layer in step.layers]} for step in setting.random.steps]
        whole = {
            "dataset": {
                "name": data.name,
                "digest": data.digest,
                "split": setting.split.name,
                "rows": len(self.indices),
            },
            "model": {**about, "accuracy": self.accuracy},
            "plan": self._describe_plan(),
            "steps": steps,
            "coverage": self.coverage,
            **{key: value for check in self.checks for key, value in check.describe_model().items()},
            "controls": self.controls(),
            "results": results,
        }
        return settle([dict(without_nan(whole))])[0]

    def _describe_plan(self) -> dict[str, Any]:
        plan = self.setting.plan
        return {
            "split": self.setting.split.name,
            "rows": len(self.indices),
            "seed": self.setting.seed,
            "steps": plan.steps,
            "draws": len(self.setting.random.draws),
            "recalibrate": plan.recalibrate,
            **{key: value for check in self.checks for key, value in check.describe_plan().items()},
        }


def query_of(
    classifier: Classifier, split: FlowerSplit, indices: np.ndarray, *, seed: int, resources: Resources
) -> tuple[Query, float]:
    """The rows, with the classes that the trained model predicts as targets, and its accuracy on them."""
    rows = split.take(indices)
    images = as_images(rows.images, resources.device)
    guesses = torch.cat([classifier.predict(portion) for portion in images.split(resources.in_flight)])
    seeds = torch.tensor([row_seed(seed, split.store.digest, split.name, row) for row in indices.tolist()])
    accuracy = float((guesses.cpu().numpy() == rows.labels).mean())
    return Query(images, guesses, seeds.to(resources.device)), accuracy


def per_image(asker: CountingExplainer) -> dict[str, float]:
    """What an explanation costs, and how many were made."""
    cost, count = asker.cost, asker.images
    return {
        "explanations": count,
        "seconds": cost.seconds / count,
        "forwards": cost.forwards / count,
        "backwards": cost.backwards / count,
    }
