"""The words and numbers of results as tables show them, in a terminal and on the page alike."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from .checks import unnoticed_words, verdict_words
from .sanity_outcomes import PRIMARY, is_early, outcome_shown

UNKNOWN = 10  # if half the interval of a calibrated score is this wide or wider, the score says nothing
HIGH, HALF = 0.9, 0.5  # shares from which a certificate speaks of relying on the evidence, and of doing so in part
LEAK = 0.1  # the share of cases that pixels beside the evidence, or void pixels, may decide
LETTERS = string.ascii_lowercase[:6]  # each set of methods that cannot be told apart has a letter
NUMBERS = ("mean", "low", "high", "n", "undefined", "chance", "oracle", "calibrated")
"""What a document says of a method by a metric, in the order of tables."""
BESIDE = ("skill", "of_this_picture", "ceiling")
"""What newer documents say beside it, in the order of tables."""


def model_words(model: Mapping[str, Any]) -> str:
    """A model in words: its architecture, and its seed if it is known.

    >>> model_words({"arch": "flowernet", "seed": 1}), model_words({"arch": "mine:net", "seed": None})
    ('flowernet seed 1', 'mine:net')
    """
    return str(model["arch"]) if model["seed"] is None else f"{model['arch']} seed {model['seed']}"


def range_words(about: Mapping[str, Any]) -> str:
    """The values of a method's parameter that are worth a try, in words; empty if none are declared.

    >>> range_words({"low": 0.02, "high": 0.5, "log": True}), range_words({"values": [None, "sum"]}), range_words({})
    ('0.02 to 0.5, in factors', 'None, sum', '')
    """
    if "network" in about:
        words = str(about["network"])
    elif "values" in about:
        words = ", ".join(map(str, about["values"]))
    else:
        words = f"{about['low']:g} to {about['high']:g}" if about else ""
    return f"{words}, in factors" if about.get("log") else words


def reliance(certificate: Mapping[str, Any]) -> str:
    """Whether a model relies on the designed evidence, in a word: yes, part, no, or unknown.

    The limits of the 95 % intervals decide, not the shares. A certificate that lacks `evidence_alone`, `rim_alone` or
    `rest_alone`, as early ones do, is judged by the rest. The rim shows the evidence in part: it has to be shown that
    it decides, where it has to be shown of the rest that it does not.

    >>> sure, open_ = {"mean": 0.97, "low": 0.92, "high": 0.99}, {"mean": 0.97, "low": 0.85, "high": 1.0}
    >>> reliance({"flip_rate": sure, "stability": sure}), reliance({"flip_rate": open_, "stability": sure})
    ('yes', 'part')
    >>> seldom = {"mean": 0.02, "low": 0.0, "high": 0.05}
    >>> reliance({"flip_rate": sure, "stability": sure, "evidence_alone": seldom, "rest_alone": sure})
    'no'
    """
    follows = [certificate["flip_rate"]]
    if evidence := certificate.get("evidence_alone"):
        follows.append(evidence)
    if certificate["flip_rate"]["mean"] is None:
        return "unknown"
    lowest, rest = min(map(low_of, follows)), certificate.get("rest_alone")
    rim = certificate.get("rim_alone")
    leaks = (rest is not None and high_of(rest) > LEAK) or (rim is not None and low_of(rim) > LEAK)
    if min(lowest, low_of(certificate["stability"])) >= HIGH and not leaks:
        return "yes"
    if lowest >= HALF:
        return "part"
    return "no" if min(map(high_of, follows)) < HALF else "unknown"


def low_of(share: Mapping[str, Any]) -> float:
    """The lower limit of a share; 0 if nothing is known of it."""
    return 0.0 if share["low"] is None else float(share["low"])


def high_of(share: Mapping[str, Any]) -> float:
    """The upper limit of a share; 1 if nothing is known of it."""
    return 1.0 if share["high"] is None else float(share["high"])


def share_rows(certificate: Mapping[str, Any]) -> list[list[str]]:
    """The shares of a certificate as rows of a table: a label, the share, its interval."""
    return [[label, _percent(share["mean"]), _between(share)] for label, share in label_shares(certificate).items()]


def label_shares(certificate: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The shares of a certificate by their labels in tables; those that an early certificate lacks are left out."""
    parts, use = " and ".join(certificate["evidence"]), certificate.get("use") or {}
    shares = {
        "is right": certificate["accuracy"],
        f"follows when the {parts} become those of another class": certificate["flip_rate"],
        "  only the pixels of the evidence": certificate.get("evidence_alone"),
        "  only its rim, the void pixels": certificate.get("rim_alone"),
        "  only all other pixels": certificate.get("rest_alone"),
        "stays when all else is drawn again": certificate["stability"],
        **{f"  only {group}": share for group, share in certificate["stability_by_group"].items()},
        "90 % of the effect within the mask lies on": use.get("area"),
        "effect within the mask": use.get("inside"),
        "pieces of the evidence to change until it follows": use.get("piece_share"),
        "error of the effect": use.get("error"),
    }
    for way in certificate.get("sufficient_sets") or ():
        shares[f"follows the {' and '.join(way['parts'])} alone"] = way["flip_rate"]
    if decided := certificate["shortcut"]:
        keys = {"the shortcut": "by_shortcut", "the evidence": "by_evidence", "neither": "by_neither"}
        shares |= {f"{who} decides when {decided['factor']} contradicts": decided[key] for who, key in keys.items()}
    return {label: share for label, share in shares.items() if share is not None}


