"""Networks with something built in, beside the same networks without: `resnet18+cosine` beside `resnet18`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .files import without_nan
from .metric_values import MetricKind
from .statistics.differences import describe_differences, describe_paired_means
from .statistics.intervals import known_mean
from .statistics.scores import ScoreArrays
from .wording import reliance

SHARES = ("flip_rate", "stability", "rim_alone", "rest_alone")  # of a certificate


class VariantPair(NamedTuple):
    """A variant and its plain architecture, with the models of the seeds that both have."""

    without: str
    variant: str
    seeds: tuple[int, ...]
    plain_models: tuple[str, ...]  # the names of the models, one for each seed
    variant_models: tuple[str, ...]


class ModelFacts(NamedTuple):
    """The facts about one model that are compared beside its scores."""

    accuracy: float | None  # on the test split, in [0, 1]
    certificate: Mapping[str, Any] | None


def pair_variants(names: Sequence[str]) -> list[VariantPair]:
    """The variants among models, each with its plain architecture, in the order of the models.

    A seed of which either has several models is left out: which of them belong together cannot be told.

    Args:
        names: the names of models, ARCH-seedN-DIGEST. What follows the first plus in ARCH makes a variant.

    >>> [pair[:3] for pair in pair_variants(["net-seed0-1a", "net+cosine-seed0-2b", "other+cosine-seed0-3c"])]
    [('net', 'net+cosine', (0,))]
    """
    by_arch: dict[str, dict[int, list[str]]] = {}
    for name in names:
        arch, seed, _ = name.rsplit("-", 2)
        if seed.removeprefix("seed").isdigit():
            by_arch.setdefault(arch, {}).setdefault(int(seed.removeprefix("seed")), []).append(name)
    single = {arch: {seed: of[0] for seed, of in seeds.items() if len(of) == 1} for arch, seeds in by_arch.items()}
    pairs = []
    for variant, models in single.items():
        base = variant.partition("+")[0]
        plain = single.get(base, {}) if base != variant else {}
        if seeds := sorted(models.keys() & plain.keys()):
            sides = (tuple(side[seed] for seed in seeds) for side in (plain, models))
            pairs.append(VariantPair(base, variant, tuple(seeds), *sides))
    return pairs


@dataclass(frozen=True)
class PairedScores:
    """The scores of a variant and of its plain architecture, on the same rows and for the same seeds."""

    scores: ScoreArrays
    pair: VariantPair
    methods: Mapping[str, str]  # the explainers of the methods by their texts
    controls: frozenset[str]  # the texts of the methods that explain nothing
    seed: int  # of resampling

    def describe(self, metric: str, kind: MetricKind) -> dict[str, Any] | None:
        """The differences by one metric, of each method and of the mean over methods; None if no method has both sides.

        The controls explain nothing, so what they gain the metric owes to the networks alone. `beyond` is how the lead
        of the methods over the controls differs.
        """
        texts = self.comparable(metric)
        if not texts:
            return None
        explaining = [text for text in texts if text not in self.controls]
        documents = describe_differences(*self._sides(metric, texts), self.seed)
        methods = [
            {"text": text, "control": text in self.controls, **_means(*self._sides(metric, [text])), **document}
            for text, document in zip(texts, documents, strict=True)
        ]
        return {
            "higher_is_better": kind.higher_is_better,
            "methods": methods,
            "all": self.pool(metric, explaining),
            "controls": self.pool(metric, [text for text in texts if text in self.controls]),
            "beyond": self.compare_with_controls(metric, explaining),
        }

    def comparable(self, metric: str) -> list[str]:
        """The texts of the methods that have a value of a metric on both sides, for some row and seed."""
        return [text for text in self.methods if _meet(*self._sides(metric, [text]))]

    def pool(self, metric: str, texts: Sequence[str]) -> dict[str, Any] | None:
        """The difference of the mean over methods, where all of them are defined; None if that is nowhere."""
        return self._describe_mean([side.mean(0) for side in self._sides(metric, texts)]) if texts else None

    def compare_with_controls(self, metric: str, texts: Sequence[str]) -> dict[str, Any] | None:
        """The difference of the lead of some methods over the controls, by their means; None without either."""
        controls = [text for text in self.comparable(metric) if text in self.controls]
        if not controls or not texts:
            return None
        sides = zip(self._sides(metric, texts), self._sides(metric, controls), strict=True)
        return self._describe_mean([side.mean(0) - blind.mean(0) for side, blind in sides])

    def _describe_mean(self, sides: Sequence[np.ndarray]) -> dict[str, Any] | None:
        """The one document of values (rows, seeds) with less those without; None if they have nothing in common."""
        inside, plain = (side[None] for side in sides)
        if not _meet(inside, plain):
            return None
        return {**_means(inside, plain), **describe_differences(inside, plain, self.seed)[0]}

    def _sides(self, metric: str, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The values (methods, rows, seeds) with and without; NaN is undefined."""
        values = self.scores.all_of(metric, [self.methods[text] for text in texts])
        with_it, plain = (
            [self.scores.models.index(name) for name in names]
            for names in (self.pair.variant_models, self.pair.plain_models)
        )
        return values[:, :, with_it], values[:, :, plain]


def _meet(inside: np.ndarray, plain: np.ndarray) -> bool:
    return not bool(np.isnan(inside - plain).all())


def _means(inside: np.ndarray, plain: np.ndarray) -> dict[str, float | None]:
    """The means with and without, where both are defined: a row counts by the mean over its seeds."""
    both = ~np.isnan(inside - plain)
    means = [known_mean(known_mean(np.where(both, side, np.nan), axis=2)[0], axis=0) for side in (inside, plain)]
    return dict(without_nan({"with": float(means[0]), "without": float(means[1])}))


def describe_facts(pair: VariantPair, facts: Mapping[str, ModelFacts]) -> dict[str, Any]:
    """The accuracies and certificates of the models with and without, ready for JSON.

    Args:
        facts: of every model, by its name.
    """
    inside, plain = ([facts[name] for name in names] for names in (pair.variant_models, pair.plain_models))
    accuracies = (np.array([fact.accuracy for fact in side], np.float64) for side in (inside, plain))
    return {"accuracy": describe_paired_means(*accuracies), "certificates": _describe_certificates(inside, plain)}


def _describe_certificates(inside: Sequence[ModelFacts], plain: Sequence[ModelFacts]) -> dict[str, Any] | None:
    """How many of the models rely on the evidence, and the shares of their certificates; None without certificates."""
    if any(fact.certificate is None for fact in (*inside, *plain)):
        return None
    pairs = {name: (_shares(inside, name), _shares(plain, name)) for name in SHARES}
    known = {name: pair for name, pair in pairs.items() if not np.isnan(np.stack(pair)).all()}
    relying = [sum(reliance(fact.certificate or {}) == "yes" for fact in facts) for facts in (inside, plain)]
    shares = {name: describe_paired_means(*pair) for name, pair in known.items()}
    return {"relying_with": relying[0], "relying_without": relying[1], "shares": shares}


def _shares(facts: Sequence[ModelFacts], name: str) -> np.ndarray:
    """The means of one share of the certificates, (models,) float64; NaN where there is none."""
    entries = [(fact.certificate or {}).get(name) or {} for fact in facts]
    return np.array([entry.get("mean") for entry in entries], np.float64)
