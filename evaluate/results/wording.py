"""The words and numbers of results as tables show them, in a terminal and on the page alike."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from .checks import verdict_words

UNKNOWN = 10  # half an interval, in distances of the truth from chance


LETTERS = string.ascii_lowercase


NUMBERS = ("mean", "low", "high", "n", "undefined", "chance", "oracle", "calibrated")


def shares(certificate: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: what is asked, the share, its interval."""
    asked = {
        "is right": certificate["accuracy"],
        f"follows when the {' and '.join(certificate['evidence'])} become those of another class": certificate[
            "flip_rate"
        ],
        "stays when all else is drawn again": certificate["stability"],
    }
    asked |= {f"  only {group}": found for group, found in certificate["stability_by_group"].items()}
    if decided := certificate["shortcut"]:
        told = {"the shortcut": "by_shortcut", "the evidence": "by_evidence", "neither": "by_neither"}
        asked |= {f"{who} decides when {decided['factor']} contradicts": decided[key] for who, key in told.items()}
    return [[what, _percent(found["mean"]), _between(found)] for what, found in asked.items()]


def effects(certificate: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table: the part, what is done to it, and what that does; changes without numbers are left out."""
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


def _with_half(found: Mapping[str, Any], digits: int) -> str:
    half = (found["high"] - found["low"]) / 2
    return f"{round(found['mean'], digits) + 0.0:+.{digits}f}±{half:.{digits}f}"


def _between(found: Mapping[str, Any]) -> str:
    return "-" if found["mean"] is None else f"{_percent(found['low'])} to {_percent(found['high'])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


NAMES = {"spearman_abs": "Spearman |map|", "spearman": "Spearman", "ssim": "SSIM", "hog": "HOG"}


def undecided(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each similarity that leaves a verdict open, which says why."""
    words = verdict_words()
    return [
        f"undecided: {named(result)}, {words.get(test, test)}, {NAMES[name]}: {similar['reason']}"
        for result in results
        for test, verdicts in result["verdicts"].items()
        if verdicts["outcome"] == "undecided"
        for name, similar in verdicts["similarities"].items()
        if similar["outcome"] == "undecided"
    ]


def named(result: Mapping[str, Any]) -> str:
    """A method with the parameters that are set."""
    parameters = ",".join(f"{key}={value}" for key, value in result["parameters"].items() if value is not None)
    return f"{result['method']}:{parameters}" if parameters else str(result["method"])


def number(value: float | None) -> str:
    """Two digits without a negative zero; a dash where there is none."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"