def describe_redundancy(sets: Sequence[Sequence[str]]) -> str:
    """What it means for scores that a class can be told by several sets of parts, as a clause.

    >>> describe_redundancy([["disc"], ["petals"]])[:60]
    'a class can be told by the disc alone or by the petals alone'
    """
    names = " or ".join(f"by the {' and '.join(parts)} alone" for parts in sets)
    return (
        f"a class can be told {names}, and the mask marks all of them; a map of a single one may show all that the "
        "model uses and still score low, so read best_set beside every score"
    )


def effect_rows(certificate: Mapping[str, Any]) -> list[list[str]]:
    """The effects of a certificate as rows of a table: a part, its change, the effects of the change on the output.

    Changes without numbers are left out.
    """
    return [
        [
            effect["part"],
            effect["change"],
            _with_half(effect["logit"], 2),
            _with_half(effect["probability"], 3),
            _percent(effect["changed"]["mean"]),
            _percent(effect["in_the_data"]),
        ]
        for effect in certificate["effects"]
        if not effect["reason"]
    ]


def _with_half(interval: Mapping[str, Any], digits: int) -> str:
    half = (interval["high"] - interval["low"]) / 2
    return f"{round(interval['mean'], digits) + 0.0:+.{digits}f}±{half:.{digits}f}"


def _between(share: Mapping[str, Any]) -> str:
    return "-" if share["mean"] is None else f"{_percent(share['low'])} to {_percent(share['high'])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


NAMES = {"spearman_abs": "Spearman |map|", "spearman": "Spearman", "ssim": "SSIM", "hog": "HOG"}


