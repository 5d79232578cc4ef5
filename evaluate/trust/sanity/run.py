"""A method's sanity: do its maps depend on what the model has learnt? One document for all methods on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import NotApplicable
from an8flower.store import FlowerSplit, FlowerStore

from ...case import Query
from ...data.selection import select_rows
from ...explaining.explain import explain
from ...explaining.fitting import StoredExamples, prepared
from ...explaining.methods import Method, parse_method
from ...models.classifier import Classifier
from ...models.costs import Cost
from ...resources import Resources
from ...results.statistics.intervals import interval
from ...seeds import seed_of
from .label_randomisation import Memorised, Memory, memorised_once
from .layers import layers_of, steps_of
from .mprt import Full, Likeness, Point, Randomisation, fully, smooth, walked
from .pictures import Cascade
from .randomisation import Randomised, coverage, redrawn
from .similarity import SIMILARITIES, Maps, similarities
from .verdict import Verdict, judged, told, unrelated

CONTROL = "edges"  # does not look at the model: has to fail
NOISE = "random"  # looks at nothing: what unrelated maps score


@dataclass(frozen=True)
class SanityPlan:
    """What is asked: everything in here changes the numbers, and nothing else does."""

    split: str = "test"
    rows: int | None = 60  # all where None
    seed: int = 0
    steps: int = 10  # of the walks, at most
    draws: int = 3  # of the whole network
    recalibrate: bool = False  # whether batch norms take new statistics from the rows; else they keep the trained ones
    smooth: int | None = None  # noisy images of the smooth test; it is left out where None
    memory: Memory | None = field(default_factory=Memory)  # of the permuted labels; left out where None


class Asker:
    """One method, asked again and again; keeps account of what that costs."""

    def __init__(self, method: Method, store: FlowerStore, resources: Resources) -> None:
        self.method, self.cost, self.images = method, Cost(), 0
        self._examples, self._batch = StoredExamples(store, resources.device), resources.in_flight

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Maps (N, H, W). A method that has to be fitted is fitted on each model."""
        explainer = prepared(self.method.explainer, classifier, self._examples, self._batch)
        explanation = explain(classifier, explainer, query, self._batch)
        self.cost, self.images = self.cost + explanation.cost, self.images + len(query.images)
        return explanation.maps


def sanity(
    classifier: Classifier,
    methods: Iterable[Method],
    store: FlowerStore,
    plan: SanityPlan,
    resources: Resources,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    pictures: Callable[[str, dict[str, np.ndarray]], str] | None = None,
) -> dict[str, Any]:
    """Randomise a model, and the labels that it learnt from, and tell what becomes of each method's maps.

    The classifier is left as it is: copies are randomised. The explained class is the one that it predicts.

    Args:
        folder: where the model of permuted labels lies, or is filed.
        progress: told how many methods are through, of how many.
        pictures: given a method's text and the arrays of `Cascade.arrays`; where they lie goes into its result.
    """
    methods = list(methods)
    check = Check(classifier, store, plan, resources, folder)
    results, skipped, failed = [], [], []
    for done, method in enumerate(methods):
        about = {"method": method.text, "model": classifier.arch}
        try:
            results.append(check.of(method, None if pictures is None else partial(pictures, method.text)))
        except NotApplicable as reason:
            skipped.append({**about, "reason": str(reason)})
        except Exception as error:  # a foreign method may raise anything
            failed.append({**about, "reason": f"{type(error).__name__}: {error}"})
        progress(done + 1, len(methods))
    return check.document(results) | {"skipped": skipped, "failed": failed}


