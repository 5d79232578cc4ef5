"""The form of `summary.json`: its version, and its JSON Schema, which lies beside this module."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

SUMMARY_VERSION = 1  # raised when a key changes its meaning or goes away; new keys do not raise it


def summary_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `summary.json`."""
    text = files(__package__).joinpath("summary.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
