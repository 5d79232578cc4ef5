"""The lists of methods and metrics as they come with the package, so that printing them loads neither torch nor scipy.

`listing.json` is made from the code by `docs/generate.py`, and a test says when it is stale. What plug-ins bring is not
in it: where there are any, the registers have to be asked.
"""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any, Literal

FILE = "listing.json"
GROUPS = {"methods": "an8flower.explainers", "metrics": "an8flower.metrics"}

Kind = Literal["methods", "metrics"]


def read_listing(kind: Kind) -> list[dict[str, Any]] | None:
    """What `an8flower methods` or `an8flower metrics` prints as JSON; None where there are plug-ins of this kind."""
    if entry_points(group=GROUPS[kind]):
        return None
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return list(json.loads(text)[kind])


def read_entry(kind: Kind, name: str) -> dict[str, Any] | None:
    """The entry of a name that is written without parameters; None where the registers have to be asked."""
    return next((entry for entry in read_listing(kind) or () if entry["name"] == name), None)