class Check:
    """What all methods on one model share: the rows, the random models, the model of permuted labels."""

    def __init__(
        self, classifier: Classifier, store: FlowerStore, plan: SanityPlan, resources: Resources, folder: Path
    ) -> None:
        self.classifier, self.store, self.plan, self.resources = classifier, store, plan, resources
        self.indices = select_rows(store[plan.split].labels, plan.rows, seed_of("rows", plan.seed))
        self.query, self.accuracy = asked(classifier, store[plan.split], self.indices, plan.seed, resources)
        layers = layers_of(classifier)
        draws = [redrawn(classifier, seed_of("sanity", plan.seed, draw)) for draw in range(plan.draws)]
        reports = [coverage(classifier, layers, values) for values in draws]
        self.coverage = reports[0]
        calibration = self.query.images if plan.recalibrate else None
        steps = tuple(steps_of(layers, plan.steps))
        self.random = Randomisation(Randomised(classifier), steps, tuple(draws), calibration)
        self.memorised, self.no_labels = self._memorised(folder)

    @cached_property
    def pictured(self) -> int:
        """The place of the row whose maps are kept for a picture: the first that the trained model tells rightly."""
        right = self.query.targets.cpu().numpy() == self.store[self.plan.split].labels[self.indices]
        return int(right.argmax())

    def _memorised(self, folder: Path) -> tuple[Memorised | None, str]:
        """The model of permuted labels, or why there is none."""
        if self.plan.memory is None:
            return None, "not asked for"
        try:
            return memorised_once(self.classifier, self.store, self.plan.memory, folder), ""
        except NotApplicable as reason:
            return None, str(reason)

    def of(self, method: Method, pictures: Callable[[dict[str, np.ndarray]], str] | None = None) -> dict[str, Any]:
        """All that is found of one method; `pictures` files those of one row, and says where."""
        asker, cascade = Asker(method, self.store, self.resources), Cascade(self.pictured)
        random = replace(self.random, note=cascade.note)
        maps = asker(self.classifier, self.query)
        original = Maps(maps)
        apart = unrelated(original)
        full = fully(random, asker, self.query, original)
        first = {name: values[:, 0] for name, values in full.likeness.items()}
        walks = walked(random, asker, self.query, original, {frozenset(random.everything): first})
        row = self.indices[self.pictured : self.pictured + 1]
        shown = partial(cascade.arrays, row, self.store[self.plan.split].take(row), maps, random.steps)
        filed = {} if pictures is None else {"pictures": pictures(shown(walks["cascading"]))}
        scores = self._scores(walks, full)
        if self.plan.smooth:
            walks["bottom_up_smooth"] = smooth(self.random, asker, self.query, self.plan.smooth)
            scores["smprt"] = self._numbers(over_steps(walks["bottom_up_smooth"]), "smprt")
        verdicts: dict[str, Any] = {
            "logits": told(self._verdicts(walks["cascading"][0].likeness, apart, "logits")),
            "model": told(self._verdicts(full.likeness, apart, "model")),
        }
        if self.memorised is not None:
            memory = similarities(original, Maps(asker(self.memorised.classifier, self.query)))
            verdicts["labels"] = told(self._verdicts(memory, apart, "labels"))
        return {
            "method": method.name,
            "parameters": vars(method.explainer),
            "scores": scores,
            "verdicts": verdicts,
            "curves": {order: [self._point(point) for point in points] for order, points in walks.items()},
            "cost": per_image(asker),
            **filed,
        }

    def _scores(self, walks: Mapping[str, list[Point]], full: Full) -> dict[str, Any]:
        return {
            "mprt": self._numbers(over_steps(walks["cascading"]), "mprt"),
            "mprt_independent": self._numbers(over_steps(walks["independent"]), "mprt_independent"),
            "mprt_full": self._numbers(full.likeness["spearman_abs"], "mprt_full"),
            "emprt": self._numbers(full.rise, "emprt"),
        }

    def _verdicts(self, likeness: Likeness, apart: Mapping[str, float], test: str) -> dict[str, Verdict]:
        return {name: judged(likeness[name], apart[name], self.plan.seed, test, name) for name in SIMILARITIES}

    def _point(self, point: Point) -> dict[str, Any]:
        found = {name: self._numbers(values, name) for name, values in point.likeness.items()}
        return {"layer": point.layer, **found}

    def _numbers(self, values: np.ndarray, name: str) -> dict[str, Any]:
        return asdict(interval(values, seed=seed_of("sanity", self.plan.seed, name)))

    def controls(self) -> dict[str, Any]:
        """What the scale of verdicts rests on: a method that has to fail, and what noise scores."""
        asker = Asker(parse_method(CONTROL), self.store, self.resources)
        original = Maps(asker(self.classifier, self.query))
        likeness = similarities(original, Maps(self.random.maps(asker, self.query, self.random.everything)))
        noise = Asker(parse_method(NOISE), self.store, self.resources)
        other = self.query._replace(seeds=self.query.seeds ^ 1)
        drawn = similarities(*(Maps(noise(self.classifier, query)) for query in (self.query, other)))
        return {
            CONTROL: told(self._verdicts(likeness, unrelated(original), "control")),
            NOISE: {name: self._numbers(values, name) for name, values in drawn.items()},
        }

    def document(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """All that was found; numbers that are not defined are null."""
        plan, data = self.plan, self.store
        about = {"arch": self.classifier.arch, "seed": self.classifier.seed, "digest": self.classifier.digest}
        labels = self.memorised.told() if self.memorised is not None else {"reason": self.no_labels}
        whole = {
            "dataset": {"name": data.name, "digest": data.digest, "split": plan.split, "rows": len(self.indices)},
            "model": {**about, "accuracy": self.accuracy},
            "plan": asdict(plan),
            "steps": [{"name": step.name, "layers": [each.name for each in step.layers]} for step in self.random.steps],
            "coverage": self.coverage,
            "labels": labels,
            "controls": self.controls(),
            "results": results,
        }
        return dict(without_nan(whole))


def asked(
    classifier: Classifier, split: FlowerSplit, indices: np.ndarray, seed: int, resources: Resources
) -> tuple[Query, float]:
    """The rows, with the classes that the trained model predicts as targets, and its accuracy on them."""
    rows = split.take(indices)
    device = resources.device
    images = torch.from_numpy(rows.images).to(device).permute(0, 3, 1, 2).contiguous().float() / 255
    with torch.inference_mode():
        guesses = torch.cat([classifier(portion).argmax(1) for portion in images.split(resources.in_flight)])
    seeds = torch.tensor([seed_of("explain", seed, split.store.digest, split.name, row) for row in indices.tolist()])
    accuracy = float((guesses.cpu().numpy() == rows.labels).mean())
    return Query(images, guesses.clone(), seeds.to(device)), accuracy


def over_steps(points: Iterable[Point]) -> np.ndarray:
    """The Spearman correlations of absolute maps, (N, steps): a row counts by the mean of those that are defined."""
    return np.stack([point.likeness["spearman_abs"] for point in points], 1)


def per_image(asker: Asker) -> dict[str, float]:
    """What an explanation costs, and how many were made."""
    cost, count = asker.cost, asker.images
    return {
        "explanations": count,
        "seconds": cost.seconds / count,
        "forwards": cost.forwards / count,
        "backwards": cost.backwards / count,
    }


def without_nan(value: Any) -> Any:
    """The same document with None for NaN, since JSON has no NaN, and plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    if isinstance(value, np.generic):
        return without_nan(value.item())
    return None if isinstance(value, float) and np.isnan(value) else value
