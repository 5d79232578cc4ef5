"""The section of the page about part prototypes: their measures, a gallery of them, and this looks like that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results import prototype_words as words
from ..results.prototype_cards import PrototypeMeasure, find_measure
from ..results.prototype_results import KEY, JudgedModel, ModelScore, PrototypesDocument
from .looks_like import LikenessTable, compare_examples
from .numbers import DASH, between, count_of, number, percent
from .prototype_gallery import ELSEWHERE, ClassCards, GalleryLimits, deal_cards, list_parts, read_pictures
from .reading import AuditFolder, Missing
from .sections import PageSection, add_section
from .study import StudyView

ROOM = 2_500_000  # bytes for the cards of a page
STEPS = (
    GalleryLimits(24, ELSEWHERE),
    GalleryLimits(12, ELSEWHERE),
    GalleryLimits(8, 2),
    GalleryLimits(5, 2),
    GalleryLimits(3, 1),
    GalleryLimits(2, 0),
    GalleryLimits(1, 0),
)  # how much is shown, tried one after the other until the cards have room
OVERVIEW = ("model", "prototypes", "purity", "95 % interval", "chance")


class PrototypeModelView(NamedTuple):
    """What the page shows of the prototypes of one model."""

    key: str
    name: str
    sentences: Sequence[str]
    measures: Sequence[Sequence[str]]
    classes: Sequence[ClassCards]  # empty if another model of its architecture has its gallery on the page
    examples: Sequence[LikenessTable]
    missing: str  # why there are no pictures; empty if there are


class PrototypeStudyView(NamedTuple):
    """What the page shows of the prototypes of all models of a data set."""

    document: PrototypesDocument
    overview: Sequence[Sequence[str]]  # a row for each model, if there are several
    models: Sequence[PrototypeModelView]
    skipped: Sequence[tuple[str, str]]  # a reason, and the models that were not judged for it

    @property
    def size(self) -> int:
        """How many bytes the cards of all models take on the page."""
        return sum(card.size for model in self.models for group in model.classes for card in group.cards)


@add_section
def show_prototypes(
    studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder
) -> PageSection | None:
    """What the prototypes of all models stand for; None if the plan did not ask."""
    documents = [
        (study, PrototypesDocument.model_validate(study.document[KEY])) for study in studies if study.document.get(KEY)
    ]
    if not documents:
        return None
    by_study: list[tuple[StudyView, PrototypeStudyView]] = []
    for limits in STEPS:
        by_study = [(study, view_study(study.key, document, source, limits)) for study, document in documents]
        if sum(view.size for _, view in by_study) <= ROOM:
            break
    definitions = define([document for _, document in documents])
    content = {"by_study": by_study, "columns": words.SCORE_COLUMNS, "overview": OVERVIEW, "definitions": definitions}
    return PageSection("prototypes", "What do the prototypes stand for?", content, "prototypes")


def view_study(
    key: str, document: PrototypesDocument, source: AuditFolder, limits: GalleryLimits
) -> PrototypeStudyView:
    """The prototypes of all models of a data set; one model of each architecture has a gallery."""
    first: dict[str, str] = {}
    for model in document.results:
        first.setdefault(model.architecture, model.model)
    views = [
        view_model(f"{key}-{place}", model, document.rows, source, limits, first[model.architecture])
        for place, model in enumerate(document.results)
    ]
    reasons = dict.fromkeys(entry.reason for entry in document.skipped)
    skipped = [(why, ", ".join(entry.model for entry in document.skipped if entry.reason == why)) for why in reasons]
    overview = [_overview(model) for model in document.results]
    return PrototypeStudyView(document, overview if len(overview) > 1 else [], views, skipped)


def view_model(
    key: str, model: JudgedModel, rows: int, source: AuditFolder, limits: GalleryLimits, shown: str
) -> PrototypeModelView:
    """The prototypes of one model; its gallery is left out if that of the model `shown` stands for it."""
    numbers = (key, model.model, conclude(model, rows), words.score_rows(model))
    if shown != model.model:
        return PrototypeModelView(*numbers, [], [], f"the gallery of {shown} stands for the seeds of its architecture")
    pictures = read_pictures(model, source)
    cards = deal_cards(model, pictures, limits)
    if isinstance(pictures, Missing):
        return PrototypeModelView(*numbers, cards, [], pictures.reason)
    return PrototypeModelView(*numbers, cards, compare_examples(model, pictures), "")


# --- sentences --------------------------------------------------------------------------------------------------------


def conclude(model: JudgedModel, rows: int) -> list[str]:
    """Whether the prototypes stand for single parts, for which, and how many say nothing: a sentence for each."""
    return [*_judge_purity(model), *_name_parts(model), *_look_beside(model), *_count_silent(model, rows)]


def _judge_purity(model: JudgedModel) -> list[str]:
    purity = model.scores.get("purity")
    if purity is None or purity.mean is None:
        return ["Whether its prototypes stand for single parts is not known: none of them is found in any row."]
    sure = between_percent(purity)
    values = f"On average {percent(purity.mean, 0)} of a prototype's strongest patches is one and the same part{sure}"
    if purity.chance is None:
        return [f"{values}."]
    return [f"{values}; of patches drawn at random, {percent(purity.chance, 0)} would be. {_verdict(purity)}"]


def between_percent(score: ModelScore) -> str:
    """The interval of a share in brackets, in percent; empty if there is none."""
    if score.low is None or score.high is None:
        return ""
    return f" (95 % interval {percent(score.low, 0)} to {percent(score.high, 0)})"


def _verdict(purity: ModelScore) -> str:
    """Whether purity is above chance by the whole of its interval, in a sentence."""
    if purity.low is None or purity.high is None or purity.chance is None:
        return "There are too few prototypes to say whether that is more than chance."
    if purity.low > purity.chance:
        return "Its prototypes stand for single parts more than chance does."
    if purity.high < purity.chance:
        return "Its prototypes stand for single parts less than chance does."
    return "That cannot be told from chance."


def _name_parts(model: JudgedModel) -> list[str]:
    judged = [prototype for prototype in model.prototypes if prototype.part]
    if not judged:
        return []
    sentence = f"They stand for: {list_parts(judged)}."
    ground = sum(prototype.part == "background" for prototype in judged)
    if not ground:
        return [sentence]
    lie = "lies" if ground == 1 else "lie"
    return [sentence, f"{ground} of {len(judged)} {lie} on the background, which is no part of a plant."]


def _look_beside(model: JudgedModel) -> list[str]:
    """How much of what makes prototypes respond lies beside their boxes, in a sentence; none if it is not known."""
    change = model.scores.get("misalignment")
    if change is None or change.mean is None or change.chance is None or change.low is None:
        return []
    sentence = (
        f"If everything but the part under the box is rendered again, a prototype's similarity there changes by "
        f"{percent(change.mean, 0)} on average, and by {percent(change.chance, 0)} if that part changes as well"
    )
    beside = change.low > change.chance / 2
    return [f"{sentence}: most of what makes it respond lies beside the part." if beside else f"{sentence}."]


def _count_silent(model: JudgedModel, rows: int) -> list[str]:
    idle, silent = model.total - len(model.prototypes), sum(not prototype.patches for prototype in model.prototypes)
    sentence = f"The network has {count_of(model.total, 'prototype')}"
    if idle:
        sentence += f", of which {idle} {'has' if idle == 1 else 'have'} no weight for any class and are left out here"
    if silent:
        are = "is" if silent == 1 else "are"
        sentence += f"; {silent} with a weight {are} silent: found in none of the {rows} rows"
    return [f"{sentence}."]


# --- tables -----------------------------------------------------------------------------------------------------------


def _overview(model: JudgedModel) -> list[str]:
    """The row of a model in the table of all models, in the order of `OVERVIEW`."""
    purity = model.scores.get("purity")
    counted = str(len(model.prototypes))
    if purity is None:
        return [model.model, counted, DASH, DASH, DASH]
    return [model.model, counted, number(purity.mean), between(purity.low, purity.high), number(purity.chance)]


def define(documents: Sequence[PrototypesDocument]) -> list[PrototypeMeasure]:
    """The measures that occur, each once, with their definitions."""
    names = [name for document in documents for model in document.results for name in model.scores]
    measures = [find_measure(name) for name in names]
    return list(dict.fromkeys(measure for measure in measures if measure is not None))
