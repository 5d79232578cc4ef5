"""The verdict in three sentences: is there a truth, who finds it, and what to be careful about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..results import wording
from .numbers import between, calibrated_interval, count_of, join_names, number, percent
from .study import MethodView, StudyView

UNDEFINED = 0.05  # the verdict mentions a method if more than this share of the rows has no value


def verdict(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> list[str]:
    """The three sentences of the verdict, in plain text."""
    return [_truth(studies), _best(studies), _care(studies, summary)]


def reliance(certificate: Mapping[str, Any]) -> str:
    """Whether the model of a certificate relies on the evidence: yes, part, no, or unknown."""
    return wording.reliance(certificate)


def _truth(studies: Sequence[StudyView]) -> str:
    certificates = [certificate for study in studies for certificate in study.document.get("certificates") or ()]
    without = [study.name for study in studies if not study.document.get("certificates")]
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
    sentences = [sentence for study in studies if (sentence := _best_of(study, named=len(studies) > 1))]
    if not sentences:
        return "No method was scored."
    text = "; ".join(sentences)
    return f"{text[0].upper()}{text[1:]}."


def _best_of(study: StudyView, named: bool) -> str:
    metric = study.leading
    if metric is None:
        return ""
    where = f"on {study.name}, " if named else ""
    order = rank_methods(study, metric)
    methods = [method for method in order if not method.control]
    if not methods:
        return f"{where}no method but controls has a value of {metric}"
    first = methods[0]
    tied_texts = ties_of(study, metric, first.text)
    ties = [method.text for method in methods if method.text in tied_texts]
    tied = f", and cannot be told from {join_names(ties)}" if ties else ""
    beaten, against = _against_controls(study, metric, order, first)
    does = "explains best" if beaten else "scores highest of the methods"
    return f"{where}by {metric}, {first.text} {does}{_score_words(first, metric)}{tied}; {against}"


def _score_words(method: MethodView, metric: str) -> str:
    place = calibrated_interval(method.result["metrics"][metric])
    if place is None:
        return f" (mean {number(method.result['metrics'][metric]['mean'])})"
    return f" (calibrated {number(place.mean, 2)}, 95 % {between(place.low, place.high, 2)}; 0 is chance, 1 the truth)"


def _against_controls(
    study: StudyView, metric: str, order: Sequence[MethodView], first: MethodView
) -> tuple[bool, str]:
    """Whether the best method is known to beat all controls, and a sentence that says so or not."""
    controls = [method for method in order if method.control]
    if not controls:
        return True, "no control was scored beside it"
    best = controls[0]
    if order.index(best) < order.index(first):
        return False, f"but the control {best.text}, which explains nothing, scores more{_short(best, metric)}"
    if best.text in ties_of(study, metric, first.text):
        return False, f"but the control {best.text}, which explains nothing, cannot be told from it"
    return True, f"the best of the controls, which explain nothing, is {best.text}{_short(best, metric)}"


def _short(method: MethodView, metric: str) -> str:
    place = calibrated_interval(method.result["metrics"][metric])
    return f" ({number(place.mean, 2)})" if place else ""


def rank_methods(study: StudyView, metric: str) -> list[MethodView]:
    """The methods that have a value of a metric, best first."""
    sign = 1 if study.lower_is_better(metric) else -1
    known = [m for m in study.methods if m.result["metrics"].get(metric, {}).get("mean") is not None]
    return sorted(known, key=lambda method: sign * method.result["metrics"][metric]["mean"])


def ties_of(study: StudyView, metric: str, method: str) -> set[str]:
    """The methods that cannot be told apart from a method by a metric."""
    pairs = (study.scores.get("comparisons") or {}).get(metric, {}).get("pairs", [])
    return {text for p in pairs if not p["apart"] and method in (p["a"], p["b"]) for text in (p["a"], p["b"])} - {
        method
    }


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
    failing = sorted({name for study in studies for name in failing_methods(study)})
    if failing:
        fail = "fails" if len(failing) == 1 else "fail"
        yield f"{join_names(failing)} {fail} the sanity checks (the map does not follow the model)"
    at_chance = list(dict.fromkeys(name for study in studies for name in not_above_chance(study)))
    if at_chance:
        yield f"{join_names(at_chance)} {'is' if len(at_chance) == 1 else 'are'} not above chance"


def _gaps(studies: Sequence[StudyView], summary: Mapping[str, Any]) -> Iterable[str]:
    """Points about what failed or has no value."""
    failed = len(summary.get("failed") or ())
    if failed:
        yield f"{count_of(failed, 'part')} of the audit failed"
    undefined = list(dict.fromkeys(name for study in studies for name in _often_undefined(study)))
    if undefined:
        have = "has" if len(undefined) == 1 else "have"
        yield f"{join_names(undefined)} {have} no value in more than {percent(UNDEFINED, 0)} of the rows"
    warnings = sum(len(study.scores.get("warnings") or ()) for study in studies)
    if warnings:
        yield f"there {'is' if warnings == 1 else 'are'} {count_of(warnings, 'warning')}"


def failing_methods(study: StudyView) -> set[str]:
    """The methods that fail a sanity check with any model; controls are not expected to pass."""
    controls = {method.result["method"] for method in study.methods if method.control}
    failing = set()
    for document in study.document.get("sanity") or ():
        for result in document["results"]:
            outcomes = {verdict["outcome"] for verdict in result["verdicts"].values()}
            if "fail" in outcomes and result["method"] not in controls:
                failing.add(str(result.get("text") or result["method"]))
    return failing


def not_above_chance(study: StudyView) -> list[str]:
    """The methods, controls aside, whose interval by the leading metric reaches down to chance."""
    if study.leading is None:
        return []
    places = {
        m.text: calibrated_interval(m.result["metrics"].get(study.leading, {})) for m in study.methods if not m.control
    }
    return [text for text, place in places.items() if place and place.low <= 0]


def _often_undefined(study: StudyView) -> list[str]:
    if study.leading is None:
        return []
    numbers = {method.text: method.result["metrics"].get(study.leading) for method in study.methods}
    return [text for text, m in numbers.items() if m and m["n"] and m["undefined"] / m["n"] > UNDEFINED]
