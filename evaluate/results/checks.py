"""The sanity checks: their keys, words and switches, as plans, the command, tables and the page read them.

What a check does stands in the folder `trust/sanity/checks`, in a module that names the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from an8flower.errors import Refusal


class Amount(NamedTuple):
    """A number that goes with a switch of the command."""

    option: str
    default: int
    help: str


@dataclass(frozen=True)
class Switch:
    """How a check is asked for: a key of the plan, and an option of the command that has the key's name."""

    help: str
    default: bool  # of the command; a plan has to ask
    amount: Amount | None = None  # where the key of the plan is a number, and not true or false


@dataclass(frozen=True)
class SanityCheck:
    """A sanity check: its key, what it yields, in the words of tables, and its switch."""

    key: str
    verdicts: Mapping[str, str] = field(default_factory=dict)  # keys in documents, and the headings of tables
    scores: Mapping[str, str] = field(default_factory=dict)  # the same of the scores that tables show
    unnoticed: Mapping[str, str] = field(default_factory=dict)  # verdicts: what a method that fails hardly notices
    switch: Switch | None = None  # None: it is always done


CHECKS: dict[str, SanityCheck] = {}
"""Every check by its key, in the order in which they are done and shown."""


def register_check(check: SanityCheck) -> None:
    """Make a check part of every sanity run; raises Refusal where its key is taken."""
    if check.key in CHECKS:
        raise Refusal(f"there is a sanity check {check.key} already; give the other one another key")
    CHECKS[check.key] = check


def switches() -> dict[str, Switch]:
    """The switches of all checks that have one, by the check's key."""
    return {key: check.switch for key, check in CHECKS.items() if check.switch}


def verdict_words() -> dict[str, str]:
    """The heading of each verdict by its key in documents."""
    return {key: words for check in CHECKS.values() for key, words in check.verdicts.items()}


def unnoticed_words() -> dict[str, str]:
    """What a method that fails hardly notices, by the verdict's key in documents; else the verdict's heading."""
    return {
        key: check.unnoticed.get(key, f"what is checked as {words!r}")
        for check in CHECKS.values()
        for key, words in check.verdicts.items()
    }


def score_words() -> dict[str, str]:
    """The heading of each score that tables show, by its key in documents."""
    return {key: words for check in CHECKS.values() for key, words in check.scores.items()}


register_check(
    SanityCheck("walks", {"logits": "last layer random"}, {"mprt": "MPRT"}, {"logits": "a random last layer"})
)
register_check(
    SanityCheck(
        "smooth",
        scores={"smprt": "sMPRT"},
        switch=Switch(
            "Also smooth MPRT: --samples times the cost.", False, Amount("samples", 50, "Noisy images of --smooth.")
        ),
    )
)
register_check(
    SanityCheck("full", {"model": "all layers random"}, {"emprt": "eMPRT"}, {"model": "that all layers are random"})
)
register_check(
    SanityCheck("labels", {"labels": "labels permuted"}, switch=Switch("Also one model of permuted labels.", True))
)
