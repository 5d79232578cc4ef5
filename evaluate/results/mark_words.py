"""What a planted mark tells in sentences: whether a model goes by it, and whether a method would have said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .certificate_words import cases, is_known, percent
from .wording import HALF, high_of, low_of

OUTCOMES = {
    "yes": "would have told you",
    "no": "would not have told you",
    "always": "shows it either way",
    "open": "cannot be told",
}

SHARES = {
    "is right": "accuracy",
    "is right without any mark": "bare_accuracy",
    "follows another class's mark": "follows",
    "changes its prediction without the mark": "removed",
    "goes with the mark where the two contradict each other": "by_mark",
    "goes with the picture there": "by_picture",
    "demonstrably uses the mark": "uses",
    "demonstrably does not": "ignores",
}
"""The shares of a certificate on marked rows by their keys, by their labels in tables."""


def goes_by(certificate: Mapping[str, Any]) -> str:
    """What a model goes by where mark and picture contradict each other: mark, picture, neither, or unknown.

    The limits of the 95 % intervals decide.
    """
    by_mark, by_picture = certificate["by_mark"], certificate["by_picture"]
    if not (is_known(by_mark) and is_known(by_picture)):
        return "unknown"
    if low_of(by_mark) >= HALF:
        return "mark"
    if low_of(by_picture) >= HALF:
        return "picture"
    return "neither" if max(high_of(by_mark), high_of(by_picture)) < HALF else "unknown"


def describe_use(certificate: Mapping[str, Any]) -> str:
    """The certificate of a model on marked rows in a few sentences."""
    model, mark = certificate["model"], certificate["mark"]
    starts = {
        "mark": f"{model} goes by {mark}, and not by the picture",
        "picture": f"{model} goes by the picture, and not by {mark}",
        "neither": f"{model} goes neither by {mark} nor by the picture alone",
        "unknown": f"{model}: whether it goes by {mark} or by the picture cannot be told",
    }
    sentences = [f"{starts[goes_by(certificate)]} (the limits of the 95 % intervals decide)."]
    if is_known(certificate["by_mark"]):
        sentences.append(
            f"Where the two contradict each other, it predicts the class of the mark in "
            f"{cases(certificate['by_mark'])} and that of the picture in {cases(certificate['by_picture'])}."
        )
    if is_known(certificate["follows"]):
        sentences.append(
            f"With another class's mark in its place, it predicts that class in {cases(certificate['follows'])}."
        )
    if is_known(certificate["bare_accuracy"]):
        sentences.append(
            f"It is right in {percent(certificate['accuracy']['mean'])} of the rows as they are, and in "
            f"{percent(certificate['bare_accuracy']['mean'])} without any mark."
        )
    return " ".join(sentences)


def share_rows(certificate: Mapping[str, Any]) -> list[list[str]]:
    """The shares of a certificate on marked rows as rows of a table: a label, the share, its interval."""
    shares = {label: certificate[key] for label, key in SHARES.items()}
    return [
        [label, percent(share["mean"]), f"{percent(share['low'])} to {percent(share['high'])}"]
        if is_known(share)
        else [label, "-", "-"]
        for label, share in shares.items()
    ]


def judge_method(numbers: Mapping[str, Any]) -> str:
    """Whether a method would have told of the mark, in a word: yes, no, always (also where unused), or open.

    `yes` takes a detection rate with a lower limit of at least 50 %, and a false-alarm rate with an upper limit below
    it. `no` is an upper limit of the detection rate below 50 %. `always`: the false-alarm rate has a lower limit of at
    least 50 %.

    >>> often, seldom = {"mean": 0.9, "low": 0.8, "high": 0.95}, {"mean": 0.05, "low": 0.0, "high": 0.1}
    >>> judge_method({"detection": often, "false_alarm": seldom})
    'yes'
    >>> judge_method({"detection": often, "false_alarm": often})
    'always'
    """
    detection, false_alarm = numbers["detection"], numbers["false_alarm"]
    if is_known(false_alarm) and low_of(false_alarm) >= HALF:
        return "always"
    if not is_known(detection):
        return "open"
    if high_of(detection) < HALF:
        return "no"
    if low_of(detection) >= HALF and is_known(false_alarm) and high_of(false_alarm) < low_of(detection):
        return "yes"
    return "open"


def describe_detection(method: str, mark: str, numbers: Mapping[str, Any]) -> str:
    """What a method says of the mark, in a sentence."""
    detection, false_alarm = numbers["detection"], numbers["false_alarm"]
    outcome = judge_method(numbers)
    starts = {
        "yes": f"{method} would have told you",
        "no": f"{method} would not have told you",
        "always": f"{method} tells nothing, since it shows {mark} whether it is used or not",
        "open": f"{method}: whether it would have told you cannot be said from these rows",
    }
    used, unused = _rows(numbers["used"]), _rows(numbers["ignored"])
    hits = f"it shows {mark} in {_share(detection)} of {used} in which the model uses it" if is_known(detection) else ""
    lacking = f"no row in which the model uses {mark} could be judged"
    alarms = (
        f"and in {_share(false_alarm)} of {unused} in which it, or its innocent twin, does not"
        if is_known(false_alarm)
        else "and no row is known in which it, or an innocent twin, does not, so false alarms are not known"
    )
    return f"{starts[outcome]}: {hits or lacking}, {alarms}."


def _rows(count: int) -> str:
    return "the 1 row" if count == 1 else f"the {count} rows"


def _share(share: Mapping[str, Any]) -> str:
    return f"{percent(share['mean'])} (95 %: {percent(share['low'])} to {percent(share['high'])})"
