"""The document of a model's prototypes: scores with intervals, patches, examples, and the pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from an8flower.factors import PARTS

from ...results.prototype_cards import (
    MEASURES,
    NEVER,
    NO_OUTSIDE,
    NO_RENDERER,
    NO_ROWS,
    NOT_IN_CLASS,
    PUBLISHED,
    find_measure,
)
from ...results.prototype_results import (
    ClassWeight,
    JudgedModel,
    JudgedPrototype,
    ModelScore,
    PrototypePatch,
    PrototypeScore,
)
from ...results.statistics.intervals import Interval, interval, share_interval
from ...seeds import seed_of
from . import measures
from .examples import find_examples
from .judge import PrototypeJudge
from .locating import WEIGHTLESS, network_of
from .measures import MeasuredPrototype
from .parts import NOWHERE
from .patches import PlacedPatch, make_patch
from .pictures import draw_pictures
from .training_patches import TrainingPatch, find_training_patches

FOUND_PUBLISHED = 0.1  # the similarity above which PIP-Net counts a prototype as found


class Description(NamedTuple):
    """The document of a model's prototypes, and the arrays of the pictures that belong to it."""

    model: JudgedModel
    pictures: dict[str, np.ndarray]


def describe_prototypes(judge: PrototypeJudge) -> Description:
    """Judge the prototypes of a model by every measure, and describe them.

    Raises:
        NotApplicable: the network has no prototypes, none of them has a weight, or the data have no part maps.
        Refusal: the network gives similarities that are not finite, or below 0.
    """
    measured = judge.measure()
    sources = find_training_patches(judge)
    prototypes = [_describe_prototype(judge, k, measured, source) for k, source in enumerate(sources)]
    examples = find_examples(judge)
    model = JudgedModel(
        model=judge.classifier.name,
        architecture=judge.classifier.variant,
        total=network_of(judge.classifier).weights.shape[1],
        grid=judge.usual.where.grid,
        size=judge.size,
        class_names=judge.classifier.class_names,
        scores=score_model(judge, measured),
        prototypes=tuple(prototypes),
        examples=tuple(examples),
    )
    return Description(model, draw_pictures(judge, prototypes, examples))


def score_model(judge: PrototypeJudge, measured: Mapping[str, Sequence[MeasuredPrototype]]) -> dict[str, ModelScore]:
    """The scores of a model by measure: means over prototypes or rows with their intervals, and counts."""
    scores = {name: _score_prototypes(name, values, judge.seed) for name, values in measured.items()}
    weights = network_of(judge.classifier).weights.detach().abs().cpu().numpy() > WEIGHTLESS
    where, has_weight = judge.usual.where, np.abs(judge.weights) > WEIGHTLESS
    seed = seed_of("prototypes", judge.seed)
    relative = measures.FOUND * where.values.max(0)
    by_row = {"locality": interval(measures.locality(where, has_weight, relative), seed=seed)}
    if judge.published:
        fixed = np.full_like(relative, FOUND_PUBLISHED)
        by_row[f"locality{PUBLISHED}"] = interval(measures.locality(where, has_weight, fixed), seed=seed)
    by_row["abstention"] = share_interval(measures.abstention(where, judge.weights > WEIGHTLESS), seed=seed)
    scores |= {name: _to_score(numbers, "rows") for name, numbers in by_row.items()}
    scores["size"] = ModelScore(mean=float(weights.any(0).sum()), n=weights.shape[1], over="model")
    scores["sparsity"] = ModelScore(mean=float((~weights).mean()), n=weights.size, over="weights")
    order = {measure.name: place for place, measure in enumerate(MEASURES)}
    return dict(sorted(scores.items(), key=lambda item: order[item[0].removesuffix(PUBLISHED)]))


def _score_prototypes(name: str, values: Sequence[MeasuredPrototype], seed: int) -> ModelScore:
    """The mean of a measure over prototypes; chance is the mean over those that have a value."""
    numbers = np.array([measured.value for measured in values])
    mean = share_interval if name.removesuffix(PUBLISHED) == "consistency" else interval
    known = ~np.isnan(numbers)
    chances = np.array([measured.chance for measured in values])[known]
    chance = float(chances.mean()) if len(chances) else float("nan")
    return _to_score(mean(numbers, seed=seed_of("prototypes", seed)), "prototypes", chance)


def _to_score(numbers: Interval, over: str, chance: float = float("nan")) -> ModelScore:
    ends = {"mean": numbers.mean, "low": numbers.low, "high": numbers.high, "chance": chance}
    return ModelScore(
        **{key: to_json(value) for key, value in ends.items()}, n=numbers.n, undefined=numbers.undefined, over=over
    )


def to_json(value: float) -> float | None:
    """A number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def _describe_prototype(
    judge: PrototypeJudge,
    k: int,
    measured: Mapping[str, Sequence[MeasuredPrototype]],
    source: TrainingPatch | None,
) -> JudgedPrototype:
    where, label = judge.usual.where, int(judge.classes[k])
    shares = measures.patch_shares(where, judge.usual.maps, k, judge.strongest)
    return JudgedPrototype(
        number=int(judge.numbers[k]),
        label=label,
        class_name=judge.classifier.class_names[label],
        weight=float(judge.weights[label, k]),
        classes=_describe_classes(judge, k),
        largest=float(where.values[:, k].max()),
        rows_found=float(where.is_found[:, k].mean()),
        shares={PARTS[part]: float(share) for part, share in enumerate(shares) if share > 0},
        scores={name: _describe_score(judge, k, name, values[k]) for name, values in measured.items()},
        patches=tuple(_describe_patch(judge, k, place) for place in judge.patches[k].tolist()),
        source=source.patch if source else None,
        pushed=source is not None and source.pushed,
    )


def _describe_classes(judge: PrototypeJudge, k: int) -> tuple[ClassWeight, ...]:
    """The classes for which a prototype speaks, that with the largest weight first."""
    weights, names = judge.weights[:, k], judge.classifier.class_names
    order = np.argsort(-weights, kind="stable")
    return tuple(
        ClassWeight(label=label, class_name=names[label], weight=float(weights[label]))
        for label in order[weights[order] > WEIGHTLESS].tolist()
    )


def _describe_score(judge: PrototypeJudge, k: int, name: str, measured: MeasuredPrototype) -> PrototypeScore:
    reason = why_undefined(judge, k, name) if np.isnan(measured.value) else None
    part = PARTS[measured.part] if measured.part != NOWHERE else None
    return PrototypeScore(value=to_json(measured.value), chance=to_json(measured.chance), part=part, reason=reason)


def why_undefined(judge: PrototypeJudge, k: int, name: str) -> str:
    """Why a measure has no value for a prototype, in a sentence."""
    measure = find_measure(name)
    assert measure is not None
    if "renderer" in measure.needs and judge.world is None and not name.endswith(PUBLISHED):
        return NO_RENDERER
    if name.removesuffix(PUBLISHED) in ("purity", "on_object", "misalignment"):
        return NO_OUTSIDE if len(judge.patches[k]) else NEVER
    return NOT_IN_CLASS if len(judge.members[k]) else NO_ROWS


def _describe_patch(judge: PrototypeJudge, k: int, place: int) -> PrototypePatch:
    """One of the strongest patches of a prototype: that of a row, by its place."""
    where, maps = judge.usual
    placed = PlacedPatch(int(judge.rows[place]), int(where.cells[place, k]), float(where.values[place, k]))
    return make_patch(placed, int(judge.labels[place]), maps, place)