def open_reasons(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each test without an outcome, which says why."""
    words, sentences = verdict_words(), []
    for result in results:
        for test, verdict in result["verdicts"].items():
            outcome, reason = outcome_shown(verdict)
            if outcome not in ("pass", "fail"):
                sentences.append(f"{outcome}: {method_name(result)}, {words.get(test, test)}: {reason}")
    return sentences


def failed_tests(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """The methods that fail, by what they hardly notice and on how many models, each with how many draws.

    `documents` are the sanity documents of the models of a data set.
    """
    words, outcomes = unnoticed_words(), _outcomes(documents)
    failed: dict[tuple[str, str], list[str]] = {}
    for (method, test), verdicts in outcomes.items():
        failing = [verdict for verdict in verdicts if verdict["outcome"] == "fail"]
        if failing:
            least, most = min(v["draws"] for v in failing), max(v["draws"] for v in failing)
            draws = f"{most} draws" if least == most else f"{least} to {most} draws"
            key = (words.get(test, test), f"{len(failing)} of {_models(len(verdicts))}, {draws} each")
            failed.setdefault(key, []).append(method)
    return failed


def _models(count: int) -> str:
    return f"{count} model" if count == 1 else f"{count} models"


def _outcomes(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The verdicts on all models that are not of an earlier version, by method and test."""
    verdicts: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for document in documents:
        for result in document["results"]:
            for test, verdict in result["verdicts"].items():
                if not is_early(verdict):
                    key = (str(result.get("text") or result["method"]), test)
                    verdicts.setdefault(key, []).append(verdict)
    return verdicts


def scale_words(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """The primary similarity of a verdict on the scale with its interval, and as it is between other pictures and 1.

    Empty where there is none.

    >>> similar = {"mean": 0.31, "unrelated": 0.63, "calibrated": 0.0, "low": 0.0, "high": 0.12}
    >>> scale_words({"similarities": {"spearman_abs": similar}})
    ('0.00 (0.00 to 0.12)', 'raw 0.31; other pictures 0.63; same 1')
    """
    similar = verdict["similarities"][PRIMARY]
    if similar["calibrated"] is None:
        return "", ""
    ends = "" if similar["low"] is None else f" ({number(similar['low'])} to {number(similar['high'])})"
    raw = f"raw {number(similar['mean'])}; other pictures {number(similar['unrelated'])}; same 1"
    return f"{number(similar['calibrated'])}{ends}", raw


def method_name(result: Mapping[str, Any]) -> str:
    """A method with the parameters that are set."""
    parameters = ",".join(f"{key}={value}" for key, value in result["parameters"].items() if value is not None)
    return f"{result['method']}:{parameters}" if parameters else str(result["method"])


def number(value: float | None, digits: int = 2) -> str:
    """A number without a negative zero; a dash where there is none.

    >>> number(0.12345), number(-0.0001), number(2.0, 1), number(None)
    ('0.12', '0.00', '2.0', '-')
    """
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def letters(method: str, groups: Sequence[Sequence[str]]) -> str:
    """A letter for each set of tied methods that a method is in; none if there are more sets than can be read.

    >>> letters("gradcam", [["gradcam", "lrp"], ["lrp"], ["gradcam"]])
    'a c'
    """
    readable = len(groups) <= len(LETTERS)
    return " ".join(letter for letter, group in zip(LETTERS, groups, strict=False) if readable and method in group)


def calibrated_ends(numbers: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of a calibrated score, low end first; None if it is not known.

    Older documents know the interval of the mean alone, which is moved to the scale as if chance were a constant.
    """
    if "calibrated_low" in numbers:
        low, high = numbers["calibrated_low"], numbers["calibrated_high"]
        return None if low is None or high is None else (low, high)
    chance, span = numbers["chance"], numbers["oracle"] - numbers["chance"]
    first, second = ((numbers[end] - chance) / span for end in ("low", "high"))
    return min(first, second), max(first, second)


def better_than(better: Mapping[str, Any] | None) -> str:
    """What a method is known to be better than; empty if it is of nothing.

    >>> better_than({"control": True, "next": True}), better_than({"control": None, "next": False})
    ('best control, next', '')
    """
    words = {"control": "best control", "next": "next"}
    return ", ".join(word for key, word in words.items() if better and better.get(key))


def is_lower_better(numbers: Mapping[str, Any]) -> bool:
    """Whether the truth scores less by a metric than chance; `numbers` are what a method scores by it.

    >>> is_lower_better({"chance": 0.5, "oracle": 0.1}), is_lower_better({"chance": 0.5, "oracle": None})
    (True, False)
    """
    chance, oracle = numbers.get("chance"), numbers.get("oracle")
    return chance is not None and oracle is not None and bool(oracle < chance)


def join_names(names: list[str], most: int = 4) -> str:
    """Names joined for a sentence; if there are many, only the first and how many more.

    >>> join_names(["a", "b", "c"]), join_names(list("abcdef"))
    ('a, b and c', 'a, b, c, d and 2 more')
    """
    shown = names[:most] if len(names) > most + 1 else names
    rest = [f"{len(names) - len(shown)} more"] if len(shown) < len(names) else []
    words = [*shown, *rest]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
