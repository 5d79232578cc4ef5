"""The verdict in three sentences: is there a truth, who finds it, and what to be careful about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..results import wording
from ..results.method_names import title_of
from .boards import BoardEntry, BoardView, boards_of
from .mark_verdict import mark_verdict
from .numbers import between, calibrated_interval, count_of, join_names, number, percent
from .study import StudyView

UNDEFINED = 0.05  # the verdict mentions a method if more than this share of the rows has no value


def verdict(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> list[str]:
    """The three sentences of the verdict, in plain text."""
    return [_truth(studies), _best(studies), _care(studies, summary)]


def cautions(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> str:
    """A sentence on what failed or has no value, for the foot of the first screen; empty if there is nothing."""
    points = list(_gaps(studies, summary, title_of))
    return f"Be careful: {'; '.join(points)}." if points else ""


def reliance(certificate: Mapping[str, Any]) -> str:
    """Whether the model of a certificate relies on the evidence: yes, part, no, or unknown."""
    return wording.reliance(certificate)


def _truth(studies: Sequence[StudyView]) -> str:
    certificates = [certificate for study in studies for certificate in study.document.get("certificates") or ()]
    without = [study.name for study in studies if not study.document.get("certificates")]
    marks = [entry for study in studies for entry in study.document.get("marks") or ()]
    if not certificates and marks:
        return mark_verdict(marks)
    if not certificates:
        return "Whether there is a truth to score against is not known: no model has a certificate."
    counts = Counter(map(reliance, certificates))
    rest = f"; this is not known for {join_names(without)}" if without else ""
    if counts["yes"] == len(certificates):
        models = "the model relies" if len(certificates) == 1 else f"all {len(certificates)} models rely"
        return f"There is a truth to score against: {models} on the designed evidence{_least(certificates)}{rest}."
    words = {"yes": "on it", "part": "on it in part", "no": "on something else", "unknown": "on what cannot be told"}
    split = ", ".join(f"{counts[key]} {words[key]}" for key in words if counts[key])
    start = (
        "There is a truth to score against only in part"
        if counts["yes"] or counts["part"]
        else "There is no truth to score against"
    )
    models = count_of(len(certificates), "model")
    return f"{start}: of {models} that should rely on the designed evidence, {split}{rest}."


def _least(certificates: Sequence[Mapping[str, Any]]) -> str:
    """The lowest flip rate of all models, in words; empty if it is not known."""
    rates = [certificate["flip_rate"]["mean"] for certificate in certificates]
    least = min((rate for rate in rates if rate is not None), default=None)
    if least is None:
        return ""
    return f" (the prediction follows the evidence in {percent(least)} of the cases or more)"


def _best(studies: Sequence[StudyView]) -> str:
    sentences = [
        sentence
        for study in studies
        for board in boards_of(study)
        if (sentence := _best_of(board, named=len(studies) > 1))
    ]
    if not sentences:
        return "No method was scored."
    return " ".join([*(f"{text[0].upper()}{text[1:]}." for text in sentences), *_trained_anew(studies)])


def _trained_anew(studies: Sequence[StudyView]) -> Iterable[str]:
    """A sentence for each data set on models trained anew, by its last board, which holds most models."""
    for study in studies:
        sentence = boards_of(study)[-1].trained_anew(study.leading or "").get("sentence")
        if sentence:
            yield f"{study.name}: {sentence}" if len(studies) > 1 else sentence


def _best_of(board: BoardView, named: bool) -> str:
    metric = board.study.leading
    if metric is None:
        return ""
    data = f"on {board.study.name}, " if named else ""
    where = data + (f"on {board.title}, " if board.title else "")
    order = board.rank(metric)
    methods = [entry for entry in order if not entry.control]
    if not methods:
        return f"{where}no method but controls has a value of {metric}"
    first = methods[0]
    tied_texts = board.ties(metric, first)
    ties = [entry.text for entry in methods if entry.method.text in tied_texts]
    tied = f", and cannot be told from {join_names(ties)}" if ties else ""
    beaten, against = _against_controls(board, metric, order, first)
    does = "explains best" if beaten else "scores highest of the methods"
    also = "".join(f"; {_first_by(board, other, first)}" for other in board.study.all_leading[1:])
    return f"{where}by {metric}, {first.text} {does}{_score_words(board, first, metric)}{tied}; {against}{also}"


def _first_by(board: BoardView, metric: str, first: BoardEntry) -> str:
    """Which method is first by a further leading metric, in words; `first` is the first by the one that ranks."""
    methods = [entry for entry in board.rank(metric) if not entry.control]
    if not methods:
        return f"no method but controls has a value of {metric}"
    name = methods[0].text
    return f"by {metric}, it is first as well" if name == first.text else f"by {metric}, {name} is first"


def _score_words(board: BoardView, entry: BoardEntry, metric: str) -> str:
    m = board.numbers(metric, entry)
    place = calibrated_interval(m)
    if place is None:
        return f" (mean {number(m['mean'])})"
    scope = " for other images" if board.title else ""
    ends = between(place.low, place.high, 2)
    return f" (calibrated {number(place.mean, 2)}, 95 % {ends}{scope}; 0 is chance, 1 the truth)"


def _against_controls(
    board: BoardView, metric: str, order: Sequence[BoardEntry], first: BoardEntry
) -> tuple[bool, str]:
    """Whether the best method is known to beat all controls, and a sentence that says so or not."""
    controls = [entry for entry in order if entry.control]
    if not controls:
        return True, "no control was scored beside it"
    best = controls[0]
    score = _short(board, best, metric)
    if order.index(best) < order.index(first):
        return False, f"but the control {best.text}, which explains nothing, scores more{score}"
    if best.method.text in board.ties(metric, first):
        return False, f"but the control {best.text}, which explains nothing, cannot be told from it"
    return True, f"the best of the controls, which explain nothing, is {best.text}{score}"


def _short(board: BoardView, entry: BoardEntry, metric: str) -> str:
    place = calibrated_interval(board.numbers(metric, entry))
    return f" ({number(place.mean, 2)})" if place else ""


def _care(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> str:
    points = [*_doubts(studies), *_gaps(studies, summary)]
    if not points:
        return "Be careful nonetheless: the numbers hold for these data and these models, and for no others."
    return f"Be careful: {'; '.join(points)}."


def _doubts(studies: Sequence[StudyView]) -> Iterable[str]:
    """Points that speak against models or methods."""
    weak = [
        certificate["model"]
        for study in studies
        for certificate in study.document.get("certificates") or ()
        if reliance(certificate) != "yes"
    ]
    if weak:
        rely = "it relies" if len(weak) == 1 else "they rely"
        yield f"what is scored for {join_names(weak, 2)} is not what {rely} on"
    yield from (sentence for study in studies for sentence in _point_out(study, named=len(studies) > 1))
    for board in (board for study in studies for board in boards_of(study)):
        at_chance = not_above_chance(board)
        if at_chance and len(board.document["architectures"]) <= 1:  # the board over all repeats the others
            are, where = "is" if len(at_chance) == 1 else "are", f" on {board.title}" if board.title else ""
            yield f"{join_names(at_chance)} {are} not shown to be above chance{where}"


def _gaps(studies: Sequence[StudyView], summary: Mapping[str, Any], name: Callable[[str], str] = str) -> Iterable[str]:
    """Points about what failed or has no value; `name` gives a method's name for a sentence."""
    failed = len(summary.get("failed") or ())
    if failed:
        yield f"{count_of(failed, 'part')} of the audit failed"
    undefined = list(dict.fromkeys(name(text) for study in studies for text in _often_undefined(study)))
    if undefined:
        have = "has" if len(undefined) == 1 else "have"
        yield f"{join_names(undefined)} {have} no value in more than {percent(UNDEFINED, 0)} of the rows"
    silent = list(dict.fromkeys(name(text) for study in studies for text in _often_silent(study)))
    if silent:
        gives = "gives" if len(silent) == 1 else "give"
        yield (
            f"{join_names(silent)} {gives} maps that say nothing in more than {percent(UNDEFINED, 0)} of the rows of a "
            "model, which count as chance"
        )
    warnings = sum(len(study.scores.get("warnings") or ()) for study in studies)
    if warnings:
        yield f"there {'is' if warnings == 1 else 'are'} {count_of(warnings, 'warning')}"


