"""How reliance certificates look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .tables import show


def show_certificates(document: Mapping[str, Any]) -> None:
    """Print what each model relies on: the verdict, the shares, and the effect of every part."""
    data = document["dataset"]
    click.echo(f"{data['name']}, {data['rows']} rows of {data['split']}")
    for certificate in document["certificates"]:
        click.echo("")
        click.echo(certificate["verdict"])
        show(["what", "share of the cases", "95 % interval"], shares(certificate), title=certificate["model"])
        show(
            ["part", "is", "logit", "probability", "prediction changes", "in the data"],
            effects(certificate),
            title="what it does to the class that was predicted before; ± half of the 95 % interval",
        )
        for effect in certificate["effects"]:
            if effect["reason"] and effect["change"] != "swapped":
                click.echo(f"not {effect['change']}: {effect['reason']}")


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
