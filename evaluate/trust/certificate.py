"""The reliance certificate: what a classifier uses, asked by changing one thing in a scene and rendering it again.

Nothing is masked or blurred: every picture is one of the renderer, and each effect says how many of its pictures are
ones that the data set could hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from an8flower import interventions
from an8flower.factors import PARTS

from ..data.selection import select_rows
from ..data.world import World
from ..metrics.interventions.reliance import classify_tables, goes_with_shortcut, redundant_sets
from ..models.accuracy_check import check_accuracy
from ..models.classifier import Classifier
from ..models.networks.arithmetic import describe_arithmetic
from ..models.networks.guard import evaluating
from ..models.sources import Source, open_judged
from ..models.streamlined import streamline
from ..resources import Resources
from ..results.certificate_words import describe
from ..results.files import without_nan
from ..results.statistics.intervals import Interval, interval, row_means, share_interval
from ..seeds import seed_of
from .questions import (
    ALL,
    CertifiedRows,
    Question,
    QuestionKind,
    class_parts,
    name_set,
    questions_about,
    rows_of,
)
from .use import Use, measure_use

ROWS = 300  # how many a certificate asks about by default

Change = Literal["redrawn", "swapped", "removed"]


@dataclass(frozen=True)
class Effect:
    """What changing one part does to the class that was predicted without the change."""

    part: str
    change: Change
    logit: Interval  # of that class, after less before: negative where the part spoke for it
    probability: Interval  # likewise, in [-1, 1]
    changed: Interval  # share of the pictures in which another class is predicted
    in_the_data: float  # share of the pictures that the data set could hold; NaN where there are none
    reason: str | None = None  # why there are no numbers


@dataclass(frozen=True)
class Decision:
    """What decides if the shortcut has the value of another class than the evidence: three shares that sum to 1."""

    factor: str
    by_shortcut: Interval
    by_evidence: Interval
    by_neither: Interval


@dataclass(frozen=True)
class Usage:
    """How much of the evidence is used, over the rows whose prediction the pixels of the evidence alone turn."""

    area: Interval  # share of the mask's pixels that hold 90 % of the effect within it
    inside: Interval  # share of the effect that lies within the mask
    error: Interval  # of the effect's sum, in units of what it should be; above 0.1 there is no area
    pieces: Interval  # ellipsoids of the evidence to swap, the largest effect first, until the prediction follows
    piece_share: Interval  # the same as a share of those that are seen


@dataclass(frozen=True)
class SufficientSet:
    """One of several sets of parts that tell a class, and whether it is followed if it alone is another class's."""

    parts: tuple[str, ...]
    flip_rate: Interval


@dataclass(frozen=True)
class Certificate:
    """What a classifier relies on; all shares lie in [0, 1] and have 95 % intervals, resampled by row."""

    model: str
    evidence: tuple[str, ...]  # the parts that tell the classes
    accuracy: Interval
    flip_rate: Interval  # given another class's evidence, all else equal: is that class predicted?
    stability: Interval  # all that is left to chance drawn again: is the same class predicted?
    stability_by_group: Mapping[str, Interval]  # drawn again by itself: a part, `view`, `light`, `background`, ...
    effects: tuple[Effect, ...]
    shortcut: Decision | None  # None where the data have none
    evidence_alone: Interval  # only the evidence's pixels are those of another class: is that class predicted?
    rim_alone: Interval  # likewise, if only void pixels are, within the mask or beside it; undefined if none is known
    rest_alone: Interval  # likewise, if only the pixels that are neither are
    use: Usage
    sufficient_sets: tuple[SufficientSet, ...]  # empty unless some class has several

    @property
    def best_set(self) -> tuple[str, ...] | None:
        """The sufficient set that is followed most often if it alone changes; None unless there are several."""
        rated = [way for way in self.sufficient_sets if not np.isnan(way.flip_rate.mean)]
        return max(rated, key=lambda way: way.flip_rate.mean).parts if rated else None

    @property
    def verdict(self) -> str:
        """The certificate in a few sentences."""
        return describe(self._numbers())

    def document(self) -> dict[str, Any]:
        """The certificate ready for JSON, with None for each undefined number."""
        return {**self._numbers(), "verdict": self.verdict}

    def _numbers(self) -> dict[str, Any]:
        """The document of the certificate without the verdict, which is made from it."""
        shares = ("accuracy", "flip_rate", "stability", "evidence_alone", "rim_alone", "rest_alone")
        document = {
            "model": self.model,
            "evidence": list(self.evidence),
            **{name: asdict(getattr(self, name)) for name in shares},
            "stability_by_group": {name: asdict(stability) for name, stability in self.stability_by_group.items()},
            "use": asdict(self.use),
            "sufficient_sets": [{**asdict(way), "parts": list(way.parts)} for way in self.sufficient_sets],
            "best_set": self.best_set and list(self.best_set),
            "effects": [asdict(effect) for effect in self.effects],
            "shortcut": self.shortcut and asdict(self.shortcut),
        }
        return dict(without_nan(document))