def _point_out(study: StudyView, named: bool) -> Iterable[str]:
    """A point for each sanity test that methods fail, with the number of models; controls are not expected to pass."""
    controls = {method.result["method"] for method in study.methods if method.control}
    where = f"on {study.name}, " if named else ""
    for (unnoticed, models), methods in wording.failed_tests(study.document.get("sanity") or ()).items():
        failing = [method for method in methods if method.partition(":")[0] not in controls]
        if failing:
            notice = "notices" if len(failing) == 1 else "notice"
            yield f"{where}{join_names(failing)} hardly {notice} {unnoticed} ({models})"


def not_above_chance(board: BoardView) -> list[str]:
    """The methods, controls aside, whose interval by the leading metric reaches down to chance."""
    metric = board.study.leading
    if metric is None:
        return []
    places = {e.text: calibrated_interval(board.numbers(metric, e)) for e in board.entries if not e.control}
    return [text for text, place in places.items() if place and place.low <= 0]


def _often_silent(study: StudyView) -> list[str]:
    """The methods whose maps say nothing, by any metric, in more than UNDEFINED of the rows of a model."""
    most = {
        method.text: max(
            (count / m["n"] for m in method.result["metrics"].values() for count in (m.get("gaps") or {}).values()),
            default=0,
        )
        for method in study.methods
    }
    return [text for text, share in most.items() if share > UNDEFINED]


def _often_undefined(study: StudyView) -> list[str]:
    if study.leading is None:
        return []
    numbers = {method.text: method.result["metrics"].get(study.leading) for method in study.methods}
    return [text for text, m in numbers.items() if m and m["n"] and m["undefined"] / m["n"] > UNDEFINED]
