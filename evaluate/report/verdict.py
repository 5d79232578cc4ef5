"""The verdict in three sentences: is there a truth, who finds it, and what to be careful about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..results import wording
from .numbers import between, counted, listed, number, percent, scaled
from .study import Method, Study

UNDEFINED = 0.05  # share of rows without a value that is worth a word


def verdict(studies: Sequence[Study], summary: Mapping[str, Any]) -> list[str]:
    """Three sentences, in plain text."""
    return [_truth(studies), _best(studies), _care(studies, summary)]


def reliance(certificate: Mapping[str, Any]) -> str:
    """What a certificate says in a word: yes, part, no, or unknown."""
    return wording.reliance(certificate["flip_rate"]["mean"], certificate["stability"]["mean"])


def _truth(studies: Sequence[Study]) -> str:
    found = [each for study in studies for each in study.document.get("certificates") or ()]
    without = [study.name for study in studies if not study.document.get("certificates")]
    if not found:
        return "Whether there is a truth to score against is not known: no model has a certificate."
    counts = Counter(map(reliance, found))
    least = min((each["flip_rate"]["mean"] for each in found if each["flip_rate"]["mean"] is not None), default=None)
    told = (
        f" (the prediction follows the evidence in {percent(least)} of the cases or more)" if least is not None else ""
    )
    rest = f"; for {listed(without)} nobody could ask" if without else ""
    if counts["yes"] == len(found):
        models = "the model relies" if len(found) == 1 else f"all {len(found)} models rely"
        return f"There is a truth to score against: {models} on the designed evidence{told}{rest}."
    words = {"yes": "on it", "part": "on it in part", "no": "on something else", "unknown": "on what cannot be told"}
    split = ", ".join(f"{counts[key]} {words[key]}" for key in words if counts[key])
    start = (
        "There is a truth to score against only in part"
        if counts["yes"] or counts["part"]
        else "There is no truth to score against"
    )
    return f"{start}: of {counted(len(found), 'model')} that should rely on the designed evidence, {split}{rest}."


def _best(studies: Sequence[Study]) -> str:
    said = [sentence for study in studies if (sentence := _best_of(study, named=len(studies) > 1))]
    if not said:
        return "No method was scored."
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _best_of(study: Study, named: bool) -> str:
    metric = study.leading
    if metric is None:
        return ""
    where = f"on {study.name}, " if named else ""
    order = ranked(study, metric)
    own = [method for method in order if not method.control]
    if not own:
        return f"{where}no method but controls has a value of {metric}"
    first = own[0]
    ties = [method.text for method in order if method.text in untold(study, metric, first.text) and not method.control]
    tied = f", and cannot be told from {listed(ties)}" if ties else ""
    beaten, against = _against_controls(study, metric, order, first)
    does = "explains best" if beaten else "scores highest of the methods"
    return f"{where}by {metric}, {first.text} {does}{_scored(first, metric)}{tied}; {against}"


def _scored(method: Method, metric: str) -> str:
    place = scaled(method.result["metrics"][metric])
    if place is None:
        return f" (mean {number(method.result['metrics'][metric]['mean'])})"
    return f" (calibrated {number(place.mean, 2)}, 95 % {between(place.low, place.high, 2)}; 0 is chance, 1 the truth)"


def _against_controls(study: Study, metric: str, order: Sequence[Method], first: Method) -> tuple[bool, str]:
    """Whether the first of the methods is known to beat all controls, and in words how it stands to them."""
    controls = [method for method in order if method.control]
    if not controls:
        return True, "no control was scored beside it"
    best = controls[0]
    if order.index(best) < order.index(first):
        return False, f"but the control {best.text}, which explains nothing, scores more{_short(best, metric)}"
    if best.text in untold(study, metric, first.text):
        return False, f"but the control {best.text}, which explains nothing, cannot be told from it"
    return True, f"the best of the controls, which explain nothing, is {best.text}{_short(best, metric)}"


def _short(method: Method, metric: str) -> str:
    place = scaled(method.result["metrics"][metric])
    return f" ({number(place.mean, 2)})" if place else ""


def ranked(study: Study, metric: str) -> list[Method]:
    """Methods with a value, best first."""
    sign = 1 if study.lower_is_better(metric) else -1
    known = [m for m in study.methods if m.result["metrics"].get(metric, {}).get("mean") is not None]
    return sorted(known, key=lambda method: sign * method.result["metrics"][metric]["mean"])


def untold(study: Study, metric: str, method: str) -> set[str]:
    """The methods that cannot be told from one."""
    pairs = (study.scores.get("comparisons") or {}).get(metric, {}).get("pairs", [])
    return {text for p in pairs if not p["apart"] and method in (p["a"], p["b"]) for text in (p["a"], p["b"])} - {
        method
    }


def _care(studies: Sequence[Study], summary: Mapping[str, Any]) -> str:
    points = [*_doubts(studies), *_gaps(studies, summary)]
    if not points:
        return "Be careful nonetheless: the numbers hold for these data and these models, and for no others."
    return f"Be careful: {'; '.join(points)}."


def _doubts(studies: Sequence[Study]) -> Iterable[str]:
    """What speaks against methods or models."""
    weak = [
        each["model"]
        for study in studies
        for each in study.document.get("certificates") or ()
        if reliance(each) != "yes"
    ]
    if weak:
        yield f"what is scored for {listed(weak, 2)} is not what {'it relies' if len(weak) == 1 else 'they rely'} on"
    insane = sorted({name for study in studies for name in failing(study)})
    if insane:
        fail = "fails" if len(insane) == 1 else "fail"
        yield f"{listed(insane)} {fail} the sanity checks (the map does not follow the model)"
    lucky = list(dict.fromkeys(name for study in studies for name in not_above_chance(study)))
    if lucky:
        yield f"{listed(lucky)} {'is' if len(lucky) == 1 else 'are'} not above chance"


def _gaps(studies: Sequence[Study], summary: Mapping[str, Any]) -> Iterable[str]:
    """What is not there."""
    failed = len(summary.get("failed") or ())
    if failed:
        yield f"{counted(failed, 'cell')} of the audit failed"
    holes = list(dict.fromkeys(name for study in studies for name in _undefined(study)))
    if holes:
        have = "has" if len(holes) == 1 else "have"
        yield f"{listed(holes)} {have} no value in more than {percent(UNDEFINED, 0)} of the rows"
    warned = sum(len(study.scores.get("warnings") or ()) for study in studies)
    if warned:
        yield f"there {'is' if warned == 1 else 'are'} {counted(warned, 'warning')}"


def failing(study: Study) -> set[str]:
    """The methods that fail a sanity check with some model; controls are not expected to pass."""
    found = set()
    for document in study.document.get("sanity") or ():
        for result in document["results"]:
            outcomes = {each["outcome"] for each in result["verdicts"].values()}
            if "fail" in outcomes and result["method"] not in {m.result["method"] for m in study.methods if m.control}:
                found.add(str(result.get("text") or result["method"]))
    return found


def not_above_chance(study: Study) -> list[str]:
    """The methods, controls aside, whose interval by the leading metric reaches chance."""
    if study.leading is None:
        return []
    places = {m.text: scaled(m.result["metrics"].get(study.leading, {})) for m in study.methods if not m.control}
    return [text for text, place in places.items() if place and place.low <= 0]


def _undefined(study: Study) -> list[str]:
    if study.leading is None:
        return []
    found = {m.text: m.result["metrics"].get(study.leading) for m in study.methods}
    return [text for text, m in found.items() if m and m["n"] and m["undefined"] / m["n"] > UNDEFINED]