class Answers(NamedTuple):
    """The logits of all rows before and after the change that a question makes."""

    question: Question
    before: Tensor  # (n, C) on the CPU
    after: Tensor  # (n, C)

    def where_defined(self, values: Tensor | np.ndarray) -> np.ndarray:
        """Values (n,) as float64, NaN in the rows to which the question does not apply."""
        return np.where(self.question.applies, np.asarray(values, np.float64), np.nan)

    @property
    def predicted(self) -> np.ndarray:
        """The predicted classes (n,) after the change."""
        return self.after.argmax(1).numpy()

    @property
    def stays(self) -> np.ndarray:
        """Whether the prediction stays the same, (n,) float64: 1, 0, or NaN if the question does not apply."""
        return self.where_defined(self.after.argmax(1) == self.before.argmax(1))


def certify(
    classifier: Classifier,
    world: World,
    indices: np.ndarray,
    *,
    seed: int = 0,
    batch: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Certificate:
    """Certify what a classifier relies on, by asking it about changed scenes.

    Args:
        world: of the split that the rows belong to; its spec says what may change.
        indices: (n,) int64, n > 0, rows of the split.
        seed: which classes give a row their look, and which other draws are made; a row has the same ones whoever
            else is asked about.
        batch: how many images the network gets at once.
        progress: called with how many changes are through, of how many.
    """
    rows = rows_of(world, indices, seed)
    questions = list(questions_about(rows))
    network = streamline(classifier)
    with evaluating(classifier):
        tables = chain([rows.table], (question.scenes() for question in questions))
        logits = classify_tables(network, world, tables, batch)
        before, answers = next(logits), []
        for done, (question, after) in enumerate(zip(questions, logits, strict=True), 1):
            answers.append(Answers(question, before, after))
            progress(done, len(questions) + 1)
        use = measure_use(network, rows, before.argmax(1).numpy(), batch)
    progress(len(questions) + 1, len(questions) + 1)
    return compute_certificate(classifier.name, rows, before, answers, use)


def certify_models(
    sources: Sequence[str | Source],
    world: World,
    count: int | None,
    seed: int,
    resources: Resources,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """The certificates of models (files, or package.module:factory) as `certify --json` prints them.

    Args:
        count: how many rows, spread evenly over the classes; None means `ROWS`, or all if there are fewer.
        warn: is told, before anything is changed, which model is at chance or far below what its file states.

    Raises:
        Refusal: no such model, or it does not fit the data.
        WrongUsage: there are not that many rows.
    """
    store, labels = world.split.store, world.split.labels
    count = min(ROWS, len(labels)) if count is None else count
    indices = select_rows(labels, count, seed_of("rows", seed))
    models = [open_judged(source, store, resources.device) for source in sources]
    doubts = [check_accuracy(model, world.split, resources.in_flight).doubt for model in models]
    for doubt in filter(None, doubts):
        warn(doubt)
    certificates = [
        certify(model, world, indices, seed=seed, batch=resources.in_flight, progress=progress) for model in models
    ]
    data = {"name": store.name, "digest": store.digest, "split": world.split.name, "rows": len(indices)}
    documents = [certificate.document() for certificate in certificates]
    machine, warnings = describe_arithmetic(resources.device), list(filter(None, doubts))
    return {"dataset": data, "seed": seed, "certificates": documents, "machine": machine, "warnings": warnings}


def compute_certificate(
    model: str, rows: CertifiedRows, before: Tensor, answers: list[Answers], use: Use
) -> Certificate:
    """Compute the numbers of a certificate from the answers to all questions, and from what rows and twins tell."""
    stability = {
        group: _share(rows, [answer.stays for answer in _select(answers, "redrawn", group)])
        for group in (ALL, *interventions.groups_of(rows.spec))
    }
    return Certificate(
        model,
        tuple(part for part in PARTS if part in class_parts(rows.spec)),
        _share(rows, [(before.argmax(1).numpy() == rows.labels).astype(float)]),
        _share(rows, [_follows(answer) for answer in _select(answers, "followed")]),
        stability.pop(ALL),
        stability,
        tuple(
            _effect(rows, part, change, _select(answers, change, part))
            for part in interventions.parts_of(rows.spec)
            for change in ("redrawn", "swapped", "removed")
        ),
        _decision(rows, _select(answers, "contradicted")) if rows.spec.shortcut else None,
        _share(rows, [use.evidence_alone]),
        _share(rows, [use.rim_alone]),
        _share(rows, [use.rest_alone]),
        Usage(**{field.name: _mean(rows, [getattr(use, field.name)]) for field in fields(Usage)}),
        tuple(
            SufficientSet(
                tuple(sorted(parts)),
                _share(rows, [_follows(answer) for answer in _select(answers, "sufficient", name_set(parts))]),
            )
            for parts in redundant_sets(rows.spec)
        ),
    )


def _follows(answer: Answers) -> np.ndarray:
    """Whether the prediction follows the evidence to its class, (n,); NaN if that class was predicted before."""
    classes = answer.question.classes
    follows = answer.where_defined(answer.predicted == classes)
    return np.where(answer.before.argmax(1).numpy() == classes, np.nan, follows)


def _effect(rows: CertifiedRows, part: str, change: Change, answers: list[Answers]) -> Effect:
    applies = [answer.question.applies for answer in answers]
    within = [answer.question.in_the_data[rows_asked] for answer, rows_asked in zip(answers, applies, strict=True)]
    pictures = np.concatenate([np.empty(0), *within])
    return Effect(
        part,
        change,
        _mean(rows, [_difference(answer, lambda logits: logits) for answer in answers]),
        _mean(rows, [_difference(answer, lambda logits: logits.softmax(1)) for answer in answers]),
        _share(rows, [1 - answer.stays for answer in answers]),
        float(pictures.mean()) if len(pictures) else float("nan"),
        None if len(pictures) else _why_none(change, part, bool(answers)),
    )


def _difference(answer: Answers, read: Callable[[Tensor], Tensor]) -> np.ndarray:
    """The change (n,) of what `read` gives of the class that was predicted before: after less before."""
    predicted = answer.before.argmax(1, keepdim=True)
    apart = (read(answer.after.double()) - read(answer.before.double())).gather(1, predicted)[:, 0]
    return answer.where_defined(apart)


def _why_none(change: Change, part: str, possible: bool) -> str:
    if possible:
        return f"{part}: none of these rows has it"
    reasons = {
        "redrawn": f"{part}: nothing of it is left to chance",
        "swapped": f"{part}: tells no class",
        "removed": f"{part}: no row has it",
    }
    return reasons[change]


def _decision(rows: CertifiedRows, answers: list[Answers]) -> Decision:
    """The decision between shortcut and evidence, over all rows in which they contradict each other."""
    by_tag = [goes_with_shortcut(rows.world, a.question.classes, a.predicted) for a in answers]
    by_evidence = [answer.where_defined(answer.predicted == rows.labels) for answer in answers]
    by_neither = [1 - tag - evidence for tag, evidence in zip(by_tag, by_evidence, strict=True)]
    assert rows.spec.shortcut, "asked for only where there is one"
    return Decision(rows.spec.shortcut.factor, *(_share(rows, values) for values in (by_tag, by_evidence, by_neither)))


def _select(answers: list[Answers], kind: QuestionKind, about: str = "") -> list[Answers]:
    return [answer for answer in answers if (answer.question.kind, answer.question.about) == (kind, about)]


def _share(rows: CertifiedRows, values: list[np.ndarray]) -> Interval:
    """The share of rows, with its interval, from several answers (n,) for each row, which are resampled together."""
    return share_interval(_by_row(rows, values), seed=seed_of("certificate", rows.seed))


def _mean(rows: CertifiedRows, values: list[np.ndarray]) -> Interval:
    """The mean over rows, with its interval, from several values (n,) for each row."""
    return interval(_by_row(rows, values), seed=seed_of("certificate", rows.seed))


def _by_row(rows: CertifiedRows, values: list[np.ndarray]) -> np.ndarray:
    """The mean (n,) of the defined values of each row."""
    return row_means(np.stack(values, axis=1) if values else np.full((len(rows.indices), 1), np.nan))
