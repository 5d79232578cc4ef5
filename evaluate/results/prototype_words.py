"""How prototypes were judged, as rows of tables and as sentences, in a terminal and on the page alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from an8flower.factors import PARTS

from .prototype_cards import PrototypeMeasure, find_measure
from .prototype_results import Box, JudgedModel, JudgedPrototype, ModelScore, PrototypePatch

UNKNOWN = "-"
SCORE_COLUMNS = ("measure", "value", "95 % interval", "chance", "over", "undefined", "better")
CARD_COLUMNS = (
    "prototype",
    "of",
    "training patch",
    "shows",
    "stands for",
    "purity",
    "chance",
    "found in",
    "strongest in",
)


def compare_parts(here: str, there: str) -> str:
    """Whether two patches show the same part, in words.

    >>> compare_parts("petals", "petals"), compare_parts("background", "background")
    ('the same part', 'both on the background, which is no part')
    """
    if here != there:
        return "another part"
    return f"both on the {here}, which is no part" if here == PARTS[0] else "the same part"


def summary_sentence(model: JudgedModel) -> str:
    """How many prototypes a model has, and how pure they are beside chance, in a sentence or two."""
    purity = model.scores["purity"]
    down, across = model.grid
    beginning = (
        f"{model.model}: {len(model.prototypes)} of {model.total} prototypes have a weight; a patch is one of "
        f"{down} x {across} cells of {model.size} px."
    )
    if purity.mean is None:
        return f"{beginning} None of them is found in these rows."
    interval = "" if purity.low is None else f" ({purity.low:.2f} to {purity.high:.2f})"
    return f"{beginning} Purity {purity.mean:.2f}{interval}; patches drawn at random: {number_words(purity.chance)}."


def score_rows(model: JudgedModel) -> list[list[str]]:
    """The measures of a model as rows of `SCORE_COLUMNS`."""
    return [_score_row(name, score) for name, score in model.scores.items()]


def _score_row(name: str, score: ModelScore) -> list[str]:
    measure = find_measure(name)
    better = "" if measure is None else better_words(measure)
    interval = UNKNOWN if score.low is None else f"{number_words(score.low)} to {number_words(score.high)}"
    over = f"{score.n} {score.over}" if score.over != "model" else f"{score.n} prototypes"
    mean = f"{score.mean:g}" if score.over == "model" and score.mean is not None else number_words(score.mean)
    return [name, mean, interval, number_words(score.chance), over, str(score.undefined), better]


def better_words(measure: PrototypeMeasure) -> str:
    """Which values of a measure are better, in a word."""
    return "more" if measure.higher_is_better else "less"


def number_words(value: float | None) -> str:
    """A number with two decimals; a dash for None."""
    return UNKNOWN if value is None else f"{value:.2f}"


def card_rows(model: JudgedModel) -> list[list[str]]:
    """The card of each prototype as rows of `CARD_COLUMNS`, those of a class together."""
    ordered = (prototype for label in range(len(model.class_names)) for prototype in model.of_class(label))
    return [_card_row(model, prototype) for prototype in ordered]


def _card_row(model: JudgedModel, prototype: JudgedPrototype) -> list[str]:
    purity = prototype.scores["purity"]
    return [
        str(prototype.number),
        class_words(prototype),
        source_words(prototype),
        UNKNOWN if prototype.source is None else patch_part_words(prototype.source),
        prototype.part or UNKNOWN,
        number_words(purity.value),
        number_words(purity.chance),
        f"{prototype.rows_found:.0%}",
        elsewhere_words(model, prototype.patches),
    ]


def class_words(prototype: JudgedPrototype) -> str:
    """The classes for which a prototype speaks, with its weights; the class it is least against if there is none."""
    if not prototype.classes:
        return f"{prototype.class_name} {prototype.weight:+.2f}"
    return ", ".join(f"{entry.class_name} {entry.weight:+.2f}" for entry in prototype.classes)


def source_words(prototype: JudgedPrototype) -> str:
    """The training patch that a prototype is, or comes nearest to: its row and its pixels."""
    if prototype.source is None:
        return UNKNOWN
    near = "" if prototype.pushed else "near "
    return f"{near}row {prototype.source.row}, {box_words(prototype.source.box)}"


def box_words(box: Box) -> str:
    """A box of pixels in words: its rows, and its columns.

    >>> box_words(Box(4, 8, 8, 12))
    'y 4-7, x 8-11'
    """
    return f"y {box.top}-{box.bottom - 1}, x {box.left}-{box.right - 1}"


def patch_part_words(patch: PrototypePatch) -> str:
    """The part that most of a patch shows, and how much of the patch it is."""
    return f"{patch.part} {patch.share:.0%}"


def elsewhere_words(model: JudgedModel, patches: Iterable[PrototypePatch]) -> str:
    """In rows of which classes, and on which parts, the strongest patches lie; a dash if there are none."""
    patches = tuple(patches)
    classes = _count_words(model.class_names[patch.label] for patch in patches)
    return f"{classes}: {_count_words(patch.part for patch in patches)}" if patches else UNKNOWN


def _count_words(names: Iterable[str]) -> str:
    """Names with how often each comes, the most frequent first.

    >>> _count_words(["disc", "petals", "petals"])
    'petals 2, disc 1'
    """
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())


def undefined_words(model: JudgedModel) -> list[str]:
    """Why measures have no value for some prototypes, a sentence for each measure and reason."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for prototype in model.prototypes:
        for name, score in prototype.scores.items():
            if score.reason:
                lacking.setdefault((name, score.reason), []).append(str(prototype.number))
    return [f"no {name} of prototypes {', '.join(numbers)}: {why}" for (name, why), numbers in lacking.items()]
