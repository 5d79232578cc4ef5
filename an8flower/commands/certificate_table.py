"""Reliance certificates as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ..evaluate.results import mark_words
from ..evaluate.results.wording import effect_rows, share_rows
from .fitting import show


def show_marks(document: Mapping[str, Any]) -> None:
    """Print what each model goes by on rows with marks: the verdict and the shares."""
    data = document["dataset"]
    click.echo(f"{data['name']}, {data['rows']} rows of {data['split']}")
    for certificate in document["marks"]:
        click.echo(f"\n{certificate['verdict']}")
        rows = mark_words.share_rows(certificate)
        show(["what", "share of the cases", "95 % interval"], rows, title=certificate["model"])


def show_certificates(document: Mapping[str, Any]) -> None:
    """Print what each model relies on: the verdict, the shares, and the effect of every part."""
    data = document["dataset"]
    click.echo(f"{data['name']}, {data['rows']} rows of {data['split']}")
    for certificate in document["certificates"]:
        click.echo("")
        click.echo(certificate["verdict"])
        show(["what", "share of the cases", "95 % interval"], share_rows(certificate), title=certificate["model"])
        show(
            ["part", "is", "logit", "probability", "prediction changes", "in the data"],
            effect_rows(certificate),
            title="what it does to the class that was predicted before; ± half of the 95 % interval",
        )
        for effect in certificate["effects"]:
            if effect["reason"] and effect["change"] != "swapped":
                click.echo(f"not {effect['change']}: {effect['reason']}")
