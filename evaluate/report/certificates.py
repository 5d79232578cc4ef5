"""The certificates of the models: what each relies on, and so whether there is a truth to score against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results import wording
from .numbers import DASH, between_shares, number, percent
from .study import Study
from .verdict import reliance

OUTCOMES = {
    "yes": "relies on the evidence",
    "part": "relies on it in part",
    "no": "does not rely on it",
    "unknown": "cannot be told",
}


class Certificate(NamedTuple):
    """A model, and what it relies on."""

    model: str
    relies: str  # yes, part, no, unknown
    outcome: str
    verdict: str
    key_numbers: Sequence[tuple[str, str, str]]  # what, share, interval
    shares: Sequence[Sequence[str]]
    effects: Sequence[Sequence[str]]
    reasons: Sequence[str]


def certificates(study: Study) -> list[Certificate]:
    """The certificates of all models of a data set."""
    return [_certificate(found) for found in study.document.get("certificates") or ()]


def accuracies(study: Study) -> list[tuple[str, str, str]]:
    """Each model that was scored, with its accuracy and the share of rows in which it relies on the evidence."""
    return [
        (
            f"{model['arch']} seed {model['seed']}",
            percent(model["accuracy"]),
            percent(model["reliance"]["share"]) if model.get("reliance") else DASH,
        )
        for model in study.scores.get("models") or ()
    ]


def _certificate(found: Mapping[str, Any]) -> Certificate:
    asked = {"accuracy": "is right", "flip_rate": "follows the evidence", "stability": "stays when the rest changes"}
    relies = reliance(found)
    return Certificate(
        str(found["model"]),
        relies,
        OUTCOMES[relies],
        str(found["verdict"]),
        [(said, percent(found[name]["mean"]), between_shares(found[name])) for name, said in asked.items()]
        + _shortcut(found),
        [[what, percent(each["mean"]), between_shares(each)] for what, each in _shares(found).items()],
        [_effect(effect) for effect in found["effects"] if not effect["reason"]],
        [f"{e['change']}: {e['reason']}" for e in found["effects"] if e["reason"] and e["change"] != "swapped"],
    )


def _shortcut(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """In how many cases the shortcut decides against the evidence; nothing where there is none."""
    if not found.get("shortcut"):
        return []
    decided = found["shortcut"]["by_shortcut"]
    return [("the shortcut decides", percent(decided["mean"]), between_shares(decided))]


def _shares(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Shares by what they are of."""
    rows = wording.shares(found)
    asked = [found["accuracy"], found["flip_rate"], found["stability"], *found["stability_by_group"].values()]
    if decided := found.get("shortcut"):
        asked += [decided[key] for key in ("by_shortcut", "by_evidence", "by_neither")]
    return {row[0].strip(): each for row, each in zip(rows, asked, strict=True)}


def _effect(effect: Mapping[str, Any]) -> list[str]:
    return [
        str(effect["part"]),
        str(effect["change"]),
        _with_half(effect["logit"], 2),
        _with_half(effect["probability"], 3),
        percent(effect["changed"]["mean"]),
        percent(effect["in_the_data"]),
    ]


def _with_half(found: Mapping[str, Any], digits: int) -> str:
    if found["mean"] is None:
        return DASH
    return f"{number(found['mean'], digits)} ± {number((found['high'] - found['low']) / 2, digits)}"
