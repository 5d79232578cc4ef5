"""The certificates of the models: what each relies on, and so whether there is a truth to score against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..results import wording
from .numbers import DASH, between_shares, number, percent
from .study import StudyView
from .verdict import reliance

OUTCOMES = {
    "yes": "relies on the evidence",
    "part": "relies on it in part",
    "no": "does not rely on it",
    "unknown": "cannot be told",
}


class CertificateRow(NamedTuple):
    """What one model relies on: a row of the table of certificates, with its details."""

    model: str
    relies: str  # yes, part, no, unknown
    outcome: str
    verdict: str
    key_numbers: Sequence[tuple[str, str, str]]  # column, share, interval
    shares: Sequence[Sequence[str]]
    effects: Sequence[Sequence[str]]
    reasons: Sequence[str]


def certificate_rows(study: StudyView) -> list[CertificateRow]:
    """The certificates of all models of a data set."""
    return [_certificate_row(certificate) for certificate in study.document.get("certificates") or ()]


def accuracy_rows(study: StudyView) -> list[tuple[str, str, str]]:
    """Each model that was scored, with its accuracy and the share of rows in which it relies on the evidence."""
    return [
        (
            wording.model_words(model),
            percent(model["accuracy"]),
            percent(model["reliance"]["share"]) if model.get("reliance") else DASH,
        )
        for model in study.scores.get("models") or ()
    ]


def _certificate_row(certificate: Mapping[str, Any]) -> CertificateRow:
    columns = {
        "accuracy": "is right",
        "flip_rate": "follows the evidence",
        "evidence_alone": "its pixels alone",
        "rim_alone": "its rim alone",
        "rest_alone": "all other pixels alone",
        "stability": "stays when the rest changes",
    }
    relies = reliance(certificate)
    effects = certificate["effects"]
    return CertificateRow(
        str(certificate["model"]),
        relies,
        OUTCOMES[relies],
        str(certificate["verdict"]),
        [(column, *_share(certificate.get(name))) for name, column in columns.items()] + _shortcut(certificate),
        [[label.strip(), *_share(share)] for label, share in wording.label_shares(certificate).items()],
        [_effect(effect) for effect in effects if not effect["reason"]],
        [f"{e['change']}: {e['reason']}" for e in effects if e["reason"] and e["change"] != "swapped"],
    )


def _shortcut(certificate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The share of cases in which the shortcut decides against the evidence; empty for data without a shortcut."""
    if not certificate.get("shortcut"):
        return []
    decided = certificate["shortcut"]["by_shortcut"]
    return [("the shortcut decides", percent(decided["mean"]), between_shares(decided))]


def _share(share: Mapping[str, Any] | None) -> tuple[str, str]:
    """A share and its interval in words; dashes where an early certificate lacks it."""
    return (percent(share["mean"]), between_shares(share)) if share else (DASH, "")


def _effect(effect: Mapping[str, Any]) -> list[str]:
    return [
        str(effect["part"]),
        str(effect["change"]),
        _with_half(effect["logit"], 2),
        _with_half(effect["probability"], 3),
        percent(effect["changed"]["mean"]),
        percent(effect["in_the_data"]),
    ]


def _with_half(interval: Mapping[str, Any], digits: int) -> str:
    if interval["mean"] is None:
        return DASH
    return f"{number(interval['mean'], digits)} ± {number((interval['high'] - interval['low']) / 2, digits)}"
